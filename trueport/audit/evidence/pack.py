"""Makes an evidence pack: the files of a folder that can be read, printed, checked and handed on.

index.html          the pack for people; nothing in it asks another host for anything
report.pdf          the same on paper, where the extra `pdf` is installed
data.json           the same for machines
examination.json    the examiner's questions about the whole archive, answered
queries/<id>.json   what was counted, how, and which records stand for it
proof/              those records, each with its proof: `python proof/verifier.py proof --key log.key`
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from trueport import __version__
from trueport.audit.disclosure import Custody, Files, Wanted, bundle_of, ground_of, select
from trueport.audit.evidence.figures import Figure, figures_of
from trueport.audit.evidence.frameworks import Framework, Statement
from trueport.audit.evidence.page import page_of
from trueport.audit.evidence.paper import can_print, paper_of
from trueport.audit.examination import Examination, KeySpan, examine
from trueport.audit.reading import Reading, read
from trueport.audit.verifier import Key, Source
from trueport.kit.clock import from_epoch_us, rfc3339, to_epoch_us

_DAY_US: Final = 86_400 * 1_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: a framework, a period (its end not included), and who asks why."""

    framework: Framework
    since: datetime
    until: datetime
    custody: Custody
    organisation: str


def pack_of(
    source: Source,
    keys: Sequence[Key],
    request: Request,
    *,
    earlier: Sequence[bytes] = (),
    spans: Sequence[KeySpan] = (),
) -> Files:
    """The files of a pack, by name, without a signature. Raises NothingSigned when no checkpoint holds."""
    reading = read(source, keys, earlier=earlier)
    ground = ground_of(source, reading, keys)
    examination = examine(source, keys, earlier=earlier, spans=spans)
    wanted = Wanted(request.since, request.until)
    # What no checkpoint holds for yet cannot be proved, and is left to the next pack.
    proved = [each for each in select(source, wanted.takes) if each.position < ground.tree.size]
    figures = figures_of(proved)
    data = _data(request, reading, examination, figures, len(proved))
    # A record may stand for several figures; it is handed out once.
    sampled = {each.position: each for figure in figures.values() for each in figure.sample}
    query = {**wanted.shown(), "sample_of": request.framework.name}
    bundle = bundle_of([sampled[at] for at in sorted(sampled)], ground, request.custody, query)
    files = {f"queries/{name}.json": _json(_query_shown(figure, request)) for name, figure in figures.items()}
    files |= {f"proof/{name}": content for name, content in bundle.items()}
    files["examination.json"] = _json({"ok": examination.is_fine, **asdict(examination)})
    files["data.json"] = _json(data)
    files["index.html"] = page_of(data).encode()
    if can_print():
        files["report.pdf"] = paper_of(data)
    return files


def figures_said(reading: Reading, figures: Mapping[str, Figure], made_at: datetime) -> dict[str, str]:
    """What the sentences of statements have in braces."""
    return {
        **{name: f"{figure.count:,}" for name, figure in figures.items()},
        "key_ids": f"{figures['calls'].distinct['key_id']:,}",
        "records": f"{reading.records:,}",
        "fixed": f"{reading.fixed:,}",
        "oldest": rfc3339(from_epoch_us(reading.first_us))[:10] if reading.first_us else "no date",
        "days": f"{days_kept(reading, made_at):,}",
    }


def days_kept(reading: Reading, made_at: datetime) -> int:
    """How old the oldest record is, in whole days."""
    return max((to_epoch_us(made_at) - reading.first_us) // _DAY_US, 0) if reading.first_us else 0


def _data(
    request: Request, reading: Reading, examination: Examination, figures: Mapping[str, Figure], in_period: int
) -> dict[str, Any]:
    said = figures_said(reading, figures, request.custody.made_at)
    days = days_kept(reading, request.custody.made_at)
    return {
        "v": 1,
        "framework": request.framework.name,
        "title": request.framework.title,
        "organisation": request.organisation,
        "from": rfc3339(request.since),
        "to": rfc3339(request.until),
        "made_at": rfc3339(request.custody.made_at),
        "made_by": request.custody.made_by,
        "reason": request.custody.reason,
        "software": f"trueport {__version__}",
        "archive": {
            "origin": examination.origin,
            "records": reading.records,
            "in_period": in_period,
            "first_at": examination.first_at,
            "last_at": examination.last_at,
            "fixed_by_signature": reading.fixed,
            "fixed_by_checkpoint_from_outside": reading.fixed_outside,
            "root": examination.root,
        },
        "answers": [
            {"question": each.question, "title": each.title, "verdict": each.verdict, "fine": each.is_fine,
             "sentence": each.sentence, "limits": list(each.limits)}
            for each in examination.answers
        ],
        "statements": [
            _statement_shown(each, figures, said, days=days, is_sound=examination.is_fine)
            for each in request.framework.statements
        ],
        "uncovered": [{"reference": place, "why": why} for place, why in request.framework.uncovered],
        "figures": {name: _figure_shown(figure) for name, figure in figures.items()},
    }  # fmt: skip


def _statement_shown(
    statement: Statement, figures: Mapping[str, Figure], said: Mapping[str, str], *, days: int, is_sound: bool
) -> dict[str, Any]:
    counts = [figures[name].count for name in statement.queries]
    if not is_sound:
        state, sentence = "doubtful", f"{statement.says.format(**said)} The archive does not hold: see the examination."
    elif not any(counts):
        state, sentence = "nothing_recorded", "Nothing of this kind was recorded in the period."
    elif days < statement.least_days:
        state = "not_yet"
        sentence = f"{statement.says.format(**said)} That is less than the {statement.least_days} days asked for."
    else:
        state, sentence = "shown", statement.says.format(**said)
    return {
        "reference": statement.reference,
        "asks": statement.asks,
        "state": state,
        "says": sentence,
        "queries": list(statement.queries),
        "examination": statement.is_about_proof,
        "does_not_show": statement.not_shown,
    }


def _figure_shown(figure: Figure) -> dict[str, Any]:
    return {
        "title": figure.query.title,
        "asks": figure.query.asks,
        "count": figure.count,
        "divisions": {name: [list(row) for row in rows] for name, rows in figure.divisions.items()},
        "distinct": figure.distinct,
        "sample": [each.position for each in figure.sample],
        "file": f"queries/{figure.query.id}.json",
    }


def _query_shown(figure: Figure, request: Request) -> dict[str, Any]:
    return {
        **_figure_shown(figure),
        "from": rfc3339(request.since),
        "to": rfc3339(request.until),
        "sample": [
            {"seq": each.position, "leaf": each.leaf, "record": each.name, "proof": "../proof/proofs.jsonl"}
            for each in figure.sample
        ],
    }


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode() + b"\n"
