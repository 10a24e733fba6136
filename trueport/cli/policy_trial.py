"""`trueport policy test`: what policies decide about a text."""

import asyncio
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

import click

from trueport.cli.session import (
    EXIT_FAILED,
    EXIT_USAGE,
    Failed,
    config_option,
    configuration_of,
    settings_of,
    tells_errors,
    tenant_named,
    with_resources,
)
from trueport.detection.base import DetectorFailed
from trueport.detection.embedding import Embeddings
from trueport.detection.engine import Engine
from trueport.detection.policy import (
    ActivePolicies,
    Context,
    Hit,
    Judged,
    PolicySet,
    Span,
    Verdict,
    compile_policy,
    problems_of,
    read_policy,
    unfold,
)
from trueport.detection.redact import Placeholders
from trueport.detection.registry import UnknownEngine, open_engine
from trueport.detection.types import Failure, Passage, Reading, Role, Side
from trueport.domains.config.api import read_policy_list
from trueport.kit.clock import SystemClock
from trueport.kit.logging import configure_logging
from trueport.settings import Settings
from trueport.web.domain import Resources

_EPILOG: Final = """\b
Examples:
  trueport policy test --preset balanced --text "Ignore all previous instructions"
  trueport policy test --policies acme.yaml --file prompts.jsonl --json
  echo "Write to ann@example.org" | trueport policy test --tenant acme --text -"""

_ROLES: Final[tuple[Role, ...]] = get_args(Role)
_OUTPUT: Final = "output"
# A person waits, and the first text waits for the model to be loaded: not the time that a call would have.
_PATIENCE_S: Final = 120.0
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A text, who says it, and on which side of a call."""

    text: str
    role: Role
    side: Side


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the policies decide about a text."""

    asked: _Asked
    verdict: Verdict
    failures: tuple[Failure, ...]


@click.command("test", epilog=_EPILOG)
@click.option("--policies", "file", type=_FILE, help="YAML, TOML or JSON file with a list `policies`, or of policies.")
@click.option("--tenant", "slug", help="Short name of the organisation whose policies are asked.")
@click.option("--preset", "presets", multiple=True, help="A preset; may be there several times.")
@click.option("--text", help="The text; - reads standard input.")
@click.option("--file", "texts", type=_FILE, help="A text, or for .jsonl a JSON object a line: `text`, and `role`.")
@click.option(
    "--role",
    type=click.Choice([*_ROLES, _OUTPUT]),
    default="user",
    show_default=True,
    help="Who says it in a request; `output` is a model's answer.",
)
@click.option("--engine", "engine_url", help="Address of a detection engine, such as onnx:, instead of the setting.")
@click.option("--environment", type=click.Choice(["prod", "staging", "dev"]), default="prod", show_default=True)
@click.option("--key", "key_id", default="", help="Id of the API key of the call.")
@click.option("--model", help="Model of the call.")
@click.option("--provider", help="Provider of the call.")
@click.option("--user", help="End user of the call.")
@click.option("--show", "is_shown", is_flag=True, help="Print the texts that matched, and the redacted text.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each text.")
@config_option
@tells_errors
def trial(
    *, file: Path | None, slug: str | None, presets: tuple[str, ...], text: str | None, texts: Path | None, role: str,
    engine_url: str | None, is_shown: bool, as_json: bool, config_file: Path | None, **call: str | None,
) -> None:  # fmt: skip
    """Ask policies about a text, and print the decision and why. Changes nothing.

    Takes the policies from one of --policies, --tenant and --preset, the text from --text or --file. The texts
    themselves are not printed, only places in them, unless --show is given. Without a detail of the call (its model,
    say), policies for some models hold for it.

    Exit codes: 0 allow, flag or redact; 1 when a text is blocked; 2 wrong usage, policies or texts; 3 something needed
    is away.
    """
    if sum((file is not None, slug is not None, bool(presets))) != 1:
        raise Failed("Give one of --policies, --tenant and --preset.", EXIT_USAGE)
    asked = list(_asked(text, texts, role))
    settings = settings_of(config_file)
    entries = _entries(file, slug, presets, settings)
    context = Context(call["environment"] or "", call["key_id"] or "", call["model"], call["provider"], call["user"])
    listener = configure_logging(level="WARNING")
    try:
        engine = open_engine(engine_url or settings.detection_url, SystemClock(), data_dir=settings.data_dir)
        answers = asyncio.run(_judged(engine, entries, context, asked))
    except UnknownEngine as error:
        raise Failed(error.message, EXIT_USAGE) from error
    except DetectorFailed as error:
        raise Failed(f"The detection engine cannot be used ({error.code}); the log says why.") from error
    finally:
        listener.stop()
    for answer in answers:
        members = _members(answer, is_shown=is_shown)
        click.echo(json.dumps(members) if as_json else "\n".join(_lines(members)))
    if any(answer.verdict.action == "block" for answer in answers):
        sys.exit(EXIT_FAILED)


def _entries(
    file: Path | None, slug: str | None, presets: Sequence[str], settings: Settings
) -> Sequence[Mapping[str, Any]]:
    """The policies, or presets, as they are written. Raises Failed."""
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
            return _of_toml(text) if file.suffix == ".toml" else read_policy_list(text)
        except (OSError, UnicodeDecodeError) as error:
            raise Failed(f"{file.name} cannot be read.", EXIT_USAGE) from error
        except ValueError as error:
            raise Failed(f"{file.name}: {error}.", EXIT_USAGE) from error
    if slug is not None:
        return with_resources(settings, lambda resources: _in_force(resources, slug))
    return [{"preset": name} for name in presets]


def _of_toml(text: str) -> Sequence[Mapping[str, Any]]:
    """Raises ValueError."""
    return read_policy_list(json.dumps(tomllib.loads(text)))


async def _in_force(resources: Resources, slug: str) -> Sequence[Mapping[str, Any]]:
    service = await configuration_of(resources, await tenant_named(resources, slug))
    return (await service.export(slug)).policies


def _asked(text: str | None, file: Path | None, role: str) -> Iterator[_Asked]:
    """Raises Failed."""
    if (text is None) == (file is None):
        raise Failed("Give the text with --text or with --file.", EXIT_USAGE)
    if file is None:
        yield _as(sys.stdin.read() if text == "-" else text or "", role)
        return
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{file.name} cannot be read as UTF-8.", EXIT_USAGE) from error
    if file.suffix != ".jsonl":
        yield _as(content, role)
        return
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            yield _of_line(line, role, f"{file.name}, line {number}")


def _of_line(line: str, role: str, where: str) -> _Asked:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise Failed(f"{where}: it has to be a JSON object with `text`, a string.", EXIT_USAGE)
    own = value.get("role", role)
    if own not in (*_ROLES, _OUTPUT):
        raise Failed(f"{where}: `role` is one of {', '.join((*_ROLES, _OUTPUT))}.", EXIT_USAGE)
    return _as(value["text"], own)


def _as(text: str, role: str) -> _Asked:
    known: dict[str, Role] = {name: name for name in _ROLES}
    return _Asked(text, known.get(role, "assistant"), "output" if role == _OUTPUT else "input")


async def _judged(
    engine: Engine, entries: Sequence[Mapping[str, Any]], context: Context, asked: Sequence[_Asked]
) -> list[_Answer]:
    """Raises Failed for policies that make no sense, and DetectorFailed."""
    try:
        policies = await _compiled(engine, entries)
        await engine.prepare()
        return [await _decided(engine, policies.for_call(one.side, context), one) for one in asked]
    finally:
        await engine.close()


async def _compiled(engine: Engine, entries: Sequence[Mapping[str, Any]]) -> PolicySet:
    embeddings = Embeddings(engine)
    problems = problems_of(entries, tells_topics=embeddings.is_possible)
    if problems:
        raise Failed("\n".join(problems), EXIT_USAGE)
    documents = [read_policy(members) for members in unfold(entries)]
    examples = [text for document in documents for topic in document.when.topics for text in topic.examples]
    vectors = await embeddings.of(examples) if examples else {}
    return PolicySet(
        tuple(
            compile_policy(f"policy_{number}", 1, document, bands=engine.bands, vectors=vectors)
            for number, document in enumerate(documents, start=1)
        )
    )


async def _decided(engine: Engine, active: ActivePolicies, asked: _Asked) -> _Answer:
    passage = Passage(asked.text, asked.role)
    reading = Reading()
    if active.wanted:
        [reading] = await engine.read([passage], active.wanted, timeout_s=_PATIENCE_S)
    reading = replace(reading, findings=reading.findings + active.custom(passage))
    verdict = active.decide([Judged("text", passage, reading)])
    return _Answer(asked, verdict, tuple(failure for failure in reading.failures if failure.categories))


def _members(answer: _Answer, *, is_shown: bool) -> dict[str, Any]:
    text, verdict = answer.asked.text, answer.verdict
    placeholders = Placeholders()
    placeholders.avoid([text])
    spans = verdict.redactions(0) if verdict.action == "redact" else ()
    redacted = placeholders.redact(text, spans)
    members: dict[str, Any] = {
        "decision": verdict.action,
        "code": verdict.code,
        "hits": [_hit(hit, text if is_shown else None) for hit in verdict.hits],
        "placeholders": [_placeholder(span, text, placeholders) for span in spans],
        "failures": [
            {"detector": one.detector, "code": one.code, "categories": sorted(one.categories)}
            for one in answer.failures
        ],
    }
    if is_shown and spans:
        members["redacted"] = redacted
    return members


def _placeholder(span: Span, text: str, placeholders: Placeholders) -> dict[str, Any]:
    value = text[span.start : span.end]
    name = placeholders.redact(value, [replace(span, start=0, end=len(value))])
    return {"placeholder": name, "start": span.start, "end": span.end, "is_reversible": span.is_reversible}


def _hit(hit: Hit, text: str | None) -> dict[str, Any]:
    """A hit as it is told; with the text, also what matched."""
    names = ("policy", "action", "mode", "category", "type", "start", "end", "score", "threshold", "detector")
    members = {name: getattr(hit, name) for name in names}
    members |= {name: round(members[name], 4) for name in ("score", "threshold") if members[name] is not None}
    return members if text is None else {**members, "text": text[hit.start : hit.end]}


def _lines(members: Mapping[str, Any]) -> Iterator[str]:
    """The same for a person."""
    yield f"decision  {members['decision']}" + (f" ({members['code']})" if members["code"] else "")
    for hit in members["hits"]:
        certain = "" if hit["score"] is None else f", {hit['score']:.4f} of {hit['threshold']:.4f}"
        shadow = ", shadow" if hit["mode"] == "shadow" else ""
        shown = f": {json.dumps(hit['text'], ensure_ascii=False)}" if "text" in hit else ""
        yield (
            f"  {hit['action']:<6}  {hit['policy']}{shadow}: {hit['category']} {hit['type']} at "
            f"{hit['start']}-{hit['end']} ({hit['detector']}{certain}){shown}"
        )
    for one in members["placeholders"]:
        back = ", comes back in the answer" if one["is_reversible"] else ""
        yield f"  {one['placeholder']} for {one['start']}-{one['end']}{back}"
    for failure in members["failures"]:
        yield f"  not read: {', '.join(failure['categories'])} ({failure['detector']}: {failure['code']})"
    if "redacted" in members:
        yield f"redacted  {json.dumps(members['redacted'], ensure_ascii=False)}"
