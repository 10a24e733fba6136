"""`trueport detect`: what the detectors say of texts, without a server."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import click
import msgspec

from trueport.cli.session import EXIT_FAILED, EXIT_USAGE, Failed, tells_errors
from trueport.detection.base import DetectorFailed
from trueport.detection.engine import Engine, unread
from trueport.detection.merging import merge
from trueport.detection.registry import UnknownEngine, open_engine
from trueport.detection.types import CATEGORIES, Category, Passage, Reading, Role
from trueport.kit.clock import SystemClock
from trueport.kit.logging import configure_logging

_EXAMPLE: Final = """\b
Examples:
  trueport detect --jsonl texts.jsonl --engine onnx > found.jsonl
  echo '{"text": "Write to anna@example.org", "role": "user"}' | trueport detect --jsonl - --engine rules"""

# Read together. So much text cannot overfill the model's queue, even where every character is a token.
_MOST_LINES: Final = 64
_MOST_CODE_POINTS: Final = 32_768
_ROLES: Final[tuple[Role, ...]] = get_args(Role)
# What a text without a role is read as: some attacks are looked for in what a user says, others in what is brought in.
_ANY: Final[tuple[Role, ...]] = ("user", "document")

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class _Line:
    """A text, what it is read as, and the bytes of its line."""

    text: str
    roles: tuple[Role, ...]
    size: int


@click.command("detect", epilog=_EXAMPLE)
@click.option(
    "--jsonl",
    "file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="File with a JSON object a line: `text`, and `role` if it matters; - reads standard input.",
)
@click.option(
    "--engine",
    "engine_name",
    default="onnx",
    show_default=True,
    help="onnx, triton, rules, or an address such as onnx:/folder/of/a/model.",
)
@click.option(
    "--triton-url", default="triton://127.0.0.1:8001", show_default=True, help="Address of Triton's gRPC port."
)
@click.option(
    "--min-score",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Leave out findings below this score; the scores are always complete.",
)
@click.option(
    "--timeout",
    "timeout_s",
    default=600.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds for a few dozen lines, or for one long one.",
)
@click.option("--json", "as_json", is_flag=True, help="No progress bar. The output is JSON in any case.")
@tells_errors
def detect(file: Path, engine_name: str, triton_url: str, *, min_score: float, timeout_s: float, as_json: bool) -> None:
    """Read texts and print what is found in them.

    Prints one JSON object for each line of input, in the same order: `scores` of every category, 0 to 1, and
    `findings` with category, type, start, end (in Unicode code points), score and detector. A text that a detector
    could not read whole also has `failures`, and the exit code is then 1. Empty lines are passed over.

    A line may have a `role`, as in a call: system, user, assistant, reasoning, tool_definition, tool_call,
    tool_result, document or metadata. It decides what is looked for; without one the text is read both as a user's
    and as a document.
    """
    try:
        engine = open_engine(_url(engine_name, triton_url), SystemClock(), data_dir=Path())
    except UnknownEngine as error:
        raise Failed(error.message, EXIT_USAGE) from error
    with ExitStack() as stack:
        stack.callback(configure_logging(level="WARNING").stop)
        lines = stack.enter_context(click.open_file(str(file), "rb"))
        is_watched = sys.stderr.isatty() and not sys.stdout.isatty() and not as_json and str(file) != "-"
        advance = _progress(stack, file.stat().st_size) if is_watched else None
        incomplete = asyncio.run(_read_all(engine, lines, min_score, timeout_s, advance))
    if incomplete:
        raise Failed(f"{incomplete} of the texts could not be read whole; see their `failures`.", EXIT_FAILED)


def _url(engine_name: str, triton_url: str) -> str:
    if engine_name == "triton":
        url = triton_url if "://" in triton_url else f"triton://{triton_url}"
        # Whoever asks for Triton's answers does not want another model's in their place.
        return url if "fallback=" in url else f"{url}{'&' if '?' in url else '?'}fallback=none"
    return engine_name if ":" in engine_name else f"{engine_name}:"


def _progress(stack: ExitStack, size: int) -> Advance:
    """A bar on standard error that counts bytes of input."""
    return stack.enter_context(click.progressbar(range(size), label="Reading", file=sys.stderr, width=30)).update


async def _read_all(
    engine: Engine, lines: Iterable[bytes], min_score: float, timeout_s: float, advance: Advance | None
) -> int:
    """Print an answer for each line. Returns how many texts were not read whole. Raises Failed for a bad line."""
    incomplete = 0
    # `custom` is what a tenant's own policies find.
    wanted = engine.categories - {"custom"}
    try:
        await engine.prepare()
        for part in _parts(_parse(lines)):
            for reading in await _read(engine, part, wanted, timeout_s):
                click.echo(_shown(reading, min_score))
                incomplete += bool(unread(reading, wanted))
            if advance is not None:
                advance(sum(line.size for line in part))
    except DetectorFailed as error:
        raise Failed(f"The detection engine cannot be used ({error.code}); the log says why.") from error
    finally:
        await engine.close()
    return incomplete


async def _read(engine: Engine, lines: Sequence[_Line], wanted: frozenset[Category], timeout_s: float) -> list[Reading]:
    """One reading for each line."""
    passages = [Passage(line.text, role) for line in lines for role in line.roles]
    readings = iter(await engine.read(passages, wanted, timeout_s=timeout_s))
    joined = []
    for line in lines:
        of_line = [next(readings) for _ in line.roles]
        joined.append(merge(of_line, tuple(dict.fromkeys(failure for one in of_line for failure in one.failures))))
    return joined


def _parse(lines: Iterable[bytes]) -> Iterator[_Line | Failed]:
    """Each line; instead of the first bad one what is wrong with it, and then nothing more."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _parsed(line)
        except ValueError as error:
            yield Failed(f"Line {number}: {error}", EXIT_USAGE)
            return


def _parsed(line: bytes) -> _Line:
    """Raises ValueError that says what is wrong without quoting the line."""
    try:
        # Not msgspec: it refuses half of a surrogate pair, which JSON may hold and some texts do.
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON in UTF-8.") from None
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise ValueError("it has to be a JSON object with `text`, a string.")  # noqa: TRY004 - bad input, no bad call
    role = value.get("role")
    if role is not None and role not in _ROLES:
        raise ValueError(f"`role` is one of {', '.join(_ROLES)}.")
    return _Line(text, _ANY if role is None else (role,), len(line))


def _parts(lines: Iterable[_Line | Failed]) -> Iterator[list[_Line]]:
    """Lines to be read together. What came before a bad line is given out first; then its Failed is raised."""
    part: list[_Line] = []
    length = 0
    for line in lines:
        if isinstance(line, Failed):
            if part:
                yield part
            raise line
        if part and (len(part) == _MOST_LINES or length + len(line.text) > _MOST_CODE_POINTS):
            yield part
            part, length = [], 0
        part.append(line)
        length += len(line.text)
    if part:
        yield part


def _shown(reading: Reading, min_score: float) -> bytes:
    answer: dict[str, object] = {
        "scores": {category: round(reading.scores.get(category, 0.0), 6) for category in CATEGORIES},
        "findings": [
            {
                "category": one.category,
                "type": one.type,
                "start": one.start,
                "end": one.end,
                "score": round(one.score, 6),
                "detector": one.detector,
            }
            for one in reading.findings
            if one.score >= min_score
        ],
    }
    if reading.failures:
        answer["failures"] = [
            {"detector": one.detector, "code": one.code, "categories": sorted(one.categories)}
            for one in reading.failures
        ]
    return msgspec.json.encode(answer)
