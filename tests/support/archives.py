"""Archives of the trail by seed, honest ones and tampered ones.

A tamperer can do everything but sign: recompute hashes, recompress, rewrite manifests. An insider has the key as well,
and is caught only by what left the house before.
"""

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import zstandard

from trueport.audit.archive import (
    FIRST_MANIFEST,
    ArchivedRecord,
    Segment,
    checkpoint_object,
    folder_of,
    segment_of,
)
from trueport.audit.canonical import canonical, leaf_hash, parse
from trueport.audit.cosignatures import Cosigner
from trueport.audit.notes import Checkpoint, KeySigner, parse_note, sign_checkpoint, sign_note
from trueport.audit.records import FIRST_PREV
from trueport.audit.tree import Edge
from trueport.audit.verifier import Key, Report, Witness, read_keys, verify

TENANT: Final = "ten_00000000000000000000000001"
ORIGIN: Final = f"trueportai.com/audit/{TENANT}"
SIGNER: Final = KeySigner(ORIGIN, bytes(range(32)))
NEXT: Final = KeySigner(ORIGIN, bytes(range(1, 33)))
"""The key that follows where an archive has a rotation. Nobody who checks is given it."""
OTHER: Final = KeySigner(ORIGIN, bytes(32))
WITNESS: Final = Cosigner("witness.example/w1", bytes(range(2, 34)))
_WITNESS_BEFORE: Final = Cosigner("witness.example/w1", bytes(range(3, 35)))
"""The same witness's key of before, which nobody asks for."""
_OVERLAP_US: Final = 500_000
_HOUR_US: Final = 3_600_000_000

Objects = dict[str, bytes]


@dataclass(frozen=True)
class Archive:
    """The objects of a tenant's part, and what was told outside: earlier checkpoints and receipts."""

    objects: Objects
    records: tuple[ArchivedRecord, ...]
    bounds: tuple[int, ...]
    earlier: tuple[bytes, ...]
    receipts: tuple[str, ...]
    witnesses: tuple[str, ...] = ()

    def names(self) -> Sequence[str]:
        return sorted(self.objects)

    def read(self, name: str) -> bytes:
        return self.objects[name]

    def check(self, *, outside: bool = True) -> Report:
        earlier, receipts = (self.earlier, self.receipts) if outside else ((), ())
        witnesses = [Witness.parse(text) for text in self.witnesses]
        return verify(self, public_keys(), earlier=earlier, receipts=receipts, witnesses=witnesses)

    def named(self, ending: str) -> list[str]:
        return [name for name in self.names() if name.endswith(ending)]


def public_keys() -> list[Key]:
    return read_keys(str(SIGNER.verifier_key))


class _Writer:
    def __init__(self, name: str, *, heartbeat_s: int | None = None) -> None:
        self.name = name
        self._promise = {} if heartbeat_s is None else {"heartbeat_s": heartbeat_s}
        self._wseq = 0
        self._prev = FIRST_PREV

    def write(self, kind: str, rid: str, at_us: int, **fields: object) -> ArchivedRecord:
        own = {"v": 1, "kind": kind, "rid": rid, "tenant": TENANT, "writer": self.name, "wseq": self._wseq}
        data = canonical({**fields, **({} if self._wseq else self._promise), **own, "prev": self._prev, "at": at_us})
        self._wseq += 1
        self._prev = leaf_hash(data).hex()
        return ArchivedRecord(data, at_us)


def rotation(writer: "_Writer", at_us: int, key: KeySigner = NEXT, before: KeySigner = SIGNER) -> ArchivedRecord:
    ends = [{"key_id": before.verifier_key.key_id.hex(), "at": at_us + _OVERLAP_US}]
    said = {"action": "signing_key_rotated", "by": "operator", "key": str(key.verifier_key), "ends": ends}
    return writer.write("admin", "rec_rotation", at_us, **said)


def records_by(draw: random.Random, calls: int, *, rotates: bool = False) -> list[ArchivedRecord]:
    """Calls of several writers, some refused, some abandoned, some still open, one erasure with its content gone.

    With `rotates` the log's key is changed half-way.
    """
    writers = [_Writer(f"host.{number}.ab{number}") for number in range(draw.randint(1, 3))]
    at_us = 1_772_000_000_000_000
    found: list[ArchivedRecord] = []
    for number in range(calls):
        if rotates and number == calls // 2:
            found.append(rotation(writers[0], at_us))
        writer, rid = draw.choice(writers), f"int_{number:05d}"
        at_us += draw.randrange(1, 2_000_000)
        blob = draw.randbytes(draw.randrange(17, 60))
        fate = draw.random()
        kid = "key_gone" if fate > 0.9 else "key_1"
        content = {"kid": kid, "alg": "A256GCM", "ct_sha256": hashlib.sha256(blob).hexdigest(), "ct_len": len(blob)}
        if fate < 0.1:
            found.append(writer.write("outcome", rid, at_us, status=429, model="modèle ✓"))
            continue
        intent = writer.write("intent", rid, at_us, content=content, model='a "model"\n\u0001')
        found.append(intent if kid == "key_gone" else replace(intent, blobs=(blob,)))
        if fate < 0.2:
            found.append(writer.write("attempt", rid, at_us + 5, n=0))
        found.append(writer.write("abandoned" if fate < 0.25 else "outcome", rid, at_us + 9, status=200))
    found.append(writers[0].write("erasure", "era_1", at_us + 10, kids=["key_gone"]))
    found.append(writers[0].write("intent", "int_open", at_us + 11))
    return found


RESTING, DEAD, LOST, HALF_DEAD = "host.21.rest", "host.22.dead", "host.23.lost", "host.24.half"
KEEPER: Final = "host.25.keeper"


def days_before(first_us: int) -> list[ArchivedRecord]:
    """Writers that were gone three days before: one from before there were heartbeats, one that had come to rest, two
    whose ends others have noted, and one that was lost with a call that had not ended."""
    at_us = first_us - 72 * _HOUR_US
    early, keeper = _Writer("host.20.early"), _Writer(KEEPER, heartbeat_s=60)
    resting, dead, lost, half = (_Writer(name, heartbeat_s=60) for name in (RESTING, DEAD, LOST, HALF_DEAD))
    return [
        early.write("outcome", "int_early", at_us, status=200),
        resting.write("outcome", "int_rest", at_us + 1, status=200),
        half.write("intent", "int_half", at_us + 2),
        half.write("heartbeat", "hbt_half", at_us + 3, open=1),
        dead.write("outcome", "int_dead_0", at_us + 4, status=200),
        dead.write("intent", "int_dead_1", at_us + 5),
        lost.write("intent", "int_lost", at_us + 6),
        resting.write("heartbeat", "hbt_rest", at_us + 60_000_000, open=0),
        keeper.write("abandoned", "int_half", at_us + 70_000_000),
        keeper.write("heartbeat", "hbt_half_ended", at_us + 70_000_001, of=HALF_DEAD, records=2),
        keeper.write("abandoned", "int_dead_1", at_us + 70_000_002),
        keeper.write("heartbeat", "hbt_dead_ended", at_us + 70_000_003, of=DEAD, records=2),
        keeper.write("admin", "rec_failed", at_us + 70_000_004, action="key_created", of="rec_asked#admin"),
        keeper.write("heartbeat", "hbt_keeper", at_us + 70_000_005, open=0),
        keeper.write("lost_writer", "rec_lost", at_us + 25 * _HOUR_US, of=LOST, records=1),
        keeper.write("heartbeat", "hbt_keeper_1", at_us + 25 * _HOUR_US + 1, open=0),
    ]


def _place_of_rotation(records: Sequence[ArchivedRecord]) -> int | None:
    return next((at for at, record in enumerate(records) if b"signing_key_rotated" in record.canonical), None)


def signers_of(records: Sequence[ArchivedRecord]) -> list[KeySigner]:
    """Who signs for the log when these are its records."""
    at = _place_of_rotation(records)
    if at is None:
        return [SIGNER]
    ends_us = records[at].at_us + _OVERLAP_US
    return [NEXT] if max(record.at_us for record in records) > ends_us else [SIGNER, NEXT]


def archive_of(
    records: Sequence[ArchivedRecord], bounds: Sequence[int], signer: KeySigner | None = None
) -> tuple[Objects, list[bytes]]:
    """The objects with segments that end at `bounds`, and the notes of their checkpoints.

    signer: who signs everything instead of the log.
    """

    async def write() -> tuple[Objects, list[bytes]]:
        objects: Objects = {}
        notes: list[bytes] = []
        edge, start, previous = Edge(), 0, FIRST_MANIFEST
        for end in bounds:
            part = records[start:end]
            edge = edge.extend(leaf_hash(record.canonical) for record in part)
            signers = [signer] if signer else signers_of(records[:end])
            segment: Segment = await segment_of(
                TENANT, start, part, root=edge.root, previous=previous, origin=ORIGIN, signers=signers
            )
            note = await sign_checkpoint(Checkpoint(ORIGIN, end, edge.root), signers)
            for each in (*segment.objects, checkpoint_object(TENANT, end, note)):
                objects[each.name.removeprefix(f"{folder_of(TENANT)}/")] = each.data
            notes.append(str(note).encode())
            start, previous = end, segment.manifest_sha256
        return objects, notes

    return asyncio.run(write())


def honest(seed: int) -> Archive:
    draw = random.Random(seed)
    records = records_by(draw, draw.randint(4, 14), rotates=seed % 3 == 2)
    if seed % 4 == 1:
        newest = _Writer("host.26.new", heartbeat_s=60)
        records = [*days_before(records[0].at_us), *records, newest.write("outcome", "int_new", records[-1].at_us)]
    bounds = sorted({*draw.sample(range(1, len(records)), min(2, len(records) - 1)), len(records)})
    rotated = _place_of_rotation(records)
    if rotated is not None:
        # A log signs within seconds: with the new key and with the old one.
        bounds = sorted({*bounds, rotated + 1})
    objects, notes = archive_of(records, bounds)
    receipts = tuple(leaf_hash(record.canonical).hex() for record in draw.sample(records, 2))
    archive = Archive(objects, tuple(records), tuple(bounds), tuple(notes[-2:]), receipts)
    return witnessed(archive, bounds if seed % 4 else bounds[:2]) if seed % 2 == 0 else archive


def witnessed(archive: Archive, bounds: Sequence[int]) -> Archive:
    """With the lines of a witness below the checkpoints of these sizes."""
    objects = dict(archive.objects)
    for bound in bounds:
        name = f"checkpoint/{bound:016d}.note"
        text = parse_note(objects[name]).text
        newest_us = max(record.at_us for record in archive.records[:bound])
        at_s = newest_us // 1_000_000 + 5
        objects[name] += f"{_WITNESS_BEFORE.cosign(text, at_s)}{WITNESS.cosign(text, at_s)}".encode()
    return replace(archive, objects=objects, witnesses=(str(WITNESS.witness_key),))


# What a tamperer does. Each gives the archive changed, or None where this one offers nothing to change.
Tampering = Callable[[Archive, random.Random], Archive | None]


def _with(archive: Archive, changes: Mapping[str, bytes | None]) -> Archive:
    objects = {**archive.objects, **changes}
    return replace(archive, objects={name: data for name, data in objects.items() if data is not None})


def _rewritten(archive: Archive, records: Sequence[ArchivedRecord], bounds: Sequence[int]) -> Archive:
    """Everything made anew from other records, but with the signatures that are there."""
    objects, _ = archive_of(records, bounds, OTHER)
    kept = {name: data for name, data in archive.objects.items() if name.startswith("checkpoint/")}
    notes = dict(
        zip(
            sorted(n for n in objects if n.endswith(".note") and "manifest" in n),
            archive.named("json.note"),
            strict=False,
        )
    )
    signed = {name: archive.objects[old] for name, old in notes.items()}
    forged = {name: data for name, data in objects.items() if not name.endswith(".note")}
    return replace(archive, objects={**forged, **signed, **kept})


def _changed_record(record: ArchivedRecord, draw: random.Random) -> ArchivedRecord:
    parsed = parse(record.canonical)
    name = draw.choice(sorted(set(parsed) - {"content"}))
    value = parsed[name]
    parsed[name] = value + 1 if type(value) is int else ["x"] if isinstance(value, list) else f"{value}x"
    return replace(record, canonical=canonical(parsed))


def edits_a_record(archive: Archive, draw: random.Random) -> Archive:
    records = list(archive.records)
    at = draw.randrange(len(records))
    records[at] = _changed_record(records[at], draw)
    return _rewritten(archive, records, archive.bounds)


def deletes_a_record(archive: Archive, draw: random.Random) -> Archive | None:
    records = list(archive.records)
    at = draw.randrange(len(records))
    del records[at]
    bounds = sorted({bound - (bound > at) for bound in archive.bounds} - {0})
    return _rewritten(archive, records, bounds) if len(bounds) == len(archive.bounds) else None


def inserts_a_record(archive: Archive, draw: random.Random) -> Archive:
    records = list(archive.records)
    at = draw.randrange(len(records) + 1)
    forged = _Writer(draw.choice(["host.9.ff", "host.0.ab0"])).write("outcome", "int_forged", 1_772_000_000_500_000)
    records.insert(at, forged)
    bounds = [bound + (bound > at or bound == len(archive.records)) for bound in archive.bounds]
    return _rewritten(archive, records, bounds)


def swaps_two_records(archive: Archive, draw: random.Random) -> Archive:
    records = list(archive.records)
    one, two = draw.sample(range(len(records)), 2)
    records[one], records[two] = records[two], records[one]
    return _rewritten(archive, records, archive.bounds)


def doubles_a_record(archive: Archive, draw: random.Random) -> Archive:
    records = list(archive.records)
    records.append(records[draw.randrange(len(records))])
    return _rewritten(archive, records, [*archive.bounds[:-1], len(records)])


def writes_a_record_another_way(archive: Archive, draw: random.Random) -> Archive:
    records = list(archive.records)
    at = draw.randrange(len(records))
    parsed = json.loads(records[at].canonical)
    loose = draw.choice(
        [json.dumps(parsed, indent=1).replace("\n", " "), json.dumps({**parsed, "extra": 1.5}), "{}", "["]
    )
    records[at] = replace(records[at], canonical=loose.encode())
    return _rewritten(archive, records, archive.bounds)


def cuts_off_the_end(archive: Archive, draw: random.Random) -> Archive | None:
    del draw
    if len(archive.bounds) < 2:
        return None
    start, end = archive.bounds[-2:]
    return _with(archive, {name: None for name in archive.names() if f"/{start:016d}-{end:016d}." in name})


def cuts_off_the_end_and_its_checkpoint(archive: Archive, draw: random.Random) -> Archive | None:
    shorter = cuts_off_the_end(archive, draw)
    return shorter and _with(shorter, {f"checkpoint/{archive.bounds[-1]:016d}.note": None})


def signs_with_another_key(archive: Archive, draw: random.Random) -> Archive:
    del draw
    objects, _ = archive_of(archive.records, archive.bounds, OTHER)
    return replace(archive, objects=objects)


def replaces_a_content(archive: Archive, draw: random.Random) -> Archive | None:
    records = list(archive.records)
    places = [at for at, record in enumerate(records) if record.blobs]
    if not places:
        return None
    at = draw.choice(places)
    records[at] = replace(records[at], blobs=(draw.randbytes(20),))
    return _rewritten(archive, records, archive.bounds)


def passes_another_content_under_the_same_hash(archive: Archive, draw: random.Random) -> Archive | None:
    for name in archive.named(".payload.zst"):
        content = bytearray(zstandard.ZstdDecompressor().stream_reader(archive.objects[name]).read())
        if content:
            # Behind the hash and the length of the first one.
            content[36 + draw.randrange(17)] ^= 1 << draw.randrange(8)
            return _with(archive, {name: zstandard.ZstdCompressor().compress(bytes(content))})
    return None


def leaves_a_content_out(archive: Archive, draw: random.Random) -> Archive | None:
    records = list(archive.records)
    places = [at for at, record in enumerate(records) if record.blobs]
    if not places:
        return None
    at = draw.choice(places)
    records[at] = replace(records[at], blobs=())
    return _rewritten(archive, records, archive.bounds)


def changes_a_checkpoint(archive: Archive, draw: random.Random) -> Archive:
    name = draw.choice([each for each in archive.names() if each.startswith("checkpoint/")])
    lines = archive.objects[name].decode().split("\n")
    if draw.random() < 0.5:
        lines[1] = str(int(lines[1]) + 1)
    else:
        lines[2] = lines[2][::-1].lstrip("=") + "="
    return _with(archive, {name: "\n".join(lines).encode()})


def removes_every_checkpoint(archive: Archive, draw: random.Random) -> Archive:
    del draw
    return _with(archive, {name: None for name in archive.names() if name.startswith("checkpoint/")})


def removes_an_object(archive: Archive, draw: random.Random) -> Archive:
    names = [name for name in archive.names() if not name.startswith("checkpoint/")]
    return _with(archive, {draw.choice(names): None})


def adds_an_object(archive: Archive, draw: random.Random) -> Archive:
    folder = archive.named(".manifest.json")[0].partition("/")[0]
    name = draw.choice([f"{folder}/{7:016d}-{9:016d}.jsonl.zst", "note.txt", f"{folder}/x.manifest.json.note"])
    return _with(archive, {name: b"x"})


def _what_counts(data: bytes) -> int:
    """How many of the bytes matter: of a note with two signatures one is enough, so either may be spoilt."""
    return data.index(b"\n\n\xe2\x80\x94") if data.count(b"\n\xe2\x80\x94 ") > 1 else len(data)


def flips_a_bit(archive: Archive, draw: random.Random) -> Archive:
    name = draw.choice(archive.names())
    data = bytearray(archive.objects[name])
    data[draw.randrange(_what_counts(bytes(data)))] ^= 1 << draw.randrange(8)
    return _with(archive, {name: bytes(data)})


def cuts_an_object_short(archive: Archive, draw: random.Random) -> Archive:
    name = draw.choice(archive.names())
    data = archive.objects[name]
    return _with(archive, {name: data[: draw.randrange(_what_counts(data))]})


def exchanges_two_signatures(archive: Archive, draw: random.Random) -> Archive | None:
    notes = archive.named("json.note")
    if len(notes) < 2:
        return None
    one, two = draw.sample(notes, 2)
    return _with(archive, {one: archive.objects[two], two: archive.objects[one]})


def hides_more_behind_an_object(archive: Archive, draw: random.Random) -> Archive:
    name = draw.choice(archive.named(".zst"))
    content = zstandard.ZstdDecompressor().stream_reader(archive.objects[name]).read()
    return _with(archive, {name: zstandard.ZstdCompressor().compress(content + bytes(1 << 20))})


def announces_a_key_of_his_own(archive: Archive, draw: random.Random) -> Archive | None:
    """And signs with it whatever comes behind; what the log has signed before stays as it is."""
    at = draw.randrange(len(archive.bounds))
    if at == len(archive.bounds) - 1:
        return None
    place = archive.bounds[at]
    writer = _Writer("host.7.ee")
    announced = rotation(writer, archive.records[place - 1].at_us, OTHER)
    records = [*archive.records[:place], announced, *archive.records[place:]]
    bounds = [bound + (bound > place) for bound in archive.bounds]
    objects, _ = archive_of(records, bounds, OTHER)
    kept = {
        name: archive.objects[name]
        for name in archive.objects
        if any(f"-{bound:016d}." in name or f"checkpoint/{bound:016d}." in name for bound in archive.bounds[: at + 1])
    }
    return replace(archive, objects={**objects, **kept}, earlier=(), receipts=())


def insider_announces_a_key_in_a_record_of_another_kind(archive: Archive, draw: random.Random) -> Archive | None:
    if signers_of(archive.records) != [SIGNER]:
        return None
    at_us = archive.records[-1].at_us
    writer, said = _Writer("host.10.ab"), parse(rotation(_Writer("x"), at_us).canonical)
    fields = {name: said[name] for name in ("action", "by", "key", "ends")}
    false = writer.write(draw.choice(["policy", "access"]), "rec_1", at_us, **fields)
    records = [*archive.records, false, writer.write("heartbeat", "hbt_1", at_us + 2 * _OVERLAP_US)]
    end = len(archive.records)
    changed = _by_an_insider(archive, records, [*archive.bounds, end + 1, end + 2])
    return replace(changed, witnesses=())


def thief_goes_on_with_an_ended_key(archive: Archive, draw: random.Random) -> Archive | None:
    if signers_of(archive.records) != [NEXT]:
        return None
    last = archive.bounds[-1]
    ending = draw.choice([f"checkpoint/{last:016d}.note", f"-{last:016d}.manifest.json.note"])
    (name,) = [name for name in archive.objects if name.endswith(ending)]
    said = parse_note(archive.objects[name]).text
    return _with(archive, {name: str(asyncio.run(sign_note(said, [SIGNER]))).encode()})


def _without_witness(data: bytes) -> bytes:
    return b"".join(line for line in data.splitlines(keepends=True) if WITNESS.witness_key.name.encode() not in line)


def removes_what_a_witness_signed(archive: Archive, draw: random.Random) -> Archive | None:
    del draw
    return _with(archive, {name: _without_witness(data) for name, data in archive.objects.items() if "check" in name})


def forges_what_a_witness_signed(archive: Archive, draw: random.Random) -> Archive | None:
    names = [name for name in archive.named(".note") if WITNESS.witness_key.name.encode() in archive.objects[name]]
    if not names:
        return None
    name = draw.choice(names)
    note = parse_note(archive.objects[name])
    line = note.signatures[-1]
    blob = bytearray(line.signature)
    blob[draw.randrange(len(blob))] ^= 1 << draw.randrange(8)
    data = archive.objects[name].replace(str(line).encode(), str(replace(line, signature=bytes(blob))).encode())
    return _with(archive, {name: data})


def takes_a_witness_line_from_another_checkpoint(archive: Archive, draw: random.Random) -> Archive | None:
    del draw
    names = [name for name in archive.named(".note") if WITNESS.witness_key.name.encode() in archive.objects[name]]
    if len(names) < 2:
        return None
    line = str(parse_note(archive.objects[names[0]]).signatures[-1]).encode()
    return _with(archive, {names[-1]: _without_witness(archive.objects[names[-1]]) + line})


def insider_goes_on_for_days_without_the_witness(archive: Archive, draw: random.Random) -> Archive | None:
    if not archive.witnesses:
        return None
    at_us = parse(archive.records[-1].canonical)["at"] + draw.randrange(25, 60) * _HOUR_US
    records = [*archive.records, _Writer("host.8.ff").write("heartbeat", "hbt_1", at_us)]
    longer = _by_an_insider(archive, records, [*archive.bounds, len(records)])
    return replace(witnessed(longer, archive.bounds), bounds=(*archive.bounds, len(records)))


def _by_an_insider(archive: Archive, records: Sequence[ArchivedRecord], bounds: Sequence[int]) -> Archive:
    objects, _ = archive_of(records, bounds)
    return replace(archive, objects=objects)


def insider_edits_a_record_that_was_receipted(archive: Archive, draw: random.Random) -> Archive:
    records = list(archive.records)
    at = next(at for at, each in enumerate(records) if leaf_hash(each.canonical).hex() == archive.receipts[0])
    records[at] = _changed_record(records[at], draw)
    return _by_an_insider(archive, records, archive.bounds)


def insider_rewrites_what_was_checkpointed(archive: Archive, draw: random.Random) -> Archive:
    records = list(archive.records)
    at = draw.randrange(archive.bounds[-2] if len(archive.bounds) > 1 else len(records))
    records[at] = _changed_record(records[at], draw)
    return _by_an_insider(archive, records, archive.bounds)


def insider_drops_the_newest(archive: Archive, draw: random.Random) -> Archive | None:
    del draw
    if len(archive.bounds) < 2:
        return None
    bounds = archive.bounds[:-1]
    return _by_an_insider(archive, archive.records[: bounds[-1]], bounds)


def insider_leaves_an_outcome_out(archive: Archive, draw: random.Random) -> Archive | None:
    """And has the chain renumbered, so that nothing but the missing outcome can be seen without a checkpoint."""
    rid = "int_never_ended"
    late = _Writer("host.5.cc")
    records = [
        late.write("intent", rid, parse(archive.records[0].canonical)["at"] - 30 * _HOUR_US),
        *archive.records,
    ]
    del draw
    return replace(_by_an_insider(archive, records, [bound + 1 for bound in archive.bounds]), earlier=(), receipts=())


def insider_puts_another_tenants_record_in(archive: Archive, draw: random.Random) -> Archive:
    del draw
    foreign = canonical({**parse(_Writer("host.6.dd").write("outcome", "int_f", 1).canonical), "tenant": "ten_2"})
    records = [*archive.records, ArchivedRecord(foreign, 1_772_000_000_000_000)]
    bounds = [*archive.bounds[:-1], len(records)]
    return replace(_by_an_insider(archive, records, bounds), earlier=(), receipts=())


def insider_breaks_a_chain(archive: Archive, draw: random.Random) -> Archive | None:
    records = list(archive.records)
    writers = [parse(record.canonical)["writer"] for record in records]
    # The last record of a writer could be left out unseen by somebody with the key: heartbeats and receipts tell.
    places = [at for at, writer in enumerate(writers) if writer in writers[at + 1 :]]
    del records[draw.choice(places)]
    bounds = [bound for bound in archive.bounds if bound < len(records)] + [len(records)]
    return replace(_by_an_insider(archive, records, bounds), earlier=(), receipts=())


def _without(archive: Archive, writer: str, *rids: str) -> Archive | None:
    """Without these records, which are the last ones of their writer's chain; signed anew."""
    parsed = ((record, parse(record.canonical)) for record in archive.records)
    left = [record for record, said in parsed if said["writer"] != writer or said["rid"] not in rids]
    if len(left) == len(archive.records):
        return None
    return replace(_by_an_insider(archive, left, [len(left)]), earlier=(), receipts=(), bounds=(len(left),))


def insider_cuts_the_end_of_a_dead_writers_chain(archive: Archive, draw: random.Random) -> Archive | None:
    del draw
    return _without(archive, DEAD, "int_dead_1")


def insider_removes_a_dead_writer(archive: Archive, draw: random.Random) -> Archive | None:
    del draw
    return _without(archive, DEAD, "int_dead_0", "int_dead_1")


def insider_cuts_a_chain_before_it_came_to_rest(archive: Archive, draw: random.Random) -> Archive | None:
    del draw
    return _without(archive, RESTING, "hbt_rest")


def insider_cuts_a_chain_at_a_heartbeat_with_an_open_call(archive: Archive, draw: random.Random) -> Archive | None:
    """And everything behind it, but says of all other writers where they ended."""
    del draw
    at = next((at for at, each in enumerate(archive.records) if b"hbt_rest" in each.canonical), None)
    if at is None:
        return None
    at_us, later = archive.records[at].at_us, _Writer("host.27.later")
    left = [
        *archive.records[:at],
        *(later.write("heartbeat", f"hbt_{of}", at_us, of=of, records=1) for of in (RESTING, DEAD, LOST)),
        *(later.write("abandoned", rid, at_us) for rid in ("int_half", "int_dead_1", "int_lost")),
        later.write("outcome", "int_later", archive.records[-1].at_us),
    ]
    return replace(_by_an_insider(archive, left, [len(left)]), earlier=(), receipts=(), bounds=(len(left),))


def insider_hides_that_a_writer_was_lost(archive: Archive, draw: random.Random) -> Archive | None:
    del draw
    return _without(archive, KEEPER, "rec_lost", "hbt_keeper_1")


def insider_removes_a_segment(archive: Archive, draw: random.Random) -> Archive | None:
    if len(archive.bounds) < 3:
        return None
    start, end = archive.bounds[0], archive.bounds[1]
    del draw
    return _with(archive, {name: None for name in archive.names() if f"/{start:016d}-{end:016d}." in name})


def _signed_anew(archive: Archive, name: str, manifest: bytes) -> dict[str, bytes | None]:
    """A manifest with a true signature, as only an insider can make it."""
    digest = hashlib.sha256(manifest).hexdigest()
    note = asyncio.run(sign_note(f"{ORIGIN}\nmanifest\n{digest}\n", [SIGNER, NEXT]))
    return {name: manifest, f"{name}.note": str(note).encode()}


def _last_manifest(archive: Archive) -> tuple[str, dict[str, Any]]:
    name = archive.named(".manifest.json")[-1]
    return name, json.loads(archive.objects[name])


def insider_signs_a_manifest_that_is_none(archive: Archive, draw: random.Random) -> Archive:
    name, manifest = _last_manifest(archive)
    member = draw.choice(["start", "end", "count", "tree", "objects", "previous"])
    other = draw.choice([None, "x", {"size": "x", "root": 1}, [{"name": 1}], 1.5])
    wrong = draw.choice([b"[]", b"{", canonical({each: manifest[each] for each in manifest if each != member})])
    changed = json.dumps({**manifest, member: other}).encode()
    described = {**manifest["objects"][0], draw.choice(sorted(manifest["objects"][0])): None}
    vague = json.dumps({**manifest, "objects": [described, manifest["objects"][1]]}).encode()
    return _with(archive, _signed_anew(archive, name, draw.choice([wrong, changed, vague])))


def insider_signs_a_checkpoint_that_is_none(archive: Archive, draw: random.Random) -> Archive:
    name = f"checkpoint/{archive.bounds[-1]:016d}.note"
    origin, size, root = parse_note(archive.objects[name]).text.split("\n")[:3]
    wrong = [
        (origin, f"0{size}", root),
        (origin, f"+{size}", root),
        (origin, size, root[4:]),
        (f"{origin}x", size, root),
    ]
    text = "".join(f"{line}\n" for line in draw.choice([*wrong, (origin, size)]))
    return _with(archive, {name: str(asyncio.run(sign_note(text, [SIGNER, NEXT]))).encode()})


def insider_signs_another_root(archive: Archive, draw: random.Random) -> Archive:
    name, manifest = _last_manifest(archive)
    manifest["tree"] = {"size": manifest["tree"]["size"], "root": draw.randbytes(32).hex()}
    return _with(archive, _signed_anew(archive, name, canonical(manifest)))


def insider_signs_another_count(archive: Archive, draw: random.Random) -> Archive:
    name, manifest = _last_manifest(archive)
    manifest["count"] += draw.choice([-1, 1])
    return _with(archive, _signed_anew(archive, name, canonical(manifest)))


def insider_forgets_the_manifest_before(archive: Archive, draw: random.Random) -> Archive:
    name, manifest = _last_manifest(archive)
    manifest["previous"] = draw.randbytes(32).hex()
    return _with(archive, _signed_anew(archive, name, canonical(manifest)))


def insider_stores_an_object_that_is_not_whole(archive: Archive, draw: random.Random) -> Archive | None:
    """And describes it as it is, so that only its content can be wrong."""
    name, manifest = _last_manifest(archive)
    at = draw.randrange(2)
    described = manifest["objects"][at]
    content = zstandard.ZstdDecompressor().stream_reader(archive.objects[described["name"]]).read()
    if len(content) < 2:
        return None
    content = content[: -draw.randrange(1, min(36, len(content)))]
    packed = draw.choice([zstandard.ZstdCompressor().compress(content), b"nothing that was compressed"])
    manifest["objects"][at] = {
        "name": described["name"],
        "bytes": len(packed),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "bytes_uncompressed": len(content) + draw.choice([0, 0, 1]),
    }
    signed = _signed_anew(archive, name, canonical(manifest))
    return replace(_with(archive, {**signed, described["name"]: packed}), receipts=(), earlier=())


TAMPERINGS: Final[tuple[Tampering, ...]] = (
    edits_a_record,
    deletes_a_record,
    inserts_a_record,
    swaps_two_records,
    doubles_a_record,
    writes_a_record_another_way,
    cuts_off_the_end,
    cuts_off_the_end_and_its_checkpoint,
    signs_with_another_key,
    replaces_a_content,
    passes_another_content_under_the_same_hash,
    leaves_a_content_out,
    changes_a_checkpoint,
    removes_every_checkpoint,
    removes_an_object,
    adds_an_object,
    flips_a_bit,
    cuts_an_object_short,
    exchanges_two_signatures,
    hides_more_behind_an_object,
    announces_a_key_of_his_own,
    insider_announces_a_key_in_a_record_of_another_kind,
    thief_goes_on_with_an_ended_key,
    removes_what_a_witness_signed,
    forges_what_a_witness_signed,
    takes_a_witness_line_from_another_checkpoint,
    insider_goes_on_for_days_without_the_witness,
    insider_edits_a_record_that_was_receipted,
    insider_rewrites_what_was_checkpointed,
    insider_drops_the_newest,
    insider_leaves_an_outcome_out,
    insider_puts_another_tenants_record_in,
    insider_breaks_a_chain,
    insider_cuts_the_end_of_a_dead_writers_chain,
    insider_removes_a_dead_writer,
    insider_cuts_a_chain_before_it_came_to_rest,
    insider_cuts_a_chain_at_a_heartbeat_with_an_open_call,
    insider_hides_that_a_writer_was_lost,
    insider_removes_a_segment,
    insider_signs_a_manifest_that_is_none,
    insider_signs_a_checkpoint_that_is_none,
    insider_signs_another_root,
    insider_signs_another_count,
    insider_forgets_the_manifest_before,
    insider_stores_an_object_that_is_not_whole,
)


def tampered(seed: int) -> tuple[Tampering, Archive] | None:
    """The seed's tampering and what it leaves; None where it changed nothing."""
    draw = random.Random(f"tampering {seed}")
    before = honest(seed // len(TAMPERINGS))
    tampering = TAMPERINGS[seed % len(TAMPERINGS)]
    after = tampering(before, draw)
    return None if after is None or after.objects == before.objects else (tampering, after)
