"""`trueport audit`: checking the trail, and taking it along."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from trueport.audit import verifier
from trueport.audit.examination import KeySpan, write_spans
from trueport.cli.archive import archive, restore
from trueport.cli.evidence import counted, disclose, evidence, examine_archive
from trueport.cli.log_keys import log_keys
from trueport.cli.session import (
    EXIT_FAILED,
    EXIT_USAGE,
    Failed,
    config_option,
    json_option,
    settings_of,
    show,
    tenant_named,
    with_resources,
)
from trueport.domains.audit.api import AuditLog, Export, LogKeys, archives_of, origin_of
from trueport.domains.auth.api import operator_scope
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import FolderStore, open_store
from trueport.web.domain import Resources

tenant_option = click.option("--tenant", "slug", required=True, help="Short name of the organisation.")


@click.group(commands=(archive, restore, examine_archive, disclose, evidence, log_keys))
def audit() -> None:
    """Verify, export and checkpoint the audit trail."""


@audit.command(
    epilog="\b\nExamples:\n  trueport audit verify ./archive --key log.key\n"
    "  trueport audit verify ./archive --key log.key --checkpoint yesterday.note --json"
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--key", "key_file", required=True, type=click.Path(path_type=Path), help="The log's public keys, one a line."
)
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint received earlier, which the archive has to continue; may be repeated.",
)
@click.option("--receipt", "receipts", multiple=True, help="An x-trueport-receipt to look for; may be repeated.")
@click.option("--witness", "witnesses", multiple=True, help="Public key of a witness that has to have signed.")
@json_option
def verify(
    path: Path,
    key_file: Path,
    checkpoints: tuple[Path, ...],
    receipts: tuple[str, ...],
    witnesses: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Check an archive offline. Exit code 1 when something is wrong, 2 when it cannot be checked.

    Nothing but the archive and the keys is read: no settings, no database.
    """
    try:
        keys = verifier.read_keys(key_file.read_text("utf-8"))
        earlier = [each.read_bytes() for each in checkpoints]
        seen_by = [verifier.Witness.parse(text) for text in witnesses]
        if (path / verifier.BUNDLE).is_file():
            report = verifier.verify_bundle(path, keys, earlier=earlier, witnesses=seen_by)
        else:
            report = verifier.verify(
                verifier.Folder(path),
                keys,
                earlier=earlier,
                receipts=receipts,
                witnesses=seen_by,
                progress=counted(is_wanted=not as_json),
            )
    except (verifier.Unreadable, OSError, UnicodeDecodeError) as error:
        raise Failed(str(error), EXIT_USAGE) from error
    if as_json:
        click.echo(json.dumps({"ok": not report.problems, **asdict(report)}))
    else:
        click.echo(verifier.told(report), nl=False)
    if report.problems:
        raise SystemExit(EXIT_FAILED)


@audit.command(epilog="Example: trueport audit checkpoint --tenant acme > today.note")
@tenant_option
@json_option
@config_option
def checkpoint(slug: str, *, as_json: bool, config_file: Path | None) -> None:
    """Order and sign what was recorded up to now, and print the signed checkpoint."""

    async def work(resources: Resources) -> dict[str, object]:
        log = _log(resources, operator_scope(await tenant_named(resources, slug)))
        await log.advance()
        stored = await log.checkpoint()
        return {"size": stored.size, "root": stored.root, "note": stored.note}

    made = with_resources(settings_of(config_file), work)
    if as_json:
        show(made, as_json=True)
    else:
        click.echo(str(made["note"]), nl=False)


@audit.command(epilog="Example: trueport audit export --tenant acme --to ./archive")
@tenant_option
@click.option(
    "--to", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="An empty or new folder."
)
@json_option
@config_option
def export(slug: str, folder: Path, *, as_json: bool, config_file: Path | None) -> None:
    """Write the whole trail of an organisation to a folder, with the public keys and the verifier.

    `python verifier.py FOLDER --key FOLDER/log.key` checks it on any machine with Python, cryptography and zstandard.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Failed(f"{folder} is not empty.", EXIT_USAGE)
    settings, target = settings_of(config_file), FolderStore(folder.absolute())

    async def work(resources: Resources) -> dict[str, object]:
        scope = operator_scope(await tenant_named(resources, slug))
        await _log(resources, scope).advance()
        keys = LogKeys(resources.database, settings.keys, resources.clock)
        contents = open_store(settings.storage_url, settings.data_dir)
        size = 0
        stores = await archives_of(resources).stores(scope)
        async for written in Export(resources.database, scope, keys, contents, stores).segments():
            for each in written.objects:
                await target.put(each.name, each.data)
            size = written.end
        public = [str(key) for key in await keys.verifier_keys(scope.tenant_id)]
        _beside(folder, public, await keys.spans(scope.tenant_id))
        return {"origin": origin_of(scope.tenant_id), "records": size, "folder": str(folder), "keys": public}

    show(with_resources(settings, work), as_json=as_json)


def _log(resources: Resources, scope: TenantScope) -> AuditLog:
    keys = LogKeys(resources.database, resources.settings.keys, resources.clock)
    return AuditLog(resources.database, scope, keys, resources.clock)


def _beside(folder: Path, public_keys: list[str], spans: Sequence[KeySpan]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.key").write_text("".join(f"{key}\n" for key in public_keys), "utf-8")
    (folder / "keys.json").write_text(write_spans(spans), "utf-8")
    (folder / "verifier.py").write_bytes(Path(verifier.__file__).read_bytes())
