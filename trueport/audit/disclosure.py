"""A part of the trail that can be handed out: some records, each with the proof that it is under a signed checkpoint.

records.jsonl        the records' exact bytes, one a line, in their order
proofs.jsonl         for each: its place `seq`, its `leaf`, and the `path` up to the root (RFC 6962, in hex)
records.parquet      the same as a table, where that was asked for: derived, and proof of nothing
checkpoint.note      the signed checkpoint that the proofs lead to
custody.json         who made this, when, why, what was asked for, how many records, the hashes of the files
custody.json.note    the log's signature over it, where the log's keys were at hand
verifier.py          checks all of this with a public key alone
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from trueport.audit import verifier
from trueport.audit.canonical import canonical
from trueport.audit.columnar import PARQUET, parquet_of
from trueport.audit.notes import Signer, sign_note
from trueport.audit.reading import Placed, Reading, records_of
from trueport.audit.tree import Node, node_hash, prove_inclusion
from trueport.audit.verifier import Key, Source
from trueport.kit.clock import rfc3339, to_epoch_us
from trueport.kit.errors import TrueportError

Files = dict[str, bytes]
Format = Literal["jsonl", "parquet"]
"""JSON Lines are always there; a format beside them is derived from them."""


class NothingSigned(TrueportError):
    """No signed checkpoint holds for the archive, so nothing in it can be proved to anybody."""

    code = "nothing_signed"
    status = 409


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are asked for; None is "any". Times are those the records carry, `until` is not included.

    `fields` are members of a record that have to be equal, such as `key_id`, `user`, `model`, `decision` or `rid`.
    """

    since: datetime | None = None
    until: datetime | None = None
    kinds: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()

    def takes(self, record: Mapping[str, Any]) -> bool:
        at_us = record.get("at")
        if type(at_us) is not int:
            return False
        return (
            (self.since is None or at_us >= to_epoch_us(self.since))
            and (self.until is None or at_us < to_epoch_us(self.until))
            and (not self.kinds or record.get("kind") in self.kinds)
            and all(str(record.get(name)) == value for name, value in self.fields)
        )

    def shown(self) -> dict[str, Any]:
        return {
            "from": None if self.since is None else rfc3339(self.since),
            "to": None if self.until is None else rfc3339(self.until),
            "kinds": list(self.kinds),
            "equal": dict(self.fields),
        }


@dataclass(frozen=True, slots=True)
class Custody:
    """Who hands something out, when, to whom and why. Never a secret or a text of a call."""

    made_at: datetime
    made_by: str
    reason: str


class LeafTree:
    """All hashes of the tree over an archive's first records. Implements Nodes. 64 bytes for each record."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.size = len(leaves)
        self._levels: list[Sequence[bytes]] = [leaves]
        while len(below := self._levels[-1]) > 1:
            pairs = zip(below[::2], below[1::2], strict=False)
            self._levels.append([node_hash(left, right) for left, right in pairs])

    def __getitem__(self, node: Node) -> bytes:
        return self._levels[node.level][node.index]

    def proof(self, position: int) -> list[str]:
        """The hashes (hex) that lead from a record to the root. Raises ValueError for a place that is not there."""
        return [each.hex() for each in prove_inclusion(self, position, self.size)]


@dataclass(frozen=True, slots=True)
class Ground:
    """What proofs stand on: the largest checkpoint that holds, and the tree it is about."""

    origin: str
    note: bytes
    root: str
    tree: LeafTree


def ground_of(source: Source, reading: Reading, keys: Sequence[Key]) -> Ground:
    """Raises NothingSigned."""
    found = [each for each in reading.checkpoints if each.holds and not each.outside and each.size <= reading.fixed]
    if not found or not reading.fixed:
        raise NothingSigned("No signed checkpoint holds for this archive: run `trueport audit examine` on it.")
    newest = max(found, key=lambda each: each.size)
    leaves = [bytes.fromhex(each.leaf) for each in _first(records_of(source), newest.size)]
    return Ground(keys[0].name, source.read(newest.place), newest.root, LeafTree(leaves))


def bundle_of(
    records: Sequence[Placed],
    ground: Ground,
    custody: Custody,
    query: Mapping[str, Any],
    *,
    extra: Format = "jsonl",
) -> Files:
    """The files of a bundle, by name, all but the signature. Records behind the checkpoint are left out and counted.

    extra: "parquet" adds the records as a table. Raises FormatUnavailable.
    """
    proved = [each for each in records if each.position < ground.tree.size]
    files: Files = {
        "records.jsonl": b"".join(each.line + b"\n" for each in proved),
        "proofs.jsonl": b"".join(_proof_line(each, ground.tree) for each in proved),
        "checkpoint.note": ground.note,
    }
    derived = {PARQUET: parquet_of(proved)} if extra == "parquet" else {}
    said = canonical(
        {
            "v": 1,
            "what": "disclosure",
            "origin": ground.origin,
            "made_at": rfc3339(custody.made_at),
            "made_by": custody.made_by,
            "reason": custody.reason,
            "query": query,
            "count": len(proved),
            "not_yet_signed": len(records) - len(proved),
            "size": ground.tree.size,
            "root": ground.root,
            "objects": [
                *(_described(name, data) for name, data in files.items()),
                *({**_described(name, data), "derived_from": "records.jsonl"} for name, data in derived.items()),
            ],
        }
    )
    files |= derived
    files["custody.json"] = said
    files["verifier.py"] = VERIFIER.read_bytes()
    return files


def _described(name: str, data: bytes) -> dict[str, object]:
    return {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


async def signed_bundle(files: Files, origin: str, signers: Sequence[Signer], folder: str = "") -> Files:
    """The files with the log's signature over who made the bundle in `folder` and why. Raises what a signer raises."""
    name = f"{folder}custody.json"
    digest = hashlib.sha256(files[name]).hexdigest()
    note = await sign_note(f"{origin}\ncustody\n{digest}\n", signers)
    return {**files, f"{name}.note": str(note).encode()}


VERIFIER: Final = Path(verifier.__file__)


def select(source: Source, wanted: Callable[[Mapping[str, Any]], bool]) -> list[Placed]:
    """The records of an archive that are asked for, in their order."""
    return [placed for placed in records_of(source) if wanted(placed.fields)]


def _proof_line(placed: Placed, tree: LeafTree) -> bytes:
    said = {"seq": placed.position, "leaf": placed.leaf, "path": tree.proof(placed.position)}
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _first(records: Iterable[Placed], count: int) -> Iterable[Placed]:
    for placed in records:
        if placed.position >= count:
            return
        yield placed
