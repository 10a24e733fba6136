"""What witnesses sign below a log's checkpoint (C2SP tlog-cosignature, Ed25519). Pure.

A cosignature says: at this time, this was the largest tree of this log that I had seen, and it continued all that I had
seen before. Its line looks like the log's own; what is signed is

    cosignature/v1
    time <seconds since 1970>
    <the checkpoint's text>

and the signature is that time, 8 bytes big endian, and the 64 bytes of Ed25519. The algorithm in key ids is 0x04.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from trueport.audit.notes import NoteBroken, Signature, VerifierKey, is_name, strict_base64

_COSIGNATURE: Final = b"\x04"
_KEY_ID_BYTES: Final = 4
_TIME_BYTES: Final = 8
_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """The public half of a witness's key. Written `name+<key id in hex>+<base64(0x04 ‖ public key)>`."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + _COSIGNATURE + self.public_key).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_COSIGNATURE + self.public_key).decode()}"

    @classmethod
    def parse(cls, text: str) -> "WitnessKey":
        """Also reads a key in the form of a log's (0x01), as some witnesses publish theirs. Raises NoteBroken."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        blob = strict_base64(encoded)
        if blob[:1] == b"\x01":
            return cls(name, VerifierKey.parse(text).public_key)
        if not is_name(name) or len(blob) != 33 or blob[:1] != _COSIGNATURE:
            raise NoteBroken("This is not the public key of a witness: name+key id+base64 of an Ed25519 key.")
        key = cls(name, blob[1:])
        if key.key_id.hex() != key_id:
            raise NoteBroken("The key's id does not belong to its name and bytes.")
        return key

    def is_named_in(self, line: Signature) -> bool:
        return (line.name, line.key_id) == (self.name, self.key_id)

    def signed_at(self, text: str, line: Signature) -> int:
        """When (seconds) this witness has cosigned the text. Raises NoteBroken unless the line is a true one of it."""
        blob = line.signature
        if not self.is_named_in(line) or len(blob) != _TIME_BYTES + _SIGNATURE_BYTES:
            raise NoteBroken("This is not a cosignature of that witness.")
        at_s = int.from_bytes(blob[:_TIME_BYTES], "big")
        try:
            key = Ed25519PublicKey.from_public_bytes(self.public_key)
            key.verify(blob[_TIME_BYTES:], _message(text, at_s))
        except (InvalidSignature, ValueError) as error:
            raise NoteBroken("The cosignature does not fit the checkpoint.") from error
        return at_s


class Cosigner:
    """A witness's private key in memory."""

    def __init__(self, name: str, seed: bytes) -> None:
        """seed: the 32 bytes of an Ed25519 private key. Raises ValueError for a name with spaces or `+`."""
        if not is_name(name):
            raise ValueError("a witness's name has no white space and no +")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.witness_key = WitnessKey(name, self._key.public_key().public_bytes_raw())

    def cosign(self, text: str, at_s: int) -> Signature:
        """The line for a checkpoint's text. at_s: seconds since 1970."""
        signature = self._key.sign(_message(text, at_s))
        key = self.witness_key
        return Signature(key.name, key.key_id, at_s.to_bytes(_TIME_BYTES, "big") + signature)


def cosigned_by(text: str, lines: Sequence[Signature], key: WitnessKey) -> Signature | None:
    """The true line of a witness among these. Raises NoteBroken when one is said to be its and is not."""
    for line in lines:
        if key.is_named_in(line):
            key.signed_at(text, line)
            return line
    return None


def _message(text: str, at_s: int) -> bytes:
    return f"cosignature/v1\ntime {at_s}\n{text}".encode()
