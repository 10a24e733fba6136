"""Reads an archive of the trail for whoever has questions about it: what the records say, in their order.

The verifier says whether an archive holds; this says what is in it and where. It trusts nothing either: hashes are
made from the bytes, and signatures are looked at with the keys that are given.
"""

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import zstandard

from trueport.audit.canonical import leaf_hash
from trueport.audit.records import FIRST_PREV
from trueport.audit.tree import Edge
from trueport.audit.verifier import Key, Source, read_checkpoint

_DATA: Final = re.compile(r"d=\d{4}-\d\d-\d\d/(\d{16})-\d{16}\.jsonl\.zst")
_MOST_OBJECT_BYTES: Final = 1 << 30
_LATE_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Placed:
    """A record at its place in the order. `fields` is empty where the bytes are no JSON object. `leaf` is hex."""

    position: int
    leaf: str
    line: bytes
    fields: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.fields.get('rid')}#{self.fields.get('kind')}"


def records_of(source: Source) -> Iterator[Placed]:
    """All records of an archive in their order; objects that cannot be read are left out (the verifier names them)."""
    found = sorted((int(match[1]), name) for name in source.names() if (match := _DATA.fullmatch(name)))
    position = 0
    for _, name in found:
        try:
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(source.read(name))) as at:
                content: bytes = at.read(_MOST_OBJECT_BYTES)
        except zstandard.ZstdError:
            continue
        for line in content.split(b"\n")[:-1]:
            yield Placed(position, leaf_hash(line).hex(), line, _fields(line))
            position += 1


@dataclass(frozen=True, slots=True)
class SeenCheckpoint:
    """A signed checkpoint and whether the records are those it speaks of.

    `holds` is None where it speaks of more records than there are. `outside`: it did not come with the archive.
    `newest_us` is the largest time of the records under it.
    """

    place: str
    size: int
    root: str
    key_ids: tuple[str, ...]
    outside: bool
    holds: bool | None = None
    newest_us: int = 0


@dataclass(frozen=True, slots=True)
class ChainBreak:
    """Where a writer's own chain does not hold.

    gap: the writer's records [wseq, until) are missing before the record at `position`. changed: the record at
    `position` names another hash (`named`) than the one that the record at `before` has (`leaf`). doubled: a second
    record for one place of the chain is at `position`.
    """

    what: str
    writer: str
    wseq: int
    position: int
    until: int = 0
    before: int | None = None
    leaf: str = ""
    named: str = ""


@dataclass(slots=True)
class SealedUse:
    """What was sealed under one key of contents: how often, and the first and last place and time."""

    contents: int = 0
    first: int = 0
    last: int = 0
    first_us: int = 0
    last_us: int = 0
    destroyed_at: int | None = None


@dataclass(slots=True)
class Reading:
    """What an archive says. Positions count from 0; times are µs since 1970, as the writers' clocks had them.

    `several` are the calls with more than one record, in the order of their first; `late` the records that came more
    than an hour after a newer one.
    """

    records: int = 0
    root: str = ""
    first_us: int = 0
    last_us: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    writers: dict[str, int] = field(default_factory=dict)
    breaks: list[ChainBreak] = field(default_factory=list)
    checkpoints: list[SeenCheckpoint] = field(default_factory=list)
    several: dict[str, list[tuple[int, str, str]]] = field(default_factory=dict)
    deeds: list[tuple[int, str, Mapping[str, Any]]] = field(default_factory=list)
    sealed: dict[str, SealedUse] = field(default_factory=dict)
    late: list[tuple[int, int]] = field(default_factory=list)

    @property
    def fixed(self) -> int:
        """How many of the first records a signed checkpoint holds for, and none contradicts."""
        return max((each.size for each in self._undisputed()), default=0)

    @property
    def fixed_outside(self) -> int:
        """The same, for checkpoints that did not come with the archive."""
        return max((each.size for each in self._undisputed() if each.outside), default=0)

    @property
    def forked(self) -> list[SeenCheckpoint]:
        """Checkpoints that fail although one over more records holds: the keys have signed two histories."""
        most = max((each.size for each in self.checkpoints if each.holds), default=0)
        return [each for each in self.checkpoints if each.holds is False and each.size <= most]

    def _undisputed(self) -> list[SeenCheckpoint]:
        # One that holds over more than one that fails belongs to a history that was written anew.
        first = min((each.size for each in self.checkpoints if each.holds is False), default=None)
        return [each for each in self.checkpoints if each.holds and (first is None or each.size < first)]


DEEDS: Final = frozenset({"admin", "auth", "policy", "erasure", "hold", "export", "access"})


def read(
    source: Source,
    keys: Sequence[Key],
    *,
    earlier: Iterable[bytes] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Reading:
    """Go through an archive once. Nothing is raised for what is broken in it: that is what is being looked for."""
    waiting = sorted(_checkpoints(source, keys, earlier), key=lambda each: each.size, reverse=True)
    reading, edge = Reading(), Edge()
    chains: dict[str, dict[int, tuple[int, str, str]]] = {}
    calls: dict[str, list[tuple[int, str, str]]] = {}
    _settle(waiting, edge, reading)
    for placed in records_of(source):
        edge = edge.extend([bytes.fromhex(placed.leaf)])
        _note(placed, reading, chains, calls)
        if reading.records % 1_000 == 0:
            progress(reading.records)
        _settle(waiting, edge, reading)
    reading.checkpoints += reversed(waiting)
    reading.root = edge.root.hex()
    reading.several = {rid: seen for rid, seen in calls.items() if len(seen) > 1}
    for writer, chain in sorted(chains.items()):
        reading.writers[writer] = len(chain)
        reading.breaks += _gaps(writer, chain)
    reading.breaks.sort(key=lambda each: each.position)
    return reading


def _note(
    placed: Placed,
    reading: Reading,
    chains: dict[str, dict[int, tuple[int, str, str]]],
    calls: dict[str, list[tuple[int, str, str]]],
) -> None:
    reading.records += 1
    record, position = placed.fields, placed.position
    kind, rid, at_us = record.get("kind"), record.get("rid"), record.get("at")
    writer, wseq, prev = record.get("writer"), record.get("wseq"), record.get("prev")
    if not (isinstance(kind, str) and isinstance(rid, str) and type(at_us) is int):
        return
    reading.kinds[kind] = reading.kinds.get(kind, 0) + 1
    if at_us < reading.last_us - _LATE_US:
        reading.late.append((position, reading.last_us - at_us))
    reading.first_us = at_us if not reading.first_us else min(reading.first_us, at_us)
    reading.last_us = max(reading.last_us, at_us)
    if kind in DEEDS:
        reading.deeds.append((position, placed.leaf, record))
    else:
        calls.setdefault(rid, []).append((position, kind, placed.leaf))
    _note_sealed(record, position, at_us, reading)
    if isinstance(writer, str) and type(wseq) is int and isinstance(prev, str):
        chain = chains.setdefault(writer, {})
        if wseq in chain:
            reading.breaks.append(ChainBreak("doubled", writer, wseq, position, before=chain[wseq][0]))
        chain[wseq] = (position, prev, placed.leaf)


def _note_sealed(record: Mapping[str, Any], position: int, at_us: int, reading: Reading) -> None:
    content = record.get("content")
    kid = content.get("kid") if isinstance(content, dict) else None
    if isinstance(kid, str):
        use = reading.sealed.setdefault(kid, SealedUse(first=position, first_us=at_us))
        use.contents += 1
        use.last, use.last_us = position, at_us
    kids = record.get("kids") if record.get("kind") == "erasure" else None
    for gone in kids if isinstance(kids, list) else ():
        reading.sealed.setdefault(str(gone), SealedUse(first=position, first_us=at_us)).destroyed_at = position


def _gaps(writer: str, chain: Mapping[int, tuple[int, str, str]]) -> Iterator[ChainBreak]:
    expected, before_leaf, before = 0, FIRST_PREV, None
    for wseq in sorted(chain):
        position, prev, leaf = chain[wseq]
        if wseq != expected:
            yield ChainBreak("gap", writer, expected, position, until=wseq, before=before)
        elif prev != before_leaf:
            yield ChainBreak("changed", writer, wseq, position, before=before, leaf=before_leaf, named=prev)
        expected, before_leaf, before = wseq + 1, leaf, position


def _settle(waiting: list[SeenCheckpoint], edge: Edge, reading: Reading) -> None:
    """Compare the checkpoints that are about as many records as have been read."""
    while waiting and waiting[-1].size == edge.size:
        seen = waiting.pop()
        holds = seen.root == edge.root.hex()
        reading.checkpoints.append(
            SeenCheckpoint(seen.place, seen.size, seen.root, seen.key_ids, seen.outside, holds, reading.last_us)
        )


def _checkpoints(source: Source, keys: Sequence[Key], earlier: Iterable[bytes]) -> Iterator[SeenCheckpoint]:
    """Those that one of the keys has signed, with the ids of all keys that did."""
    inside = ((name, source.read(name), False) for name in source.names() if name.startswith("checkpoint/"))
    outside = ((f"earlier checkpoint {number + 1}", data, True) for number, data in enumerate(earlier))
    for place, data, is_outside in (*inside, *outside):
        try:
            tree = read_checkpoint(data, keys)
        except (ValueError, UnicodeDecodeError):
            continue
        key_ids = tuple(key.key_id.hex() for key in keys if _has_signed(key, data))
        yield SeenCheckpoint(place, tree.size, tree.root.hex(), key_ids, is_outside)


def _has_signed(key: Key, data: bytes) -> bool:
    try:
        read_checkpoint(data, [key])
    except (ValueError, UnicodeDecodeError):
        return False
    return True


def _fields(line: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
