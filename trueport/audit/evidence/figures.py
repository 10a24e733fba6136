"""What is counted in a period of the trail, and which records stand for it. Pure.

A figure is a query over records: its condition in words and in code, how many match, how they divide, and a few of them
spread evenly over the matches, whose proofs go into the pack.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from trueport.audit.reading import Placed

SAMPLED: Final = 5
"""Records in a figure's sample."""
MOST_ROWS: Final = 20
"""Rows shown of each division; the rest is summed."""

Record = Mapping[str, Any]
Values = Callable[[Record], Iterable[object]]


@dataclass(frozen=True, slots=True)
class Query:
    """`asks` says in words what `takes` decides. `divisions` give, by name, the values a record counts under."""

    id: str
    title: str
    asks: str
    takes: Callable[[Record], bool]
    divisions: tuple[tuple[str, Values], ...] = ()
    distinct: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """What a query found in a period. `distinct` counts the different values of members, such as keys."""

    query: Query
    count: int
    divisions: dict[str, list[tuple[str, int]]]
    distinct: dict[str, int]
    sample: tuple[Placed, ...]


def _of(*members: str) -> Values:
    """The first of the members that is there."""

    def values(record: Record) -> Iterator[object]:
        yield next((record[name] for name in members if record.get(name) is not None), "none")

    return values


def _each(member: str, part: str) -> Values:
    """One part of each element of a list."""

    def values(record: Record) -> Iterator[object]:
        for each in _listed(record, member):
            yield each.get(part, "none")

    return values


def _listed(record: Record, member: str) -> list[Record]:
    found = record.get(member)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _kind(*kinds: str) -> Callable[[Record], bool]:
    return lambda record: record.get("kind") in kinds


def _is_outcome(record: Record) -> bool:
    return record.get("kind") == "outcome"


def _is_refused(record: Record) -> bool:
    return _is_outcome(record) and "refuse" in (record.get("decision"), str(record.get("end"))[:6])


def _has_personal_data(record: Record) -> bool:
    return _is_outcome(record) and any(each.get("category") in ("pii", "phi") for each in _listed(record, "decisions"))


def _has_content(record: Record) -> bool:
    return isinstance(record.get("content"), dict)


QUERIES: Final[tuple[Query, ...]] = (
    Query(
        "calls",
        "Calls through the gateway",
        "Records of kind `outcome`: each is the end of one call, refused ones included.",
        _is_outcome,
        (
            ("end", _of("end")),
            ("decision", _of("decision")),
            ("environment", _of("env")),
            ("model", _of("model_served", "model")),
            ("provider", _of("provider")),
        ),
        ("key_id", "user"),
    ),
    Query(
        "found",
        "Calls in which policies saw something",
        "Records of kind `outcome` whose `decisions` are not empty. A call may have many decisions.",
        lambda record: _is_outcome(record) and bool(_listed(record, "decisions")),
        (
            ("category", _each("decisions", "category")),
            ("action", _each("decisions", "action")),
            ("mode", _each("decisions", "mode")),
            ("policy", _each("decisions", "policy")),
        ),
    ),
    Query(
        "personal",
        "Calls in which personal or health data was seen",
        "Records of kind `outcome` with a decision of category `pii` or `phi`. Labels only; no text is in a record.",
        _has_personal_data,
        (("type", _each("decisions", "type")), ("action", _each("decisions", "action"))),
    ),
    Query(
        "refused",
        "Calls that were refused",
        "Records of kind `outcome` whose `decision` is `refuse` or whose `end` is `refused`.",
        _is_refused,
        (("error", _of("error")), ("status", _of("status"))),
    ),
    Query(
        "detector_loss",
        "Calls during which a detector gave no answer",
        "Records of kind `outcome` whose `detector_failures` are not empty.",
        lambda record: _is_outcome(record) and bool(_listed(record, "detector_failures")),
        (("detector", _each("detector_failures", "detector")), ("code", _each("detector_failures", "code"))),
    ),
    Query(
        "failed",
        "Calls that failed at a provider or in the gateway",
        "Records whose `end` is `upstream_failed` or `gateway_failed`, and those of kind `abandoned`.",
        lambda record: record.get("end") in ("upstream_failed", "gateway_failed") or record.get("kind") == "abandoned",
        (("end", _of("end", "kind")), ("provider", _of("provider")), ("error", _of("error"))),
    ),
    Query(
        "versions",
        "Versions of policies and configuration that decided",
        "Records of kind `outcome` that name a `policy_version`.",
        lambda record: _is_outcome(record) and record.get("policy_version") is not None,
        (("policy version", _of("policy_version")), ("configuration", _of("config_revision"))),
    ),
    Query(
        "sealed",
        "Contents kept sealed",
        "Records with a sealed `content`: the record holds its hash, the ciphertext lies beside it.",
        _has_content,
        (("kind", _of("kind")),),
    ),
    Query(
        "changes",
        "Changes to configuration and policies",
        "Records of kind `admin` or `policy`: each was written before the change was made.",
        _kind("admin", "policy"),
        (("kind", _of("kind")), ("action", _of("action", "deed"))),
    ),
    Query(
        "sign_ins",
        "Sign-ins and changes to accounts and keys",
        "Records of kind `auth`.",
        _kind("auth"),
        (("action", _of("action", "deed")),),
    ),
    Query(
        "looks",
        "Looks at sealed content, and exports",
        "Records of kind `access` or `export`: each was written before the text or file left.",
        _kind("access", "export"),
        (("kind", _of("kind")), ("action", _of("action", "deed"))),
    ),
    Query(
        "holds",
        "Legal holds",
        "Records of kind `hold`.",
        _kind("hold"),
        (("action", _of("action", "deed")),),
    ),
    Query(
        "erasures",
        "Erasures",
        "Records of kind `erasure`: keys of contents were destroyed.",
        _kind("erasure"),
        (("action", _of("action", "deed")),),
    ),
)


class Spread:
    """Keeps a few of any number of records, evenly spread, without keeping all."""

    def __init__(self, wanted: int = SAMPLED) -> None:
        self._wanted = wanted
        self._stride = 1
        self._seen = 0
        self._kept: list[Placed] = []

    def add(self, placed: Placed) -> None:
        if self._seen % self._stride == 0:
            self._kept.append(placed)
            if len(self._kept) > 4 * self._wanted:
                self._kept = self._kept[::2]
                self._stride *= 2
        self._seen += 1

    def taken(self) -> tuple[Placed, ...]:
        kept, wanted = self._kept, self._wanted
        if len(kept) <= wanted:
            return tuple(kept)
        return tuple(kept[number * (len(kept) - 1) // (wanted - 1)] for number in range(wanted))


@dataclass(slots=True)
class _Counting:
    query: Query
    count: int = 0
    divisions: dict[str, Counter[str]] = field(default_factory=dict)
    distinct: dict[str, set[str]] = field(default_factory=dict)
    sample: Spread = field(default_factory=Spread)

    def add(self, placed: Placed) -> None:
        self.count += 1
        self.sample.add(placed)
        for name, values in self.query.divisions:
            self.divisions.setdefault(name, Counter()).update(map(str, values(placed.fields)))
        for member in self.query.distinct:
            value = placed.fields.get(member)
            if value is not None:
                self.distinct.setdefault(member, set()).add(str(value))

    def figure(self) -> Figure:
        return Figure(
            self.query,
            self.count,
            {name: _rows(found) for name, found in self.divisions.items()},
            {member: len(self.distinct.get(member, ())) for member in self.query.distinct},
            self.sample.taken(),
        )


def figures_of(records: Iterable[Placed], queries: Sequence[Query] = QUERIES) -> dict[str, Figure]:
    """What each query finds, by its id, in one pass."""
    countings = [_Counting(query) for query in queries]
    for placed in records:
        for counting in countings:
            if counting.query.takes(placed.fields):
                counting.add(placed)
    return {counting.query.id: counting.figure() for counting in countings}


def _rows(found: Counter[str]) -> list[tuple[str, int]]:
    """The largest first, equal ones by name; what does not fit is summed as `(others)`."""
    ordered = sorted(found.items(), key=lambda row: (-row[1], row[0]))
    rest = sum(count for _, count in ordered[MOST_ROWS:])
    return [*ordered[:MOST_ROWS], *([("(others)", rest)] if rest else [])]
