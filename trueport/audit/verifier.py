"""Checks an archive of the trail, offline, trusting nobody but the public keys it is given.

This file is a program of its own: it needs Python 3.11, `cryptography` and `zstandard`, and nothing of the gateway, so
that an examiner can read it whole and run it alone. An ARCHIVE is the folder of one, or of a bundle of some records:

    python verifier.py ARCHIVE --key KEYFILE [--checkpoint NOTE] [--receipt LEAF] [--json]

Exit codes: 0 nothing is wrong, 1 something is, 2 it could not be checked. What is checked, and what it shows, is said
beside each check; `docs/audit.md` says what it cannot show. Formats: RFC 6962 (tree), C2SP signed-note and
tlog-checkpoint (signatures), RFC 8785 without fractions (records).
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
_CLOSED: Final = frozenset({"outcome", "abandoned"})
_SEGMENT: Final = re.compile(r"d=(\d{4}-\d\d-\d\d)/(\d{16})-(\d{16})\.manifest\.json")
_EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
_NO_HASH: Final = "0" * 64


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
    """What was checked and what is wrong. `open` are calls that had not ended when the newest record was written."""

    origin: str = ""
    records: int = 0
    size: int = 0
    root: str = ""
    manifests: int = 0
    checkpoints: int = 0
    blobs: int = 0
    erased: int = 0
    open: int = 0
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

    def verifies(self, text: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


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


def read_note(data: bytes, keys: Sequence[Key]) -> str:
    """The text of a note that one of the keys has signed. Raises ValueError that says what is wrong."""
    whole = data.decode("utf-8")
    text, between, tail = whole.rpartition("\n\n")
    if not between or not tail.endswith("\n"):
        raise ValueError("not a signed note")
    text += "\n"
    signed = False
    for line in tail[:-1].split("\n"):
        if not line.startswith("\u2014 "):
            raise ValueError("not a signed note")
        name, _, encoded = line[2:].partition(" ")
        blob = _base64(encoded)
        for key in keys:
            if name == key.name and blob[:4] == key.key_id:
                if not key.verifies(text.encode(), blob[4:]):
                    raise ValueError("its signature is wrong")
                signed = True
    if not signed:
        raise ValueError("none of the given keys has signed it")
    return text


def read_checkpoint(data: bytes, keys: Sequence[Key]) -> SignedTree:
    """Raises ValueError that says what is wrong."""
    lines = read_note(data, keys).split("\n")
    if len(lines) < 4 or not re.fullmatch(r"0|[1-9][0-9]{0,15}", lines[1]):
        raise ValueError("not a checkpoint")
    root = _base64(lines[2])
    if len(root) != 32 or lines[0] != keys[0].name:
        raise ValueError("the checkpoint of another log, or none")
    return SignedTree(lines[0], int(lines[1]), root)


def verify(
    source: Source,
    keys: Sequence[Key],
    *,
    earlier: Iterable[bytes] = (),
    receipts: Iterable[str] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Check everything in the archive.

    earlier: checkpoints that were received before, which the archive has to continue. receipts: leaves (hex) that
    calls were given, which have to be in it. progress is told how many records have been checked.
    """
    report = Report(origin=keys[0].name)
    names = set(source.names())
    wanted = _signed_trees(source, names, keys, report)
    for number, data in enumerate(earlier):
        tree = _tree_of(data, keys, f"earlier checkpoint {number + 1}", report)
        if tree is not None:
            wanted.setdefault(tree.size, []).append((f"earlier checkpoint {number + 1}", tree.root))
    walk = _Walk(report, keys[0].name.rpartition("/")[2], wanted, progress)
    _walk_segments(source, names, keys, walk)
    walk.finish(receipts)
    report.size, report.root = walk.tree.size, walk.tree.root().hex()
    return report


BUNDLE: Final = "custody.json"
"""The file by which a bundle of some records is told from an archive of all."""


def verify_bundle(folder: Path, keys: Sequence[Key]) -> Report:
    """Check some records that were handed out, each with the proof of its place under a signed checkpoint.

    It shows that the records are those that were signed, and where they stand; whether they are all that were asked
    for, only the whole archive can show. `manifests` is 1 when the log itself has signed who made the bundle and why.
    Raises Unreadable.
    """
    report = Report(origin=keys[0].name)
    tree = _tree_of((folder / "checkpoint.note").read_bytes(), keys, "checkpoint.note", report)
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

    def __init__(
        self,
        report: Report,
        tenant: str,
        wanted: dict[int, list[tuple[str, bytes]]],
        progress: Callable[[int], None],
    ) -> None:
        self.report = report
        self.tree = _Tree()
        self._tenant = tenant
        self._wanted = wanted
        self._progress = progress
        self._chains: dict[str, dict[int, tuple[str, str]]] = {}
        self._last_wseq: dict[str, int] = {}
        self._open: dict[str, tuple[int, int]] = {}
        self._names: set[str] = set()
        self._newest_us = 0
        self._leaves: set[str] = set()
        self._blobs_owed: dict[str, str] = {}
        self._erased_keys: set[str] = set()
        self._keys_of_blobs: dict[str, str] = {}
        self._check_roots()

    def record(self, line: bytes) -> None:
        """One record: its form, its place in its writer's chain, and what it opens or closes."""
        seq = self.tree.size
        leaf = hashlib.sha256(b"\x00" + line).digest()
        self.tree.add(leaf)
        self._check_roots()
        self._leaves.add(leaf.hex())
        self.report.records += 1
        if self.report.records % 1_000 == 0:
            self._progress(self.report.records)
        record = _canonical_record(line)
        if record is None:
            self.report.add("not_canonical", f"record {seq}", "The record is not in the one form that records have.")
            return
        if record["tenant"] != self._tenant:
            self.report.add("foreign_record", f"record {seq}", "The record is another tenant's.")
        self._link(record, leaf.hex(), seq)
        self._note_call(record, seq)
        self._note_content(record, seq)

    def blob(self, ct_sha256: str, data: bytes, place: str) -> None:
        """A sealed content: it has to be the one that its record describes."""
        self.report.blobs += 1
        if hashlib.sha256(data).hexdigest() != ct_sha256:
            self.report.add("content_changed", place, "A sealed content is not the one its record describes.")
        self._blobs_owed.pop(ct_sha256, None)

    def finish(self, receipts: Iterable[str]) -> None:
        """What can be said only when everything has been read."""
        for size, trees in sorted(self._wanted.items()):
            for place, _ in trees:
                self.report.add(
                    "truncated", place, f"It is about {size} records; the archive ends at {self.tree.size}."
                )
        for writer, chain in self._chains.items():
            self._check_chain(writer, chain)
        for rid, (at_us, seq) in self._open.items():
            if at_us < self._newest_us - _OPEN_FOR_US:
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

    def _check_roots(self) -> None:
        for place, root in self._wanted.pop(self.tree.size, ()):
            if not hmac.compare_digest(root, self.tree.root()):
                self.report.add(
                    "root_differs", place, f"The first {self.tree.size} records are not those that were signed."
                )

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

    def _note_call(self, record: Mapping[str, Any], seq: int) -> None:
        rid, kind = record["rid"], record["kind"]
        name = f"{rid}#{kind}#{record['n']}" if kind == "attempt" else f"{rid}#{kind}"
        if name in self._names:
            self.report.add("record_doubled", f"record {seq}", f"{name} is recorded twice.")
        self._names.add(name)
        self._newest_us = max(self._newest_us, record["at"])
        if kind == "intent":
            self._open[rid] = (record["at"], seq)
        elif kind in _CLOSED:
            self._open.pop(rid, None)
        elif kind == "erasure":
            self._erased_keys.update(key for key in record.get("kids", ()) if isinstance(key, str))

    def _note_content(self, record: Mapping[str, Any], seq: int) -> None:
        content = record.get("content")
        if isinstance(content, dict) and isinstance(content.get("ct_sha256"), str):
            self._blobs_owed[content["ct_sha256"]] = f"record {seq}"
            self._keys_of_blobs[content["ct_sha256"]] = str(content.get("kid"))


def _walk_segments(source: Source, names: set[str], keys: Sequence[Key], walk: _Walk) -> None:
    """The manifests in their order, each with its objects."""
    report = walk.report
    found = sorted((int(match[2]), name) for name in names if (match := _SEGMENT.fullmatch(name)))
    previous = _NO_HASH
    claimed: set[str] = set()
    for start, name in found:
        data = source.read(name)
        manifest = _manifest(name, data, source, names, keys, report)
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
        claimed |= {name, f"{name}.note"}
    for name in sorted(names - claimed):
        if not name.startswith("checkpoint/"):
            report.add("object_unknown", name, "No manifest speaks of this object.")


def _manifest(
    name: str, data: bytes, source: Source, names: set[str], keys: Sequence[Key], report: Report
) -> dict[str, Any] | None:
    """A manifest whose signature holds and which has all its members; None when it says nothing that counts."""
    note = f"{name}.note"
    if note not in names:
        report.add("manifest_unsigned", name, "The manifest's signature is missing.")
    else:
        try:
            lines = read_note(source.read(note), keys).split("\n")
        except (ValueError, UnicodeDecodeError) as error:
            report.add("manifest_unsigned", note, f"The manifest's signature does not hold: {error}.")
        else:
            if lines[:3] != [keys[0].name, "manifest", hashlib.sha256(data).hexdigest()]:
                report.add("manifest_changed", name, "The manifest is not the one that was signed.")
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


def _signed_trees(
    source: Source, names: set[str], keys: Sequence[Key], report: Report
) -> dict[int, list[tuple[str, bytes]]]:
    wanted: dict[int, list[tuple[str, bytes]]] = {}
    for name in sorted(names):
        if not name.startswith("checkpoint/"):
            continue
        tree = _tree_of(source.read(name), keys, name, report)
        if tree is not None:
            report.checkpoints += 1
            wanted.setdefault(tree.size, []).append((name, tree.root))
    if not report.checkpoints:
        report.add("checkpoint_missing", "checkpoint/", "Nothing in the archive is signed by the given keys.")
    return wanted


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
    return "".join(f"{line}\n" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(description="Check an archive of the audit trail, offline.")
    parser.add_argument("archive", type=Path, help="folder with the archive of one tenant")
    parser.add_argument("--key", type=Path, required=True, help="file with the log's public keys, one a line")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[], help="a checkpoint received earlier")
    parser.add_argument("--receipt", action="append", default=[], help="a receipt (x-trueport-receipt) to look for")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    try:
        keys = read_keys(given.key.read_text("utf-8"))
        earlier = [path.read_bytes() for path in given.checkpoint]
        if (given.archive / BUNDLE).is_file():
            report = verify_bundle(given.archive, keys)
        else:
            report = verify(Folder(given.archive), keys, earlier=earlier, receipts=given.receipt)
    except (Unreadable, OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"{error}\n")
        return UNCHECKED
    as_json = json.dumps({"ok": not report.problems, **asdict(report)}) + "\n"
    sys.stdout.write(as_json if given.json else told(report))
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
