"""Checks an archive of the trail, offline, trusting nobody but the public keys it is given.

This file is a program of its own: it needs Python 3.11, `cryptography` and `zstandard`, and nothing of the gateway, so
that an examiner can read it whole and run it alone. An ARCHIVE is the folder of one, or of a bundle of some records:

    python verifier.py ARCHIVE --key KEYFILE [--checkpoint NOTE] [--receipt LEAF] [--witness KEY] [--json]

Exit codes: 0 nothing is wrong, 1 something is, 2 it could not be checked. What is checked, and what it shows, is said
beside each check; `docs/audit.md` says what it cannot show. Formats: RFC 6962 (tree), C2SP signed-note,
tlog-checkpoint and tlog-cosignature (signatures), RFC 8785 without fractions (records).
"""

import argparse
import base64
import hashlib
import hmac
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import zstandard
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

CLEAN: Final = 0
TAMPERED: Final = 1
UNCHECKED: Final = 2

_MOST_PROBLEMS: Final = 1_000
_MOST_OBJECT_BYTES: Final = 1 << 30
_OPEN_FOR_US: Final = 24 * 3_600 * 1_000_000
_UNWITNESSED_US: Final = 24 * 3_600 * 1_000_000
_SILENT_US: Final = 48 * 3_600 * 1_000_000
_CLOSED: Final = frozenset({"outcome", "abandoned"})
_SEGMENT: Final = re.compile(r"d=(\d{4}-\d\d-\d\d)/(\d{16})-(\d{16})\.manifest\.json")
_EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
_NO_HASH: Final = "0" * 64
_ROTATED: Final = "signing_key_rotated"


class Unreadable(Exception):
    """The archive, or what was given beside it, cannot be read at all. The message says what and where."""


class Source(Protocol):
    """The objects of one tenant's archive by name, such as `checkpoint/0000000000000700.note`."""

    def names(self) -> Sequence[str]: ...
    def read(self, name: str) -> bytes: ...


class Folder:
    """An archive in a folder that holds `audit/v1/t=…`, is it, or is one tenant's part of it."""

    def __init__(self, root: Path) -> None:
        """Raises Unreadable unless there is exactly one tenant's archive at `root`."""
        if not root.is_dir():
            raise Unreadable(f"{root} is not a folder.")
        tenants = [path for pattern in ("audit/v1/t=*", "v1/t=*", "t=*") for path in sorted(root.glob(pattern))]
        if len(tenants) > 1:
            raise Unreadable(f"There are archives of {len(tenants)} tenants in {root}: name the folder of one.")
        self._root = tenants[0] if tenants else root
        if not tenants and not any(root.glob("d=*")) and not (root / "checkpoint").is_dir():
            raise Unreadable(f"There is no archive in {root}.")

    def names(self) -> Sequence[str]:
        return sorted(str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file())

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()


@dataclass(frozen=True, slots=True)
class Problem:
    """`code` is stable; `place` names the object, record or number it was found at."""

    code: str
    place: str
    message: str


@dataclass(slots=True)
class Report:
    """What was checked and what is wrong. `open` are calls that had not ended when the newest record was written.

    `announced` are public keys that were not given: records say that they follow a given one, which has signed these.
    `witnessed` says of how many of the first records each given witness has signed that they are the log's.
    `lost_writers` are those of which a record says that they fell silent for good, so that calls they had begun may
    have ended unrecorded; such calls count as open.
    """

    origin: str = ""
    records: int = 0
    size: int = 0
    root: str = ""
    manifests: int = 0
    checkpoints: int = 0
    blobs: int = 0
    erased: int = 0
    open: int = 0
    announced: list[str] = field(default_factory=list)
    witnessed: dict[str, int] = field(default_factory=dict)
    lost_writers: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    left_out: int = 0

    def add(self, code: str, place: str, message: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(Problem(code, place, message))
        else:
            self.left_out += 1

    @property
    def exit_code(self) -> int:
        return TAMPERED if self.problems else CLEAN


@dataclass(frozen=True, slots=True)
class Key:
    """A public key of the log: its name, its id, and 32 bytes of Ed25519."""

    name: str
    key_id: bytes
    public: bytes

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Raises Unreadable for anything but `name+id+base64`."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        blob = _base64(encoded)
        if not name or len(blob) != 33 or blob[0] != 1:
            raise Unreadable("A key is written name+id+base64 of an Ed25519 key.")
        digest = hashlib.sha256(name.encode() + b"\n" + blob).digest()[:4]
        if digest.hex() != key_id:
            raise Unreadable("A key's id does not belong to its name and bytes.")
        return cls(name, digest, blob[1:])

    def __str__(self) -> str:
        written = base64.b64encode(b"\x01" + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{written}"

    def verifies(self, text: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Witness:
    """A public key of a witness. Its id is another than that of the same key of a log: the algorithm is 0x04."""

    name: str
    key_id: bytes
    public: bytes

    @classmethod
    def parse(cls, text: str) -> "Witness":
        """Raises Unreadable for anything but `name+id+base64`; a key in the form of a log's is read too."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        blob = _base64(encoded)
        if not name or len(blob) != 33 or blob[0] not in (1, 4):
            raise Unreadable("A witness's key is written name+id+base64 of an Ed25519 key.")
        if hashlib.sha256(name.encode() + b"\n" + blob).digest()[:4].hex() != key_id:
            raise Unreadable("A witness's id does not belong to its name and bytes.")
        return cls(name, hashlib.sha256(name.encode() + b"\n\x04" + blob[1:]).digest()[:4], blob[1:])

    def signed_at(self, text: str, blob: bytes) -> int | None:
        """When (µs) it has signed a checkpoint's text; None when it has not. blob: 8 bytes of time, the signature."""
        at_s = int.from_bytes(blob[:8], "big")
        said = f"cosignature/v1\ntime {at_s}\n{text}".encode()
        return at_s * 1_000_000 if Key(self.name, self.key_id, self.public).verifies(said, blob[8:]) else None


@dataclass(frozen=True, slots=True)
class SignedTree:
    """What a checkpoint says: the root of the first `size` records."""

    origin: str
    size: int
    root: bytes


def read_keys(text: str) -> list[Key]:
    """One key a line; empty lines and lines with # are left out. Raises Unreadable."""
    keys = [Key.parse(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not keys:
        raise Unreadable("There is no key in the key file.")
    if len({key.name for key in keys}) > 1:
        raise Unreadable("The keys are those of different logs.")
    return keys


@dataclass(frozen=True, slots=True)
class Note:
    """A text, and for each line below it the name of a signer and what it added: four bytes of id, the signature."""

    text: str
    lines: tuple[tuple[str, bytes], ...]

    def signers(self, keys: Sequence[Key]) -> list[Key]:
        """Those of the keys that have signed. Raises ValueError when a line is said to be one's and is not."""
        found: list[Key] = []
        for name, blob in self.lines:
            for key in keys:
                if name == key.name and blob[:4] == key.key_id:
                    if not key.verifies(self.text.encode(), blob[4:]):
                        raise ValueError("its signature is wrong")
                    found.append(key)
        return found


def split_note(data: bytes) -> Note:
    """What a note consists of; nobody's signature is checked. Raises ValueError that says what is wrong."""
    text, between, tail = data.decode("utf-8").rpartition("\n\n")
    if not between or not tail.endswith("\n"):
        raise ValueError("not a signed note")
    lines: list[tuple[str, bytes]] = []
    for line in tail[:-1].split("\n"):
        if not line.startswith("\u2014 "):
            raise ValueError("not a signed note")
        name, _, encoded = line[2:].partition(" ")
        lines.append((name, _base64(encoded)))
    return Note(f"{text}\n", tuple(lines))


def read_note(data: bytes, keys: Sequence[Key]) -> str:
    """The text of a note that one of the keys has signed. Raises ValueError that says what is wrong."""
    note = split_note(data)
    if not note.signers(keys):
        raise ValueError("none of the given keys has signed it")
    return note.text


def read_tree(text: str, origin: str) -> SignedTree:
    """What a checkpoint says. Raises ValueError that says what is wrong."""
    lines = text.split("\n")
    if len(lines) < 4 or not re.fullmatch(r"0|[1-9][0-9]{0,15}", lines[1]):
        raise ValueError("not a checkpoint")
    root = _base64(lines[2])
    if len(root) != 32 or lines[0] != origin:
        raise ValueError("the checkpoint of another log, or none")
    return SignedTree(lines[0], int(lines[1]), root)


def read_checkpoint(data: bytes, keys: Sequence[Key]) -> SignedTree:
    """Raises ValueError that says what is wrong."""
    return read_tree(read_note(data, keys), keys[0].name)


def verify(
    source: Source,
    keys: Sequence[Key],
    *,
    earlier: Iterable[bytes] = (),
    receipts: Iterable[str] = (),
    witnesses: Iterable[Witness] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Check everything in the archive.

    earlier: checkpoints that were received before, which the archive has to continue. receipts: leaves (hex) that
    calls were given, which have to be in it. witnesses: those that have to have cosigned it. progress is told how many
    records have been checked.
    """
    report = Report(origin=keys[0].name)
    names = set(source.names())
    stated = _checkpoints(source, names, earlier, report)
    walk = _Walk(report, stated, progress)
    _walk_segments(source, names, walk)
    trust = _trust(keys, walk.rotations, stated)
    report.announced = [str(key) for key in trust.keys[len(keys) :]]
    _check_checkpoints(stated, trust, walk.tree.size, report)
    for witness in witnesses:
        _check_witness(witness, stated, walk.tree.size, walk.newest_us, report)
    _check_manifests(walk.manifests, trust, report)
    walk.finish(receipts)
    report.size, report.root = walk.tree.size, walk.tree.root().hex()
    return report


@dataclass(slots=True)
class _Stated:
    """A checkpoint, whoever may have signed it. `holds` and `newest_us` are known once so many records were read."""

    place: str
    note: Note
    tree: SignedTree
    holds: bool | None = None
    newest_us: int = 0


@dataclass(frozen=True, slots=True)
class _SignedManifest:
    """A manifest's note, the hash that it has to name, how many records end with it, and the newest time of these."""

    name: str
    note: bytes
    digest: str
    size: int
    newest_us: int


@dataclass(frozen=True, slots=True)
class _Rotation:
    """What a record says of the keys: the one that signs from now on, and when (µs) others cease to."""

    seq: int
    key: Key
    ends: Mapping[str, int]


@dataclass(slots=True)
class _Trust:
    """The keys that may sign; for those that end, by key id, the place of the record that says so, and when (µs)."""

    keys: list[Key]
    ends: dict[str, tuple[int, int]] = field(default_factory=dict)

    def may_sign(self, signers: Iterable[Key], size: int, newest_us: int) -> bool:
        """Whether one of them had not ended when the newest of the first `size` records was written.

        What comes before the record of its end is the key's whenever it was signed: later signatures cover it too, and
        a writer's clock that ran ahead must not make it look wrong.
        """
        for key in signers:
            seq, end_us = self.ends.get(key.key_id.hex(), (size, 0))
            if size <= seq or newest_us <= end_us:
                return True
        return False


def _trust(keys: Sequence[Key], rotations: Sequence[_Rotation], stated: Sequence[_Stated]) -> _Trust:
    """The given keys, and those that records announce which a trusted key has signed while it was allowed to."""
    trust = _Trust(list(keys))
    for rotation in rotations:
        for each in stated:
            if each.holds and each.tree.size > rotation.seq and _is_signed(each, trust):
                if rotation.key not in trust.keys:
                    trust.keys.append(rotation.key)
                ends = {key_id: (rotation.seq, end_us) for key_id, end_us in rotation.ends.items()}
                trust.ends = {**ends, **trust.ends}
                break
    return trust


def _is_signed(stated: _Stated, trust: _Trust) -> bool:
    try:
        return trust.may_sign(stated.note.signers(trust.keys), stated.tree.size, stated.newest_us)
    except ValueError:
        return False


def _check_checkpoints(stated: Iterable[_Stated], trust: _Trust, size: int, report: Report) -> None:
    """Who signed, that the records are those that were signed, and that none is missing that was signed before."""
    newest = 0
    for each in stated:
        if not _check_signers(each, trust, report):
            continue
        if each.place.startswith("checkpoint/"):
            newest = max(newest, each.tree.size)
        elif each.tree.size > newest:
            said = f"It is about {each.tree.size} records; the newest in the archive is about {newest}."
            report.add("rolled_back", each.place, said)
        if each.holds is None:
            said = f"It is about {each.tree.size} records; the archive ends at {size}."
            report.add("truncated", each.place, said)
        elif not each.holds:
            said = f"The first {each.tree.size} records are not those that were signed."
            report.add("root_differs", each.place, said)
    if not report.checkpoints:
        report.add("checkpoint_missing", "checkpoint/", "Nothing in the archive is signed by the given keys.")


def _check_signers(stated: _Stated, trust: _Trust, report: Report) -> bool:
    """Whether a key of the log has signed at all; one that had ended by then is reported."""
    try:
        signers = stated.note.signers(trust.keys)
    except ValueError as error:
        report.add("checkpoint_unsigned", stated.place, f"The checkpoint does not hold: {error}.")
        return False
    if not signers:
        report.add("checkpoint_unsigned", stated.place, "None of the log's keys has signed it.")
        return False
    if stated.place.startswith("checkpoint/"):
        report.checkpoints += 1
    if not trust.may_sign(signers, stated.tree.size, stated.newest_us):
        report.add("wrong_key", stated.place, "Only a key has signed it that had ended before.")
    return True


def _check_witness(witness: Witness, stated: Iterable[_Stated], size: int, newest_us: int, report: Report) -> None:
    """What the witness has signed, and whether that is true and recent enough for all `size` records.

    Beyond it, only the log's own key says that there is no other history.
    """
    covered, signed_us = 0, 0
    for each in stated:
        for name, blob in each.note.lines:
            if name == witness.name and blob[:4] == witness.key_id:
                at_us = witness.signed_at(each.note.text, blob[4:])
                if at_us is None:
                    report.add("cosignature_wrong", each.place, f"What is said to be signed by {name} is not.")
                elif each.holds:
                    covered, signed_us = max(covered, each.tree.size), max(signed_us, at_us)
    report.witnessed[witness.name] = covered
    if not signed_us:
        report.add("cosignature_missing", witness.name, "It has signed no checkpoint that holds.")
    elif covered < size and newest_us > signed_us + _UNWITNESSED_US:
        said = f"It has signed for the first {covered} records; there are some from more than a day later."
        report.add("cosignature_missing", witness.name, said)


def _check_manifests(manifests: Iterable[_SignedManifest], trust: _Trust, report: Report) -> None:
    for each in manifests:
        place = f"{each.name}.note"
        try:
            note = split_note(each.note)
            signers = note.signers(trust.keys)
        except (ValueError, UnicodeDecodeError) as error:
            report.add("manifest_unsigned", place, f"The manifest's signature does not hold: {error}.")
            continue
        if not signers:
            report.add("manifest_unsigned", place, "None of the log's keys has signed the manifest.")
        elif note.text.split("\n")[:3] != [report.origin, "manifest", each.digest]:
            report.add("manifest_changed", each.name, "The manifest is not the one that was signed.")
        elif not trust.may_sign(signers, each.size, each.newest_us):
            report.add("wrong_key", place, "Only a key has signed it that had ended before.")


BUNDLE: Final = "custody.json"
"""The file by which a bundle of some records is told from an archive of all."""


def verify_bundle(
    folder: Path, keys: Sequence[Key], *, earlier: Iterable[bytes] = (), witnesses: Iterable[Witness] = ()
) -> Report:
    """Check some records that were handed out, each with the proof of its place under a signed checkpoint.

    It shows that the records are those that were signed, and where they stand; whether they are all that were asked
    for, only the whole archive can show, and so whether it continues an earlier checkpoint of another size. `manifests`
    is 1 when the log itself has signed who made the bundle and why. Raises Unreadable.
    """
    report = Report(origin=keys[0].name)
    note = (folder / "checkpoint.note").read_bytes()
    tree = _tree_of(note, keys, "checkpoint.note", report)
    said = (folder / BUNDLE).read_bytes()
    try:
        custody = json.loads(said)
        objects = {each["name"]: (each["bytes"], each["sha256"]) for each in custody["objects"]}
        count = custody["count"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(f"{BUNDLE} does not describe a bundle.") from error
    _check_custody(folder, said, keys, report)
    for name in ("records.jsonl", "proofs.jsonl", "checkpoint.note"):
        data = (folder / name).read_bytes()
        if objects.get(name) != (len(data), hashlib.sha256(data).hexdigest()):
            report.add("object_changed", name, "The file is not the one that was handed out.")
    if tree is not None:
        report.checkpoints, report.size, report.root = 1, tree.size, tree.root.hex()
        _check_disclosed(folder, tree, report)
        stated = [_Stated("checkpoint.note", split_note(note), tree, holds=True)]
        for witness in witnesses:
            _check_witness(witness, stated, tree.size, 0, report)
        for number, data in enumerate(earlier):
            before = _tree_of(data, keys, f"earlier checkpoint {number + 1}", report)
            if before is not None and before.size == tree.size and before.root != tree.root:
                report.add("root_differs", "checkpoint.note", "An earlier checkpoint over as many records differs.")
    if report.records != count:
        report.add("count_differs", BUNDLE, f"It counts {count} records; {report.records} are proved.")
    return report


def _check_custody(folder: Path, said: bytes, keys: Sequence[Key], report: Report) -> None:
    note = folder / f"{BUNDLE}.note"
    if not note.exists():
        return
    try:
        lines = read_note(note.read_bytes(), keys).split("\n")
    except (ValueError, UnicodeDecodeError) as error:
        report.add("manifest_unsigned", note.name, f"The signature does not hold: {error}.")
        return
    if lines[:3] != [keys[0].name, "custody", hashlib.sha256(said).hexdigest()]:
        report.add("manifest_changed", BUNDLE, "It is not the one that was signed.")
    else:
        report.manifests = 1


def _check_disclosed(folder: Path, tree: SignedTree, report: Report) -> None:
    """Each record: its form, that its place is behind the one before, and that the proof leads to the signed root."""
    records = (folder / "records.jsonl").read_bytes().split(b"\n")[:-1]
    proofs = (folder / "proofs.jsonl").read_bytes().split(b"\n")[:-1]
    if len(records) != len(proofs):
        report.add("count_differs", "proofs.jsonl", "There is not one proof for each record.")
    last = -1
    for number, (line, proof) in enumerate(zip(records, proofs, strict=False)):
        try:
            given = json.loads(proof)
            seq, path = given["seq"], [bytes.fromhex(each) for each in given["path"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            report.add("object_changed", f"proof {number}", "It is no proof.")
            continue
        record = _canonical_record(line)
        if record is None:
            report.add("not_canonical", f"record {seq}", "The record is not in the one form that records have.")
        elif record["tenant"] != tree.origin.rpartition("/")[2]:
            report.add("foreign_record", f"record {seq}", "The record is another tenant's.")
        if type(seq) is not int or seq <= last:
            report.add("reordered", f"proof {number}", "Its place is not behind the one before.")
            continue
        last = seq
        if not _leads_to(line, seq, path, tree):
            report.add("root_differs", f"record {seq}", "It is not the record that was signed at this place.")
            continue
        report.records += 1


def _leads_to(line: bytes, seq: int, path: Sequence[bytes], tree: SignedTree) -> bool:
    """Whether the hashes beside the way lead from the record up to the signed root: RFC 9162, section 2.1.3.2."""
    if not 0 <= seq < tree.size:
        return False
    at, last, found = seq, tree.size - 1, hashlib.sha256(b"\x00" + line).digest()
    for beside in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = hashlib.sha256(b"\x01" + beside + found).digest()
            while at and not at & 1:
                at >>= 1
                last >>= 1
        else:
            found = hashlib.sha256(b"\x01" + found + beside).digest()
        at >>= 1
        last >>= 1
    return last == 0 and hmac.compare_digest(found, tree.root)


class _Tree:
    """The right edge of the growing tree."""

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        complete = self.size
        while complete & 1:
            leaf = hashlib.sha256(b"\x01" + self._edge.pop() + leaf).digest()
            complete >>= 1
        self._edge.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        if not self._edge:
            return _EMPTY_ROOT
        above = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            above = hashlib.sha256(b"\x01" + left + above).digest()
        return above


class _Walk:
    """Goes through the records in their order and remembers what has to fit together."""

    def __init__(self, report: Report, stated: Sequence[_Stated], progress: Callable[[int], None]) -> None:
        self.report = report
        self.tree = _Tree()
        self.manifests: list[_SignedManifest] = []
        self.rotations: list[_Rotation] = []
        self.newest_us = 0
        self._tenant = report.origin.rpartition("/")[2]
        self._stated: dict[int, list[_Stated]] = {}
        for each in stated:
            self._stated.setdefault(each.tree.size, []).append(each)
        self._progress = progress
        self._chains: dict[str, dict[int, tuple[str, str]]] = {}
        self._last_wseq: dict[str, int] = {}
        self._promised: set[str] = set()
        self._newest: dict[str, tuple[int, int, bool]] = {}
        self._told_lengths: dict[str, int] = {}
        self._ended: set[str] = set()
        self._lost: set[str] = set()
        self._open: dict[str, tuple[int, int, str]] = {}
        self._names: set[str] = set()
        self._leaves: set[str] = set()
        self._blobs_owed: dict[str, str] = {}
        self._erased_keys: set[str] = set()
        self._keys_of_blobs: dict[str, str] = {}
        self._compare()

    def record(self, line: bytes) -> None:
        """One record, and the roots that were signed behind it."""
        seq = self.tree.size
        leaf = hashlib.sha256(b"\x00" + line).digest()
        self.tree.add(leaf)
        self._leaves.add(leaf.hex())
        self.report.records += 1
        if self.report.records % 1_000 == 0:
            self._progress(self.report.records)
        self._note(line, leaf.hex(), seq)
        self._compare()

    def _note(self, line: bytes, leaf: str, seq: int) -> None:
        """The record's form, its place in its writer's chain, and what it opens, closes or announces."""
        record = _canonical_record(line)
        if record is None:
            self.report.add("not_canonical", f"record {seq}", "The record is not in the one form that records have.")
            return
        if record["tenant"] != self._tenant:
            self.report.add("foreign_record", f"record {seq}", "The record is another tenant's.")
        self._link(record, leaf, seq)
        self._note_end(record)
        self._note_call(record, seq)
        self._note_content(record, seq)
        rotation = _rotation(record, seq, self.report.origin)
        if rotation is not None:
            self.rotations.append(rotation)

    def blob(self, ct_sha256: str, data: bytes, place: str) -> None:
        """A sealed content: it has to be the one that its record describes."""
        self.report.blobs += 1
        if hashlib.sha256(data).hexdigest() != ct_sha256:
            self.report.add("content_changed", place, "A sealed content is not the one its record describes.")
        self._blobs_owed.pop(ct_sha256, None)

    def finish(self, receipts: Iterable[str]) -> None:
        """What can be said only when everything has been read."""
        for writer, chain in self._chains.items():
            self._check_chain(writer, chain)
        self._check_ends()
        for rid, (at_us, seq, writer) in self._open.items():
            if at_us < self.newest_us - _OPEN_FOR_US and writer not in self._lost:
                self.report.add("outcome_missing", f"record {seq}", f"What became of {rid} is not recorded.")
            else:
                self.report.open += 1
        for ct_sha256, place in self._blobs_owed.items():
            if self._keys_of_blobs[ct_sha256] in self._erased_keys:
                self.report.erased += 1
            else:
                self.report.add(
                    "content_missing", place, "A content is missing, and no erasure of its key is recorded."
                )
        for receipt in receipts:
            if receipt.lower() not in self._leaves:
                self.report.add("receipt_missing", receipt, "The record that this receipt promises is not here.")

    def _compare(self) -> None:
        for each in self._stated.get(self.tree.size, ()):
            each.holds = hmac.compare_digest(each.tree.root, self.tree.root())
            each.newest_us = self.newest_us

    def _link(self, record: Mapping[str, Any], leaf: str, seq: int) -> None:
        chain = self._chains.setdefault(record["writer"], {})
        if record["wseq"] in chain:
            self.report.add("chain_doubled", f"record {seq}", "Its writer has two records at one place of its chain.")
        chain[record["wseq"]] = (record["prev"], leaf)
        last = self._last_wseq.get(record["writer"], -1)
        if record["wseq"] < last:
            self.report.add("reordered", f"record {seq}", "It comes after a later record of its own writer.")
        self._last_wseq[record["writer"]] = max(last, record["wseq"])

    def _check_chain(self, writer: str, chain: dict[int, tuple[str, str]]) -> None:
        expected, before = 0, _NO_HASH
        for wseq in sorted(chain):
            prev, leaf = chain[wseq]
            place = f"{writer} {wseq}"
            if wseq != expected:
                self.report.add("chain_gap", place, "Records of this writer before it are missing.")
            elif prev != before:
                self.report.add("chain_changed", place, "It names another record before it than the one that is there.")
            expected, before = wseq + 1, leaf

    def _note_end(self, record: Mapping[str, Any]) -> None:
        """What the record says of how chains stand: its own, or that of a writer which others know to have ended."""
        kind, of = record["kind"], record.get("of")
        if "heartbeat_s" in record:
            self._promised.add(record["writer"])
        is_at_rest = kind == "heartbeat" and record.get("open") == 0
        self._newest[record["writer"]] = (record["wseq"], record["at"], is_at_rest)
        if not isinstance(of, str):
            return
        if kind == "heartbeat":
            self._ended.add(of)
        elif kind == "lost_writer":
            self._lost.add(of)
        else:
            return
        if type(record.get("records")) is int:
            self._told_lengths[of] = max(record["records"], self._told_lengths.get(of, 0))

    def _check_ends(self) -> None:
        """Chains are as long as others say, and none of those that promise heartbeats has gone silent without a word.

        Within two days of the newest record a writer may still be found dead or lost.
        """
        self.report.lost_writers = sorted(self._lost)
        for writer, told_length in self._told_lengths.items():
            length = self._newest[writer][0] + 1 if writer in self._newest else 0
            if length < told_length:
                said = f"Its chain had {told_length} records when it ended; there are {length}."
                self.report.add("chain_cut", writer, said)
        for writer, (wseq, at_us, is_at_rest) in self._newest.items():
            if writer not in self._promised or is_at_rest or writer in self._ended or writer in self._lost:
                continue
            if at_us < self.newest_us - _SILENT_US:
                said = "It promised heartbeats, and neither one nor anybody else says that its chain ends here."
                self.report.add("writer_silent", f"{writer} {wseq}", said)

    def _note_call(self, record: Mapping[str, Any], seq: int) -> None:
        rid, kind = record["rid"], record["kind"]
        name = f"{rid}#{kind}#{record['n']}" if kind == "attempt" else f"{rid}#{kind}"
        if name in self._names:
            self.report.add("record_doubled", f"record {seq}", f"{name} is recorded twice.")
        self._names.add(name)
        self.newest_us = max(self.newest_us, record["at"])
        if kind == "intent":
            self._open[rid] = (record["at"], seq, record["writer"])
        elif kind in _CLOSED:
            self._open.pop(rid, None)
        elif kind == "erasure":
            self._erased_keys.update(key for key in record.get("kids", ()) if isinstance(key, str))

    def _note_content(self, record: Mapping[str, Any], seq: int) -> None:
        content = record.get("content")
        if isinstance(content, dict) and isinstance(content.get("ct_sha256"), str):
            self._blobs_owed[content["ct_sha256"]] = f"record {seq}"
            self._keys_of_blobs[content["ct_sha256"]] = str(content.get("kid"))


def _rotation(record: Mapping[str, Any], seq: int, origin: str) -> _Rotation | None:
    """What the record says of the log's keys; None for every other record, and where it is not said properly."""
    if record["kind"] != "admin" or record.get("action") != _ROTATED:
        return None
    try:
        key = Key.parse(record["key"])
        ends = {str(each["key_id"]): int(each["at"]) for each in record["ends"]}
    except (Unreadable, KeyError, TypeError, ValueError, AttributeError):
        return None
    return _Rotation(seq, key, ends) if key.name == origin else None


def _walk_segments(source: Source, names: set[str], walk: _Walk) -> None:
    """The manifests in their order, each with its objects."""
    report = walk.report
    found = sorted((int(match[2]), name) for name in names if (match := _SEGMENT.fullmatch(name)))
    previous = _NO_HASH
    claimed: set[str] = set()
    for start, name in found:
        data = source.read(name)
        manifest = _manifest(name, data, report)
        if manifest is None:
            continue
        report.manifests += 1
        if start != walk.tree.size or manifest["start"] != start:
            report.add("gap", name, f"It begins at record {start}; {walk.tree.size} come before it.")
        if manifest["previous"] != previous:
            report.add("manifest_chain", name, "It does not continue the manifest before it.")
        previous = hashlib.sha256(data).hexdigest()
        before = walk.tree.size
        for described in manifest["objects"]:
            claimed.add(described["name"])
            content = _object(described, source, names, report)
            if content is not None:
                _read_object(described["name"], content, walk)
        count = walk.tree.size - before
        if count != manifest["count"] or manifest["end"] - manifest["start"] != count:
            report.add("count_differs", name, f"It counts {manifest['count']} records; there are {count}.")
        if manifest["tree"]["size"] == walk.tree.size and manifest["tree"]["root"] != walk.tree.root().hex():
            report.add("root_differs", name, "Its root is not that of the records.")
        if f"{name}.note" in names:
            digest = hashlib.sha256(data).hexdigest()
            note = source.read(f"{name}.note")
            walk.manifests.append(_SignedManifest(name, note, digest, walk.tree.size, walk.newest_us))
        else:
            report.add("manifest_unsigned", name, "The manifest's signature is missing.")
        claimed |= {name, f"{name}.note"}
    for name in sorted(names - claimed):
        if not name.startswith("checkpoint/"):
            report.add("object_unknown", name, "No manifest speaks of this object.")


def _manifest(name: str, data: bytes, report: Report) -> dict[str, Any] | None:
    """A manifest that has all its members; None when it says nothing that counts."""
    try:
        manifest = json.loads(data)
        complete = (
            isinstance(manifest["previous"], str)
            and all(type(manifest[member]) is int for member in ("start", "end", "count"))
            and type(manifest["tree"]["size"]) is int
            and isinstance(manifest["tree"]["root"], str)
            and all(_is_described(each) for each in manifest["objects"])
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        complete = False
    if not complete:
        report.add("manifest_changed", name, "The manifest is not one.")
        return None
    return dict(manifest)


def _is_described(described: Mapping[str, Any]) -> bool:
    return (
        isinstance(described["name"], str)
        and type(described["bytes"]) is int
        and isinstance(described["sha256"], str)
        and type(described["bytes_uncompressed"]) is int
    )


def _object(described: Mapping[str, Any], source: Source, names: set[str], report: Report) -> bytes | None:
    """The uncompressed bytes of an object, as far as they can be had."""
    name = described["name"]
    if name not in names:
        report.add("object_missing", name, "The object that the manifest describes is missing.")
        return None
    data = source.read(name)
    if len(data) != described["bytes"] or hashlib.sha256(data).hexdigest() != described["sha256"]:
        report.add("object_changed", name, "The object is not the one that the manifest describes.")
    most = min(described["bytes_uncompressed"], _MOST_OBJECT_BYTES)
    try:
        # One byte more than it should have is enough to see that it has more.
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(data)) as reader:
            content: bytes = reader.read(most + 1)
    except zstandard.ZstdError:
        report.add("object_changed", name, "The object cannot be decompressed.")
        return None
    if len(content) != described["bytes_uncompressed"]:
        report.add("object_changed", name, "The object has more or fewer bytes than the manifest says.")
        content = content[:most]
    # Manifests of the first versions have no such member.
    digest = hashlib.sha256(content).hexdigest()
    if described.get("sha256_uncompressed", digest) != digest:
        report.add("object_changed", name, "What is in the object is not what the manifest describes.")
    return content


def _read_object(name: str, content: bytes, walk: _Walk) -> None:
    if name.endswith(".jsonl.zst"):
        lines = content.split(b"\n")
        if lines.pop() != b"":
            walk.report.add("object_changed", name, "Its last line is not whole.")
        for line in lines:
            walk.record(line)
    elif name.endswith(".payload.zst"):
        for ct_sha256, data in _blobs(name, content, walk.report):
            walk.blob(ct_sha256, data, name)


def _blobs(name: str, content: bytes, report: Report) -> Iterator[tuple[str, bytes]]:
    """Each is 32 bytes of SHA-256, a length of four bytes (big endian), and the bytes."""
    at = 0
    while at < len(content):
        length = int.from_bytes(content[at + 32 : at + 36], "big")
        data = content[at + 36 : at + 36 + length]
        if len(data) != length or at + 36 > len(content):
            report.add("object_changed", name, "The sealed contents in it are cut short.")
            return
        yield content[at : at + 32].hex(), data
        at += 36 + length


def _checkpoints(source: Source, names: set[str], earlier: Iterable[bytes], report: Report) -> list[_Stated]:
    """Those of the archive and those from outside, as far as they have the form of one."""
    inside = ((name, source.read(name)) for name in sorted(names) if name.startswith("checkpoint/"))
    outside = ((f"earlier checkpoint {number + 1}", data) for number, data in enumerate(earlier))
    stated: list[_Stated] = []
    for place, data in (*inside, *outside):
        try:
            note = split_note(data)
            stated.append(_Stated(place, note, read_tree(note.text, report.origin)))
        except (ValueError, UnicodeDecodeError) as error:
            report.add("checkpoint_unsigned", place, f"The checkpoint does not hold: {error}.")
    return stated


def _tree_of(data: bytes, keys: Sequence[Key], place: str, report: Report) -> SignedTree | None:
    try:
        return read_checkpoint(data, keys)
    except (ValueError, UnicodeDecodeError) as error:
        report.add("checkpoint_unsigned", place, f"The checkpoint does not hold: {error}.")
        return None


def _canonical_record(line: bytes) -> dict[str, Any] | None:
    """The record when the line is the one way to write it, and it has what every record has; else None."""
    try:
        record = json.loads(line, parse_float=_refuse, parse_constant=_refuse)
        written = json.dumps(record, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return None
    if written != line or not isinstance(record, dict):
        return None
    texts = all(isinstance(record.get(member), str) for member in ("kind", "rid", "tenant", "writer", "prev"))
    numbers = all(type(record.get(member)) is int for member in ("v", "wseq", "at"))
    if not texts or not numbers or (record["kind"] == "attempt" and type(record.get("n")) is not int):
        return None
    return record


def _refuse(text: str) -> None:
    raise ValueError(f"a record has no {text}")


def _base64(text: str) -> bytes:
    try:
        blob = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        return b""
    return blob if base64.b64encode(blob).decode() == text else b""


def told(report: Report) -> str:
    """The report for a person: a line for each problem, and one that sums up."""
    lines = [f"{problem.code:<20} {problem.place}: {problem.message}" for problem in report.problems]
    if report.left_out:
        lines.append(f"… and {report.left_out} more")
    lines.append(
        f"{'TAMPERED' if report.problems else 'OK'}: {report.records} records of {report.origin}, "
        f"{report.manifests} manifests, {report.checkpoints} checkpoints, {report.blobs} sealed contents "
        f"({report.erased} erased), {report.open} calls open"
    )
    lines += [f"{name} has signed for the first {size} records" for name, size in report.witnessed.items()]
    lines += [f"lost, with what it may have recorded last: writer {writer}" for writer in report.lost_writers]
    lines += [f"announced in the log, not given: {key}" for key in report.announced]
    return "".join(f"{line}\n" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(description="Check an archive of the audit trail, offline.")
    parser.add_argument("archive", type=Path, help="folder with the archive of one tenant")
    parser.add_argument("--key", type=Path, required=True, help="file with the log's public keys, one a line")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[], help="a checkpoint received earlier")
    parser.add_argument("--receipt", action="append", default=[], help="a receipt (x-trueport-receipt) to look for")
    parser.add_argument(
        "--witness", action="append", default=[], help="public key of a witness that has to have signed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    try:
        keys = read_keys(given.key.read_text("utf-8"))
        earlier = [path.read_bytes() for path in given.checkpoint]
        witnesses = [Witness.parse(text) for text in given.witness]
        if (given.archive / BUNDLE).is_file():
            report = verify_bundle(given.archive, keys, earlier=earlier, witnesses=witnesses)
        else:
            archive = Folder(given.archive)
            report = verify(archive, keys, earlier=earlier, receipts=given.receipt, witnesses=witnesses)
    except (Unreadable, OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"{error}\n")
        return UNCHECKED
    as_json = json.dumps({"ok": not report.problems, **asdict(report)}) + "\n"
    sys.stdout.write(as_json if given.json else told(report))
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
