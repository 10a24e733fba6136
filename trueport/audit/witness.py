"""A witness: keeps for each log the newest tree it has cosigned, and cosigns a tree only if it continues that one.

It needs nothing but a folder, and knows nothing of what is in the records: an auditor can run it on any machine. What
goes over the wire is C2SP tlog-witness:

    old <size>
    <base64 hash>        the consistency proof, at most 63 lines

    <the log's checkpoint, signed>

The folder is the witness's memory. A witness that forgets can be made to sign two histories, so one whose memory is
gone does not start: it is replaced by a new one with a new key.
"""

import base64
import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

from trueport.audit.cosignatures import Cosigner, WitnessKey, cosigned_by
from trueport.audit.notes import Checkpoint, Note, NoteBroken, Signature, VerifierKey, parse_note, strict_base64
from trueport.audit.tree import EMPTY_ROOT, HASH_BYTES, is_consistent
from trueport.kit.errors import TrueportError

MOST_REQUEST_BYTES: Final = 64 << 10
SIZE_TYPE: Final = "text/x.tlog.size"
_TEXT: Final = "text/plain; charset=utf-8"
_MOST_PROOF_LINES: Final = 63
_MOST_REFUSED: Final = 1_000


class WitnessUnusable(TrueportError):
    """The folder of a witness is not one, is in use, or has lost its memory."""

    code = "witness_unusable"


@dataclass(frozen=True, slots=True)
class Request:
    """What a log asks for: that its tree be cosigned, which continues that of `old` records by the proof."""

    old: int
    proof: tuple[bytes, ...]
    note: Note

    def __bytes__(self) -> bytes:
        lines = [f"old {self.old}", *(_written(each) for each in self.proof), "", str(self.note)]
        return "\n".join(lines).encode()

    @classmethod
    def parse(cls, data: bytes) -> "Request":
        """Raises NoteBroken."""
        head, between, tail = data.partition(b"\n\n")
        try:
            first, *proof = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise NoteBroken("The proof is not one.") from error
        word, _, size = first.partition(" ")
        hashes = tuple(strict_base64(line) for line in proof)
        if not between or word != "old" or not _is_size(size) or len(hashes) > _MOST_PROOF_LINES:
            raise NoteBroken("A request has an old size, a proof of at most 63 lines, an empty line, a checkpoint.")
        if any(len(each) != HASH_BYTES for each in hashes):
            raise NoteBroken("A line of the proof is 32 bytes in base64.")
        return cls(int(size), hashes, parse_note(tail))


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over HTTP."""

    status: int
    body: str
    content_type: str = _TEXT


class Memory(Protocol):
    """What a witness may not forget: for each log the newest checkpoint it has cosigned."""

    def latest(self, origin: str) -> Checkpoint | None: ...

    def remember(self, origin: str, note: Note) -> None:
        """Returns once it would survive a loss of power. Raises OSError."""

    def keep_refused(self, origin: str, request: Request) -> None:
        """Keep what a log has signed and a witness did not: it may prove that the log has two histories."""


class Witness:
    """Answers requests; any number of threads at once.

    trusted: the public keys of the logs by their names, asked anew for each request.
    """

    def __init__(
        self, cosigner: Cosigner, trusted: Callable[[], Mapping[str, Sequence[VerifierKey]]], memory: Memory
    ) -> None:
        self._cosigner = cosigner
        self._trusted = trusted
        self._memory = memory
        # Looking up what was signed last and replacing it is one step, or two requests could both be the next.
        self._one_at_a_time = threading.Lock()

    @property
    def witness_key(self) -> WitnessKey:
        return self._cosigner.witness_key

    def add_checkpoint(self, data: bytes, now_s: int) -> Answer:
        """now_s: seconds since 1970. Raises OSError when it cannot be remembered, and then nothing is signed."""
        try:
            request = Request.parse(data)
            checkpoint = Checkpoint.parse(request.note.text)
        except NoteBroken as error:
            return Answer(400, f"{error.message}\n")
        keys = self._trusted().get(checkpoint.origin)
        if keys is None:
            return Answer(404, "This witness does not know the log.\n")
        if not _is_signed(request.note, keys):
            return Answer(403, "No key that this witness trusts for the log has signed the checkpoint.\n")
        if request.old > checkpoint.size:
            return Answer(400, "The old size is above the new one.\n")
        with self._one_at_a_time:
            return self._judge(request, checkpoint, now_s)

    def _judge(self, request: Request, checkpoint: Checkpoint, now_s: int) -> Answer:
        before = self._memory.latest(checkpoint.origin) or Checkpoint(checkpoint.origin, 0, EMPTY_ROOT)
        if request.old != before.size:
            return Answer(409, f"{before.size}\n", SIZE_TYPE)
        if checkpoint.size == before.size and checkpoint.root != before.root:
            self._memory.keep_refused(checkpoint.origin, request)
            return Answer(409, f"{before.size}\n", SIZE_TYPE)
        if not is_consistent(before.size, checkpoint.size, before.root, checkpoint.root, request.proof):
            self._memory.keep_refused(checkpoint.origin, request)
            return Answer(422, "The proof does not show that the tree continues the one cosigned before.\n")
        self._memory.remember(checkpoint.origin, request.note)
        return Answer(200, str(self._cosigner.cosign(request.note.text, now_s)))


class WitnessFolder:
    """A witness's key, the logs it trusts, and its memory, in a folder that one process has open at a time.

    witness.key       the private key, as `name hex`, for the process's user only
    logs.txt          the public keys of the logs, one a line
    seen/<hash>.note  the newest checkpoint of a log that was cosigned; the hash is that of the log's name
    refused/          what logs have signed and the witness did not
    """

    def __init__(self, root: Path) -> None:
        """Raises WitnessUnusable."""
        self._root = root
        self._latest: dict[str, Checkpoint] = {}
        self._read: tuple[int, dict[str, list[VerifierKey]]] = (-1, {})
        if not (root / "witness.key").is_file() or not (root / "seen").is_dir():
            raise WitnessUnusable(f"There is no witness in {root}, or what it has seen is gone: make a new one.")
        self._lock = os.open(root / "witness.key", os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise WitnessUnusable(f"Another process has the witness in {root} open.") from error
        name, _, seed = (root / "witness.key").read_text("utf-8").strip().rpartition(" ")
        self.cosigner = Cosigner(name, bytes.fromhex(seed))

    @classmethod
    def create(cls, root: Path, name: str) -> Self:
        """A new witness with a new key. Raises WitnessUnusable when there is one already, ValueError for the name."""
        if (root / "witness.key").exists():
            raise WitnessUnusable(f"There is a witness in {root} already.")
        Cosigner(name, bytes(32))
        for folder in (root, root / "seen", root / "refused"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / "logs.txt").touch()
        _write(root / "witness.key", f"{name} {secrets.token_hex(32)}\n".encode())
        return cls(root)

    def close(self) -> None:
        os.close(self._lock)

    def trusted(self) -> Mapping[str, Sequence[VerifierKey]]:
        """The logs of logs.txt, read again when it has changed; while it is broken those that were in it before."""
        path = self._root / "logs.txt"
        changed_ns = path.stat().st_mtime_ns
        if changed_ns != self._read[0]:
            try:
                found = _by_log(path.read_text("utf-8"))
            except (NoteBroken, UnicodeDecodeError):
                found = self._read[1]
            self._read = (changed_ns, found)
        return self._read[1]

    def latest(self, origin: str) -> Checkpoint | None:
        found = self._latest.get(origin)
        path = self._path(origin)
        if found is None and path.exists():
            found = self._latest[origin] = Checkpoint.parse(parse_note(path.read_bytes()).text)
        return found

    def remember(self, origin: str, note: Note) -> None:
        _write(self._path(origin), str(note).encode())
        self._latest[origin] = Checkpoint.parse(note.text)

    def keep_refused(self, origin: str, request: Request) -> None:
        folder = self._root / "refused"
        data = bytes(request)
        path = folder / f"{_hashed(origin)[:16]}-{hashlib.sha256(data).hexdigest()[:16]}.txt"
        if not path.exists() and sum(1 for _ in folder.iterdir()) < _MOST_REFUSED:
            _write(path, data)

    def _path(self, origin: str) -> Path:
        return self._root / "seen" / f"{_hashed(origin)}.note"


def trust(root: Path, lines: str) -> list[VerifierKey]:
    """Add the public keys of logs to a witness's folder; those that were new. Raises NoteBroken, WitnessUnusable."""
    path = root / "logs.txt"
    if not path.is_file():
        raise WitnessUnusable(f"There is no witness in {root}.")
    present = path.read_text("utf-8")
    known = {str(key) for keys in _by_log(present).values() for key in keys}
    new = [key for keys in _by_log(lines).values() for key in keys if str(key) not in known]
    if present and not present.endswith("\n"):
        present += "\n"
    _write(path, (present + "".join(f"{key}\n" for key in new)).encode())
    return new


def _by_log(text: str) -> dict[str, list[VerifierKey]]:
    found: dict[str, list[VerifierKey]] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            key = VerifierKey.parse(line)
            found.setdefault(key.name, []).append(key)
    return found


def _is_signed(note: Note, keys: Sequence[VerifierKey]) -> bool:
    try:
        return bool(note.signed_by(keys))
    except NoteBroken:
        return False


def answered(text: str, data: bytes, key: WitnessKey) -> Signature:
    """The cosignature of a witness on a checkpoint's text, in what it has answered. Raises NoteBroken."""
    found = cosigned_by(text, parse_note(text.encode() + b"\n" + data).signatures, key)
    if found is None:
        raise NoteBroken("The witness has not signed with its key.")
    return found


def _write(path: Path, data: bytes) -> None:
    """Replace a file so that after a loss of power either the old one or the new one is there."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _hashed(origin: str) -> str:
    return hashlib.sha256(origin.encode()).hexdigest()


def _written(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 16 and (text == "0" or text[0] != "0")
