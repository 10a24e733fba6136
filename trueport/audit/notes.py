"""Signed notes (C2SP signed-note) and the checkpoints of a log in them (C2SP tlog-checkpoint). Pure.

A note is some lines of text, an empty line, and a signature line for each signer:

    — <name> <base64(key id, 4 bytes ‖ signature)>

The key id is SHA-256(name ‖ 0x0A ‖ algorithm ‖ public key), cut to four bytes; the algorithm of Ed25519 is 0x01.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from trueport.audit.tree import HASH_BYTES
from trueport.kit.errors import TrueportError

_ED25519: Final = b"\x01"
_KEY_ID_BYTES: Final = 4
_DASH: Final = "\N{EM DASH} "
_MOST_SIGNATURES: Final = 100
_LONGEST_NOTE: Final = 1_000_000


class NoteBroken(TrueportError):
    """A note is not in the form of one, or nobody known has signed it."""

    code = "note_broken"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a log's key. Written `name+<key id in hex>+<base64(0x01 ‖ public key)>`."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public_key).decode()}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Raises NoteBroken for anything but the written form of an Ed25519 key."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        blob = strict_base64(encoded)
        if not is_name(name) or len(blob) != 33 or blob[:1] != _ED25519:
            raise NoteBroken("This is not the public key of a log: name+key id+base64 of an Ed25519 key.")
        key = cls(name, blob[1:])
        if key.key_id.hex() != key_id:
            raise NoteBroken("The key's id does not belong to its name and bytes.")
        return key

    def has_signed(self, text: str, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer(Protocol):
    """Who signs for a log: a key in memory, or in a key management service."""

    @property
    def verifier_key(self) -> VerifierKey: ...

    async def sign(self, message: bytes) -> bytes:
        """The 64 bytes of an Ed25519 signature. Raises a kit Unavailable when the key cannot be used now."""


class KeySigner:
    """Implements Signer with a private key in memory."""

    def __init__(self, name: str, seed: bytes) -> None:
        """seed: the 32 bytes of an Ed25519 private key. Raises ValueError for a name with spaces or `+`."""
        if not is_name(name):
            raise ValueError("a log's name has no white space and no +")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier_key = VerifierKey(name, self._key.public_key().public_bytes_raw())

    async def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """`text` ends with a newline. `signatures` are all of its lines, also of keys nobody here knows."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(map(str, self.signatures))}"

    def signed_by(self, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
        """Those of `keys` that have signed it.

        Raises NoteBroken when a line claims to be of one of them and is not: somebody has changed the note.
        """
        by_id = {(key.name, key.key_id): key for key in keys}
        found: list[VerifierKey] = []
        for line in self.signatures:
            key = by_id.get((line.name, line.key_id))
            if key is None or key in found:
                continue
            if not key.has_signed(self.text, line.signature):
                raise NoteBroken("A signature does not fit the note.")
            found.append(key)
        return found


async def sign_note(text: str, signers: Sequence[Signer]) -> Note:
    """The note with a line of each signer, in order. Raises what a signer raises."""
    _check_text(text)
    lines = [
        Signature(signer.verifier_key.name, signer.verifier_key.key_id, await signer.sign(text.encode()))
        for signer in signers
    ]
    return Note(text, tuple(lines))


def parse_note(data: bytes) -> Note:
    """The note of these bytes; nothing is verified. Raises NoteBroken."""
    if len(data) > _LONGEST_NOTE:
        raise NoteBroken("This is too long for a note.")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteBroken("A note is UTF-8.") from error
    text, between, tail = whole.rpartition("\n\n")
    text += "\n" if between else ""
    _check_text(text)
    lines = tail.split("\n")
    if lines.pop() != "" or not lines or len(lines) > _MOST_SIGNATURES:
        raise NoteBroken("A note ends with its signatures, each on a line of its own.")
    return Note(text, tuple(map(_signature, lines)))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself: `root` is that of its first `size` leaves. `extensions` are further lines."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Raises NoteBroken."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "" or not all(lines):
            raise NoteBroken("A checkpoint has an origin, a size and a root, each on a line of its own.")
        origin, size, root, *extensions = lines
        if not size.isascii() or not size.isdecimal() or (size[0] == "0" and size != "0") or len(size) > 16:
            raise NoteBroken("A checkpoint's size is a whole number without leading zeros.")
        blob = strict_base64(root)
        if len(blob) != HASH_BYTES:
            raise NoteBroken("A checkpoint's root is 32 bytes in base64.")
        return cls(origin, int(size), blob, tuple(extensions))


async def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[Signer]) -> Note:
    return await sign_note(str(checkpoint), signers)


def open_checkpoint(data: bytes, origin: str, keys: Iterable[VerifierKey]) -> Checkpoint:
    """The checkpoint in a note that one of `keys` has signed. Raises NoteBroken, also for another log's."""
    note = parse_note(data)
    if not note.signed_by(keys):
        raise NoteBroken("None of the known keys has signed this checkpoint.")
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != origin:
        raise NoteBroken("This is another log's checkpoint.")
    return checkpoint


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    blob = strict_base64(encoded)
    if not line.startswith(_DASH) or not is_name(name) or len(blob) <= _KEY_ID_BYTES:
        raise NoteBroken("A signature line has a dash, a name, and base64.")
    return Signature(name, blob[:_KEY_ID_BYTES], blob[_KEY_ID_BYTES:])


def _check_text(text: str) -> None:
    if len(text) < 2 or not text.endswith("\n") or any(char < " " and char != "\n" for char in text):
        raise NoteBroken("A note's text is lines without control characters.")


def is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(char.isspace() for char in name)


def strict_base64(text: str) -> bytes:
    """The bytes of strict base64, of which there is one writing only; none for anything else."""
    try:
        blob = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return b""
    return blob if base64.b64encode(blob).decode() == text else b""
