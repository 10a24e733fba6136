"""`trueport audit examine | disclose | evidence`: what is made of an exported archive, without settings or database."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from trueport.audit import verifier
from trueport.audit.columnar import FormatUnavailable, require_parquet
from trueport.audit.disclosure import (
    Custody,
    Files,
    Format,
    Ground,
    NothingSigned,
    Wanted,
    bundle_of,
    ground_of,
    select,
)
from trueport.audit.evidence.frameworks import FRAMEWORKS
from trueport.audit.evidence.pack import Request, pack_of
from trueport.audit.examination import QUESTIONS, Question, examine, read_spans, told
from trueport.audit.reading import read
from trueport.cli.session import EXIT_FAILED, EXIT_USAGE, Failed, json_option, show
from trueport.kit.clock import SystemClock, from_epoch_us

_DATES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S")


@click.command(
    name="examine",
    epilog="\b\nExamples:\n  trueport audit examine ./trail --key log.key --checkpoint yesterday.note\n"
    "  trueport audit examine ./trail --key log.key --question deleted --json",
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--key", "key_file", required=True, type=click.Path(path_type=Path), help="The log's public keys, one a line."
)
@click.option(
    "--question", "questions", multiple=True, type=click.Choice(QUESTIONS), help="Only this; may be repeated."
)
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint received earlier, which fixes what came before it; may be repeated.",
)
@click.option("--receipt", "receipts", multiple=True, help="An x-trueport-receipt to look for; may be repeated.")
@click.option("--witness", "witnesses", multiple=True, help="Public key of a witness that has to have signed.")
@click.option(
    "--key-history",
    "history",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="When each key was made and ends, as keys.json of an export says.",
)
@json_option
def examine_archive(
    path: Path,
    key_file: Path,
    questions: tuple[Question, ...],
    checkpoints: tuple[Path, ...],
    receipts: tuple[str, ...],
    witnesses: tuple[str, ...],
    history: Path | None,
    *,
    as_json: bool,
) -> None:
    """Answer what an examiner asks of an archive: was anything modified, deleted, inserted; what of amendments, keys.

    Each answer names its proof and what it does not show. Exit code 0: every answer is reassuring; 1: one is not;
    2: it cannot be examined. Nothing but the archive and the given files is read.
    """
    try:
        found = examine(
            verifier.Folder(path),
            verifier.read_keys(key_file.read_text("utf-8")),
            questions=questions or QUESTIONS,
            earlier=[each.read_bytes() for each in checkpoints],
            receipts=receipts,
            witnesses=[verifier.Witness.parse(text) for text in witnesses],
            spans=read_spans(history.read_text("utf-8")) if history else (),
            progress=counted(is_wanted=not as_json),
        )
    except (verifier.Unreadable, OSError, UnicodeDecodeError) as error:
        raise Failed(str(error), EXIT_USAGE) from error
    click.echo(json.dumps({"ok": found.is_fine, **asdict(found)}) if as_json else told(found), nl=as_json)
    if not found.is_fine:
        raise SystemExit(EXIT_FAILED)


_period = (
    click.option("--from", "since", type=click.DateTime(_DATES), help="First moment, in UTC."),
    click.option("--to", "until", type=click.DateTime(_DATES), help="The moment behind the last, in UTC."),
)


def archive_options(command: Callable[..., None]) -> Callable[..., None]:
    """An archive that was exported, its keys, what is known beside it, and where to write what is made of it."""
    for option in (
        *_period,
        click.option(
            "--out", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="A new folder."
        ),
        click.option("--by", default="", help="Who makes this, as its custody is to say."),
        click.option("--reason", default="", help="Why this is made, as its custody is to say."),
        click.option(
            "--key", "key_file", required=True, type=click.Path(path_type=Path), help="The log's public keys."
        ),
        click.argument("path", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


@click.command(
    epilog="\b\nExample:\n  trueport audit disclose ./trail --key log.key --kind outcome --equal user=alice \\\n"
    "      --from 2026-03-01 --to 2026-04-01 --by dpo --reason 'request of an authority' --out ./bundle",
)
@archive_options
@click.option("--kind", "kinds", multiple=True, help="Only records of this kind, such as outcome; may be repeated.")
@click.option("--equal", "equal", multiple=True, metavar="NAME=VALUE", help="Only records with this member.")
@click.option(
    "--format",
    "extra",
    type=click.Choice(["jsonl", "parquet"]),
    default="jsonl",
    help="parquet adds the records as a table, which proves nothing.",
)
@json_option
def disclose(
    path: Path,
    key_file: Path,
    folder: Path,
    by: str,
    reason: str,
    since: datetime | None,
    until: datetime | None,
    kinds: tuple[str, ...],
    equal: tuple[str, ...],
    extra: Format,
    *,
    as_json: bool,
) -> None:
    """Take some records out of an exported archive, each with the proof of its place, to hand them out.

    `python FOLDER/verifier.py FOLDER --key log.key` checks them. No key of the log is at hand here, so nothing signs
    who made it; `POST …/audit/exports` of a running gateway does, and records it.
    """
    if extra == "parquet":
        _require_parquet()
    fields = tuple((name, value) for each in equal for name, _, value in [each.partition("=")])
    wanted = Wanted(_utc(since), _utc(until), kinds, fields)
    custody = Custody(SystemClock().now(), by, reason)
    source, keys = _opened(path, key_file)
    ground = _grounded(source, keys)
    found = select(source, wanted.takes)
    _write(folder, bundle_of(found, ground, custody, wanted.shown(), extra=extra))
    proved = sum(each.position < ground.tree.size for each in found)
    show({"records": proved, "of": ground.tree.size, "root": ground.root, "folder": str(folder)}, as_json=as_json)


def _require_parquet() -> None:
    try:
        require_parquet()
    except FormatUnavailable as error:
        raise Failed(error.message, EXIT_USAGE) from error


@click.command(
    epilog="\b\nExample:\n  trueport audit evidence ./trail --key log.key --framework eu-ai-act \\\n"
    "      --from 2026-01-01 --to 2026-07-01 --by auditor --organisation Acme --out ./pack",
)
@archive_options
@click.option("--framework", "name", required=True, type=click.Choice(list(FRAMEWORKS)), help="What is asked for.")
@click.option("--organisation", help="What the pack calls the tenant.")
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint received earlier; may be repeated.",
)
@json_option
def evidence(
    path: Path,
    key_file: Path,
    folder: Path,
    by: str,
    reason: str,
    since: datetime | None,
    until: datetime | None,
    name: str,
    organisation: str | None,
    checkpoints: tuple[Path, ...],
    *,
    as_json: bool,
) -> None:
    """Make an evidence pack of an exported archive: a page to read and print, data for machines, and the proofs.

    Open FOLDER/index.html. Without --from the period begins with the first record, without --to it ends now. Exit
    code 1 when the archive does not hold; the pack then says so.
    """
    now = SystemClock().now()
    begin, end = _utc(since) or from_epoch_us(0), _utc(until) or now
    if begin >= end:
        raise Failed("--to is behind --from.", EXIT_USAGE)
    source, keys = _opened(path, key_file)
    asked = Request(FRAMEWORKS[name], begin, end, Custody(now, by or "not said", reason), organisation or path.name)
    try:
        files = pack_of(source, keys, asked, earlier=[each.read_bytes() for each in checkpoints])
    except NothingSigned as error:
        raise Failed(error.message) from error
    _write(folder, files)
    data = json.loads(files["data.json"])
    states = [statement["state"] for statement in data["statements"]]
    counted = {state: states.count(state) for state in ("shown", "not_yet", "nothing_recorded", "doubtful")}
    show({"page": str(folder / "index.html"), "records": data["archive"]["in_period"], **counted}, as_json=as_json)
    if counted["doubtful"]:
        raise SystemExit(EXIT_FAILED)


def _opened(path: Path, key_file: Path) -> tuple[verifier.Folder, list[verifier.Key]]:
    try:
        return verifier.Folder(path), verifier.read_keys(key_file.read_text("utf-8"))
    except (verifier.Unreadable, OSError, UnicodeDecodeError) as error:
        raise Failed(str(error), EXIT_USAGE) from error


def _grounded(source: verifier.Source, keys: list[verifier.Key]) -> Ground:
    try:
        return ground_of(source, read(source, keys), keys)
    except NothingSigned as error:
        raise Failed(error.message) from error


def _write(folder: Path, files: Files) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise Failed(f"{folder} is not empty.", EXIT_USAGE)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def counted(*, is_wanted: bool) -> Callable[[int], None]:
    """Tells a person how many records have been checked. How many there are is known only at the end."""
    shown = is_wanted and sys.stderr.isatty()
    return lambda count: click.echo(f"\r{count:,} records", err=True, nl=False) if shown else None
