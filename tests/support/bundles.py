"""Bundles of some records by seed, honest ones and ones that somebody changed on the way."""

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.support.archives import (
    ORIGIN,
    OTHER,
    SIGNER,
    WITNESS,
    Archive,
    honest,
    insider_puts_another_tenants_record_in,
    public_keys,
)
from trueport.audit.canonical import canonical
from trueport.audit.disclosure import Custody, Files, Wanted, bundle_of, ground_of, select, signed_bundle
from trueport.audit.notes import Checkpoint, parse_note, sign_checkpoint, sign_note
from trueport.audit.reading import read

CUSTODY: Final = Custody(datetime(2026, 3, 1, tzinfo=UTC), "usr_1", "request of an authority")
_DESCRIBED: Final = ("records.jsonl", "proofs.jsonl", "checkpoint.note")


@dataclass(frozen=True)
class Bundle:
    """The files, and what was told outside."""

    files: Files
    earlier: tuple[bytes, ...] = ()
    witnesses: tuple[str, ...] = ()

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        for name in ("custody.json", "custody.json.note", *_DESCRIBED):
            if name in self.files:
                (folder / name).write_bytes(self.files[name])
        return folder


Change = Callable[[Bundle, random.Random], Bundle | None]


def honest_bundle(seed: int, archive: Archive | None = None, share: float = 0.7) -> Bundle:
    """Some records of the seed's archive; the custody of every third is signed by nobody."""
    archive = archive or honest(seed)
    draw = random.Random(f"bundle {seed}")
    ground = ground_of(archive, read(archive, public_keys()), public_keys())
    found = select(archive, lambda record: bool(record) and draw.random() < share)
    files = bundle_of(found, ground, CUSTODY, Wanted().shown())
    if seed % 3:
        files = asyncio.run(signed_bundle(files, ORIGIN, [SIGNER]))
    seen = WITNESS.witness_key.name.encode() in files["checkpoint.note"]
    return Bundle(files, (ground.note,), (str(WITNESS.witness_key),) if seen else ())


def _with(bundle: Bundle, **files: bytes) -> Bundle:
    names = {"records": "records.jsonl", "proofs": "proofs.jsonl", "note": "checkpoint.note", "custody": "custody.json"}
    return replace(bundle, files={**bundle.files, **{names[name]: data for name, data in files.items()}})


def _described_again(bundle: Bundle, count: int | None = None) -> Bundle:
    """With a custody that fits the files, as somebody without the key can write it."""
    files = {name: data for name, data in bundle.files.items() if name != "custody.json.note"}
    custody = json.loads(files["custody.json"])
    custody["objects"] = [
        {"name": name, "bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
        for name in _DESCRIBED
    ]
    custody["count"] = len(files["records.jsonl"].splitlines()) if count is None else count
    return replace(bundle, files={**files, "custody.json": canonical(custody)})


def _lines(bundle: Bundle, name: str) -> list[bytes]:
    return bundle.files[f"{name}.jsonl"].splitlines(keepends=True)


def edits_a_record(bundle: Bundle, draw: random.Random) -> Bundle | None:
    lines = _lines(bundle, "records")
    if not lines:
        return None
    at = draw.randrange(len(lines))
    lines[at] = lines[at].replace(b'"at":1', b'"at":2', 1)
    return _described_again(_with(bundle, records=b"".join(lines)))


def writes_a_record_another_way(bundle: Bundle, draw: random.Random) -> Bundle | None:
    lines = _lines(bundle, "records")
    if not lines:
        return None
    lines[draw.randrange(len(lines))] = draw.choice([b"{}\n", b"[\n", b'{"v": 1}\n'])
    return _described_again(_with(bundle, records=b"".join(lines)))


def swaps_two_records_and_their_proofs(bundle: Bundle, draw: random.Random) -> Bundle | None:
    records, proofs = _lines(bundle, "records"), _lines(bundle, "proofs")
    if len(records) < 2:
        return None
    one, two = draw.sample(range(len(records)), 2)
    for lines in (records, proofs):
        lines[one], lines[two] = lines[two], lines[one]
    return _described_again(_with(bundle, records=b"".join(records), proofs=b"".join(proofs)))


def doubles_a_record_and_its_proof(bundle: Bundle, draw: random.Random) -> Bundle | None:
    records, proofs = _lines(bundle, "records"), _lines(bundle, "proofs")
    if not records:
        return None
    at = draw.randrange(len(records))
    for lines in (records, proofs):
        lines.insert(at, lines[at])
    return _described_again(_with(bundle, records=b"".join(records), proofs=b"".join(proofs)))


def leaves_a_record_out(bundle: Bundle, draw: random.Random) -> Bundle | None:
    records, proofs = _lines(bundle, "records"), _lines(bundle, "proofs")
    if not records:
        return None
    at = draw.randrange(len(records))
    del records[at]
    del proofs[at]
    return _with(bundle, records=b"".join(records), proofs=b"".join(proofs))


def leaves_a_proof_out(bundle: Bundle, draw: random.Random) -> Bundle | None:
    proofs = _lines(bundle, "proofs")
    if not proofs:
        return None
    del proofs[draw.randrange(len(proofs))]
    return _described_again(_with(bundle, proofs=b"".join(proofs)), count=len(proofs))


def _proof_changed(bundle: Bundle, draw: random.Random, change: Callable[[dict[str, Any]], object]) -> Bundle | None:
    proofs = _lines(bundle, "proofs")
    if not proofs:
        return None
    at = draw.randrange(len(proofs))
    proof = json.loads(proofs[at])
    told = change(proof)
    proofs[at] = json.dumps(proof if told is None else told).encode() + b"\n"
    return _described_again(_with(bundle, proofs=b"".join(proofs)))


def proves_another_place(bundle: Bundle, draw: random.Random) -> Bundle | None:
    step = draw.choice([-1, 1, -1_000, 1_000, 1 << 60])
    return _proof_changed(bundle, draw, lambda proof: proof.update(seq=proof["seq"] + step))


def proves_a_place_that_is_none(bundle: Bundle, draw: random.Random) -> Bundle | None:
    wrong = draw.choice(["1", None, 1.5, True, [1]])
    return _proof_changed(bundle, draw, lambda proof: proof.update(seq=wrong))


def sends_a_proof_that_is_none(bundle: Bundle, draw: random.Random) -> Bundle | None:
    wrong = draw.choice([[], {"seq": 0}, {"seq": 0, "path": ["x"]}, {"seq": 0, "path": [1]}, 7, "seq"])
    return _proof_changed(bundle, draw, lambda _: wrong)


def changes_a_path(bundle: Bundle, draw: random.Random) -> Bundle | None:
    kind = draw.randrange(4)

    def change(proof: dict[str, Any]) -> None:
        path = proof["path"]
        if kind == 0 and path:
            path.pop(draw.randrange(len(path)))
        elif kind == 1 and path:
            at = draw.randrange(len(path))
            path[at] = draw.randbytes(32).hex()
        elif kind == 2 and len(path) > 1:
            path.reverse()
        else:
            path.insert(draw.randrange(len(path) + 1), draw.randbytes(32).hex())

    return _proof_changed(bundle, draw, change)


def counts_another_number(bundle: Bundle, draw: random.Random) -> Bundle:
    return _described_again(bundle, count=len(_lines(bundle, "records")) + draw.choice([-1, 1]))


def edits_the_custody(bundle: Bundle, draw: random.Random) -> Bundle | None:
    del draw
    if "custody.json.note" not in bundle.files:
        return None
    return _with(bundle, custody=bundle.files["custody.json"].replace(b"usr_1", b"usr_2"))


def signs_the_custody_with_another_key(bundle: Bundle, draw: random.Random) -> Bundle:
    del draw
    return replace(bundle, files=asyncio.run(signed_bundle(bundle.files, ORIGIN, [OTHER])))


def passes_another_note_for_the_custodys(bundle: Bundle, draw: random.Random) -> Bundle:
    digest = hashlib.sha256(bundle.files["custody.json"]).hexdigest()
    other = draw.choice(
        [f"{ORIGIN}\nmanifest\n{digest}\n", f"{ORIGIN}\ncustody\n{'0' * 64}\n", f"x\ncustody\n{digest}\n"]
    )
    note = str(asyncio.run(sign_note(other, [SIGNER]))).encode()
    return replace(bundle, files={**bundle.files, "custody.json.note": draw.choice([note, b"no note", b"\xff"])})


def flips_a_bit(bundle: Bundle, draw: random.Random) -> Bundle | None:
    name = draw.choice(_DESCRIBED)
    data = bytearray(bundle.files[name])
    if not data:
        return None
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return replace(bundle, files={**bundle.files, name: bytes(data)})


def keeps_the_length_of_a_changed_file(bundle: Bundle, draw: random.Random) -> Bundle | None:
    """Changed where the proofs do not look: the custody's hash alone tells."""
    del draw
    proofs = bundle.files["proofs.jsonl"]
    changed = proofs.replace(b'"leaf":"', b'"leaf":"f', 1).replace(b'","path"', b'"  ,"path"', 1)
    return _with(bundle, proofs=changed)


def insider_shows_another_tree(bundle: Bundle, draw: random.Random) -> Bundle:
    """Signed by the log itself, and contradicted by a checkpoint that left the house before."""
    told = Checkpoint.parse(parse_note(bundle.files["checkpoint.note"]).text)
    other = Checkpoint(told.origin, told.size, draw.randbytes(32))
    note = str(asyncio.run(sign_checkpoint(other, [SIGNER]))).encode()
    return replace(bundle, earlier=(*bundle.earlier, note))


def insider_shows_another_tenants_record(bundle: Bundle, draw: random.Random) -> Bundle:
    del bundle
    return honest_bundle(1, insider_puts_another_tenants_record_in(honest(3 * draw.randrange(20)), draw), share=1.0)


def removes_what_a_witness_signed(bundle: Bundle, draw: random.Random) -> Bundle | None:
    del draw
    name = WITNESS.witness_key.name.encode()
    lines = bundle.files["checkpoint.note"].splitlines(keepends=True)
    left = b"".join(line for line in lines if name not in line)
    return _described_again(_with(bundle, note=left)) if bundle.witnesses else None


def passes_a_foreign_line_for_a_witnesss(bundle: Bundle, draw: random.Random) -> Bundle | None:
    if not bundle.witnesses:
        return None
    note = parse_note(bundle.files["checkpoint.note"])
    line = note.signatures[-1]
    forged = replace(line, signature=line.signature[:8] + draw.randbytes(64))
    return _described_again(
        _with(bundle, note=bundle.files["checkpoint.note"].replace(str(line).encode(), str(forged).encode()))
    )


CHANGES: Final[Sequence[Change]] = (
    edits_a_record,
    writes_a_record_another_way,
    swaps_two_records_and_their_proofs,
    doubles_a_record_and_its_proof,
    leaves_a_record_out,
    leaves_a_proof_out,
    proves_another_place,
    proves_a_place_that_is_none,
    sends_a_proof_that_is_none,
    changes_a_path,
    counts_another_number,
    edits_the_custody,
    signs_the_custody_with_another_key,
    passes_another_note_for_the_custodys,
    flips_a_bit,
    keeps_the_length_of_a_changed_file,
    insider_shows_another_tree,
    insider_shows_another_tenants_record,
    removes_what_a_witness_signed,
    passes_a_foreign_line_for_a_witnesss,
)


def changed_bundle(seed: int) -> tuple[Change, Bundle] | None:
    """The seed's change and what it leaves; None where it changed nothing."""
    change = CHANGES[seed % len(CHANGES)]
    before = honest_bundle(seed // len(CHANGES))
    after = change(before, random.Random(f"change {seed}"))
    return None if after is None or after == before else (change, after)
