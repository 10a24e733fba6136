"""Answers what an examiner asks about an archive of the trail, each answer with its proof and with its limits.

An answer is `no` only as far as signatures reach. Where records are not those that were signed, and nothing says which
way, the answer is `undecided` for everything behind the last checkpoint that holds: an archive that was tampered with
proves nothing there.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, get_args

from trueport.audit.reading import ChainBreak, Reading, SeenCheckpoint, read
from trueport.audit.verifier import Key, Report, Source, Unreadable, Witness, verify
from trueport.kit.clock import from_epoch_us, rfc3339, to_epoch_us

Question = Literal["modified", "deleted", "inserted", "amended", "keys"]
QUESTIONS: Final[tuple[Question, ...]] = get_args(Question)
Verdict = Literal["no", "yes", "undecided", "kept", "lost", "known", "doubtful"]
FINE: Final[frozenset[Verdict]] = frozenset({"no", "kept", "known"})
"""The verdicts that give no cause for alarm."""

_MOST_PROOFS: Final = 100

TITLES: Final[Mapping[Question, str]] = {
    "modified": "Was a record changed after it was written?",
    "deleted": "Was a record deleted?",
    "inserted": "Was a record put in later?",
    "amended": "When something was amended, is the original still there?",
    "keys": "Who holds the keys, and what if one is stolen?",
}

# Which of the verifier's problems speak for which deed. Those in no set say only that something was done.
_SPEAKS_FOR: Final[Mapping[Question, frozenset[str]]] = {
    "modified": frozenset({"chain_changed", "content_changed", "not_canonical", "object_changed", "reordered"}),
    "deleted": frozenset(
        {
            "chain_gap",
            "chain_cut",
            "writer_silent",
            "truncated",
            "receipt_missing",
            "content_missing",
            "object_missing",
            "gap",
            "count_differs",
        }
    ),
    "inserted": frozenset({"chain_doubled", "record_doubled", "foreign_record", "object_unknown"}),
}
_BREAK_SPEAKS_FOR: Final = {"changed": "modified", "gap": "deleted", "doubled": "inserted"}
_DEED: Final = {"modified": "changed", "deleted": "deleted", "inserted": "put in later"}

_LIMITS: Final[Mapping[Question, tuple[str, ...]]] = {
    "modified": (
        "It does not show that a record told the truth when it was written, only that it is still the same.",
        "Whoever holds the signing key could sign another history; only a checkpoint kept elsewhere contradicts that.",
    ),
    "deleted": (
        "A call that was never recorded leaves no hole: its receipt or the provider's bill shows it.",
        "Records newer than the newest checkpoint could be missing without a trace in this archive.",
        "The last records of a writer leave no hole in its chain either. The signed root shows those, and a chain that "
        "does not end in a heartbeat, or ends before the place that whoever took over from its writer has noted.",
    ),
    "inserted": (
        "Times are those of the writer's clock. The order, not the clock, is what is proved.",
        "A record that came late for an honest reason (its process or disk was down) is listed and not judged.",
    ),
    "amended": (
        "It is about the trail. What other tables show now (a policy, a case, a key) is their newest state alone.",
        "Sealed content whose key was destroyed cannot be read again; its record and hash stay.",
    ),
    "keys": (
        "A signature shows which key signed, never who used it: a copy of a key leaves no mark.",
        "Times of signing are not signed. A key's span is read from the newest record under its checkpoints.",
        "The key file has to come from where you noted it, not from the archive: an attacker brings a key along.",
    ),
}

_ABOUT_KEYS: Final = frozenset(
    {
        "checkpoint_unsigned",
        "checkpoint_missing",
        "manifest_unsigned",
        "manifest_changed",
        "wrong_key",
        "cosignature_wrong",
        "cosignature_missing",
    }
)
_FORKED: Final = "a given key signed this, and also a longer tree that does not begin with it"
_IF_STOLEN: Final = (
    "With a stolen signing key another history can be written and signed; nobody's content can be read with it.",
    "It cannot make a checkpoint that you already hold fit other records: those records stay fixed.",
    "Rotate the key, note the new one, and keep the checkpoints signed up to then: they bound what can be rewritten.",
    "A stolen content key opens the contents sealed under it and changes no record; destroy it to end that.",
)


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that can be looked up: where, which place of the order, which hash, and what it shows."""

    place: str
    shows: str
    position: int | None = None
    hash: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """`sentence` is the answer; `facts` are figures behind it; `limits` what it does not show."""

    question: Question
    title: str
    verdict: Verdict
    sentence: str
    proofs: tuple[Proof, ...]
    proofs_left_out: int
    facts: dict[str, Any]
    limits: tuple[str, ...]

    @property
    def is_fine(self) -> bool:
        return self.verdict in FINE


@dataclass(frozen=True, slots=True)
class KeySpan:
    """When a signing key was made and until when it may sign (None: still), as the operator says."""

    key_id: str
    made_at: datetime | None = None
    retires_at: datetime | None = None


def write_spans(spans: Sequence[KeySpan]) -> str:
    """The history of keys as a file that `read_spans` reads."""
    return json.dumps([_span_shown(span) for span in spans], indent=1) + "\n"


def read_spans(text: str) -> list[KeySpan]:
    """Raises Unreadable for anything but what `write_spans` writes."""
    try:
        return [
            KeySpan(str(each["key_id"]), _moment_of(each["made_at"]), _moment_of(each["retires_at"]))
            for each in json.loads(text)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable("This is not a history of keys: a list of key_id, made_at and retires_at.") from error


def _span_shown(span: KeySpan) -> dict[str, str | None]:
    return {
        "key_id": span.key_id,
        "made_at": rfc3339(span.made_at) if span.made_at else None,
        "retires_at": rfc3339(span.retires_at) if span.retires_at else None,
    }


def _moment_of(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment has an offset")
    return moment


@dataclass(frozen=True, slots=True)
class Examination:
    """All answers about one archive."""

    origin: str
    records: int
    root: str
    first_at: str | None
    last_at: str | None
    fixed: int
    fixed_outside: int
    answers: tuple[Answer, ...]
    report: Report = field(repr=False)

    @property
    def is_fine(self) -> bool:
        return all(answer.is_fine for answer in self.answers)


def examine(
    source: Source,
    keys: Sequence[Key],
    *,
    questions: Sequence[Question] = QUESTIONS,
    earlier: Sequence[bytes] = (),
    receipts: Iterable[str] = (),
    witnesses: Iterable[Witness] = (),
    spans: Sequence[KeySpan] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Examination:
    """Answer questions about an archive. It is read twice: once by the verifier, once for what it says.

    earlier, receipts, witnesses: as `verify` takes them. spans: what is known of the signing keys besides their public
    halves.
    """
    report = verify(source, keys, earlier=earlier, receipts=receipts, witnesses=witnesses, progress=progress)
    keys = [*keys, *map(Key.parse, report.announced)]
    reading = read(source, keys, earlier=earlier)
    return Examination(
        origin=report.origin,
        records=reading.records,
        root=reading.root,
        first_at=_moment(reading.first_us),
        last_at=_moment(reading.last_us),
        fixed=reading.fixed,
        fixed_outside=reading.fixed_outside,
        answers=tuple(_answer(question, reading, report, keys, spans) for question in questions),
        report=report,
    )


def _answer(
    question: Question, reading: Reading, report: Report, keys: Sequence[Key], spans: Sequence[KeySpan]
) -> Answer:
    match question:
        case "modified" | "deleted" | "inserted":
            verdict, sentence, proofs, facts = _tampering(question, reading, report)
        case "amended":
            verdict, sentence, proofs, facts = _amended(reading, report)
        case "keys":
            verdict, sentence, proofs, facts = _keys(reading, report, keys, spans)
    shown = tuple(proofs[:_MOST_PROOFS])
    return Answer(
        question, TITLES[question], verdict, sentence, shown, len(proofs) - len(shown), facts, _LIMITS[question]
    )


_Found = tuple[Verdict, str, list[Proof], dict[str, Any]]


def _tampering(question: Question, reading: Reading, report: Report) -> _Found:
    deed, held = _DEED[question], reading.fixed
    proofs = [_of_break(each) for each in reading.breaks if _BREAK_SPEAKS_FOR[each.what] == question]
    seen = {"chain_changed", "chain_gap", "chain_doubled"}
    proofs += [
        Proof(problem.place, problem.message)
        for problem in report.problems
        if problem.code in _SPEAKS_FOR[question] - seen
    ]
    failed = [_of_checkpoint(each) for each in reading.checkpoints if not each.holds]
    facts = _reach(reading)
    if question == "inserted":
        facts["came_late"] = [
            {"position": position, "behind_s": behind_us // 1_000_000} for position, behind_us in reading.late[:100]
        ]
        facts["came_late_count"] = len(reading.late)
    if proofs:
        return "yes", f"Yes: there are records that were {deed}. {_still_holds(reading)}", [*proofs, *failed], facts
    if report.problems:
        others = [Proof(problem.place, f"{problem.code}: {problem.message}") for problem in report.problems]
        sentence = (
            f"Not decided: the archive does not hold as a whole, and nothing in it shows that a record was {deed} "
            f"or that none was. {_still_holds(reading)}"
        )
        return "undecided", sentence, others, facts
    sentence = f"No: none of the first {held:,} records was {deed} since a checkpoint over it was signed."
    return (
        "no",
        f"{sentence} {_anchored(reading)}",
        [_of_checkpoint(each) for each in reading.checkpoints if each.size == held or each.outside],
        facts,
    )


def _amended(reading: Reading, report: Report) -> _Found:
    """Calls that were closed twice, and everything that was added to a call: the first record has to be there."""
    twice = {
        rid: seen for rid, seen in reading.several.items() if {"outcome", "abandoned"} <= {kind for _, kind, _ in seen}
    }
    proofs = [
        Proof(f"{rid}#{kind}", f"place {place + 1} of {len(seen)} records of this call", position, leaf)
        for rid, seen in twice.items()
        for place, (position, kind, leaf) in enumerate(seen)
    ]
    proofs += [
        Proof(f"{record['rid']}#erasure", "the content's key was destroyed; record and hash stayed", position, leaf)
        for position, leaf, record in reading.deeds
        if record["kind"] == "erasure"
    ]
    facts = {
        "calls_with_several_records": len(reading.several),
        "calls_closed_twice": len(twice),
        "deeds": {kind: count for kind, count in sorted(reading.kinds.items()) if kind not in _OF_CALLS},
        "contents_erased": report.erased,
        **_reach(reading),
    }
    if report.problems:
        return (
            "undecided",
            f"Not decided: the archive does not hold as a whole. {_still_holds(reading)}",
            [Proof(problem.place, f"{problem.code}: {problem.message}") for problem in report.problems],
            facts,
        )
    return (
        "kept",
        "Yes: nothing is ever overwritten. What was added later is a record of its own, behind the first, and both are "
        f"under the signed root: {len(reading.several):,} calls have several records, {len(twice):,} of them a second "
        f"end. {report.erased:,} contents were erased by destroying their keys. {_anchored(reading)}",
        proofs or [_of_checkpoint(each) for each in reading.checkpoints if each.size == reading.fixed],
        facts,
    )


_OF_CALLS: Final = frozenset({"intent", "attempt", "outcome", "abandoned", "heartbeat", "gap", "lost_writer"})


def _keys(reading: Reading, report: Report, keys: Sequence[Key], spans: Sequence[KeySpan]) -> _Found:
    known = {span.key_id: span for span in spans}
    history = [_history(key.key_id.hex(), known.get(key.key_id.hex()), reading) for key in keys]
    outside_span = [
        Proof(each.place, f"key {key_id} signed it for records newer than its end", each.size - 1, each.root)
        for each in reading.checkpoints
        for key_id in each.key_ids
        if _is_after(each, known.get(key_id))
    ]
    forked = [Proof(each.place, _FORKED, None, each.root) for each in reading.forked]
    broken = [Proof(problem.place, problem.message) for problem in report.problems if problem.code in _ABOUT_KEYS]
    facts = {
        "signing_keys": history,
        "content_keys": len(reading.sealed),
        "content_keys_destroyed": sum(use.destroyed_at is not None for use in reading.sealed.values()),
        "held_by": "The operator: private halves lie in the installation's database, sealed under its key-encryption "
        "key. Whoever has both can sign. Content keys lie there too, and are destroyed to erase.",
        "if_stolen": list(_IF_STOLEN),
        **_reach(reading),
    }
    used = sum(each["checkpoints"] > 0 for each in history)
    proofs = [
        Proof(
            f"key {each['key_id']}",
            f"signed {each['checkpoints']} checkpoints, of {each['first_size']} up to {each['last_size']} records",
        )
        for each in history
    ]
    if forked:
        sentence = f"Misused: a key has signed two histories that exclude each other. {_still_holds(reading)}"
        return "doubtful", sentence, [*forked, *outside_span, *broken, *proofs], facts
    if outside_span or broken:
        sentence = f"Doubtful: signatures are missing, wrong, or of a key after its end. {_still_holds(reading)}"
        return "doubtful", sentence, [*outside_span, *broken, *proofs], facts
    sentence = (
        f"The operator holds them. Of the {len(history)} public keys you gave, {used} signed in this archive; what "
        f"each signed is listed. {_IF_STOLEN[0]} {_still_holds(reading) if report.problems else _anchored(reading)}"
    )
    return "known", sentence, proofs, facts


def _history(key_id: str, span: KeySpan | None, reading: Reading) -> dict[str, Any]:
    signed = [each for each in reading.checkpoints if key_id in each.key_ids]
    sizes = [each.size for each in signed]
    times = [each.newest_us for each in signed if each.newest_us]
    return {
        **_span_shown(span or KeySpan(key_id)),
        "checkpoints": len(signed),
        "first_size": min(sizes, default=None),
        "last_size": max(sizes, default=None),
        "first_record_at": _moment(min(times, default=0)),
        "last_record_at": _moment(max(times, default=0)),
    }


def _is_after(seen: SeenCheckpoint, span: KeySpan | None) -> bool:
    return span is not None and span.retires_at is not None and seen.newest_us > to_epoch_us(span.retires_at)


def _reach(reading: Reading) -> dict[str, Any]:
    failed = [each.size for each in reading.checkpoints if each.holds is False]
    return {
        "records": reading.records,
        "fixed_by_signature": reading.fixed,
        "fixed_by_checkpoint_from_outside": reading.fixed_outside,
        "first_checkpoint_that_fails": min(failed, default=None),
        "under_no_checkpoint": reading.records - reading.fixed,
    }


def _still_holds(reading: Reading) -> str:
    """What can be relied on in an archive that was tampered with. Checkpoints hold for all records before them."""
    if not reading.fixed:
        return "No checkpoint holds, so nothing in it can be relied on."
    failed = [each.size for each in reading.checkpoints if each.holds is False]
    behind = f"; what is not as it was signed lies at positions {reading.fixed} to {min(failed) - 1}" if failed else ""
    return f"The first {reading.fixed:,} records are those that were signed{behind}."


def _anchored(reading: Reading) -> str:
    if reading.fixed_outside:
        return f"A checkpoint from outside the archive fixes the first {reading.fixed_outside:,}."
    return (
        "No checkpoint from outside was given (--checkpoint), so this rests on the signing key not having been misused."
    )


def _of_break(found: ChainBreak) -> Proof:
    match found.what:
        case "gap":
            missing = f"records {found.wseq} to {found.until - 1} of this writer are missing before this one"
            return Proof(f"{found.writer} {found.wseq}", missing, found.position)
        case "doubled":
            shows = f"a second record for one place of the writer's chain; the other is at {found.before}"
            return Proof(f"{found.writer} {found.wseq}", shows, found.position)
        case _:
            shows = (
                f"the record at {found.position} was written behind one with the hash {found.named}; the one that is "
                "there now has another"
            )
            return Proof(f"{found.writer} {found.wseq - 1}", shows, found.before, found.leaf)


def _of_checkpoint(seen: SeenCheckpoint) -> Proof:
    says = {
        True: f"the first {seen.size} records are those that were signed",
        False: f"the first {seen.size} records are not those that were signed",
        None: f"it was signed over {seen.size} records, and there are fewer",
    }[seen.holds]
    return Proof(seen.place, f"{says} (key {', '.join(seen.key_ids)})", None, seen.root)


def _moment(at_us: int) -> str | None:
    return rfc3339(from_epoch_us(at_us)) if at_us else None


def told(examination: Examination) -> str:
    """The answers for a person."""
    lines = [
        f"{examination.origin}: {examination.records:,} records, {examination.first_at} to {examination.last_at}",
        f"root {examination.root}",
    ]
    for answer in examination.answers:
        lines += ["", answer.title, f"  {answer.verdict.upper()}. {answer.sentence}"]
        lines += [f"  proof: {_proof_line(proof)}" for proof in answer.proofs[:10]]
        hidden = len(answer.proofs) - 10 + answer.proofs_left_out
        if hidden > 0:
            lines.append(f"  … and {hidden} more (--json shows up to {_MOST_PROOFS})")
        if answer.question == "keys":
            lines += [f"  if stolen: {each}" for each in _IF_STOLEN]
        lines += [f"  does not show: {limit}" for limit in answer.limits]
    return "".join(f"{line}\n" for line in lines)


def _proof_line(proof: Proof) -> str:
    place = "" if proof.position is None else f" at position {proof.position}"
    digest = "" if proof.hash is None else f" [{proof.hash}]"
    return f"{proof.place}{place}: {proof.shows}{digest}"
