"""Envelope encryption: a key-encryption key wraps a tenant's key, which wraps data keys, which seal bytes.

AES-256-GCM with random 96-bit nonces; a data key seals at most 2^30 messages (NIST SP 800-38D, section 8.3).
The associated data binds a ciphertext to the place it was written for, so that one tenant's ciphertext pasted
into another's row does not open.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from trueport.kit.errors import TrueportError
from trueport.kit.randomness import random_bytes

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
ALGORITHM: Final = "A256GCM"


class SealBroken(TrueportError):
    """A ciphertext does not open: wrong key, wrong place, or changed bytes."""

    code = "seal_broken"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext (tag at its end) and its nonce."""

    nonce: bytes
    ciphertext: bytes

    def to_bytes(self) -> bytes:
        return self.nonce + self.ciphertext

    @classmethod
    def from_bytes(cls, blob: bytes) -> "Sealed":
        return cls(blob[:NONCE_BYTES], blob[NONCE_BYTES:])


class DataKey:
    """A 256-bit key with a name, ready to seal and open."""

    __slots__ = ("_aead", "_key", "commitment", "kid")

    def __init__(self, kid: str, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a data key has 32 bytes")
        self.kid = kid
        self._key = key
        self._aead = AESGCM(key)
        # GCM does not commit to its key: two keys can open one ciphertext to two texts. This value, stored
        # beside the ciphertext, pins the key.
        self.commitment = hmac.digest(key, b"tp-key-commit-v1", "sha256").hex()

    @classmethod
    def generate(cls, kid: str) -> "DataKey":
        return cls(kid, os.urandom(KEY_BYTES))

    def seal(self, plaintext: bytes, place: str) -> Sealed:
        """Encrypt for one `place`, such as `ten_…|content|int_…|intent`; the same words are needed to open it."""
        nonce = random_bytes(NONCE_BYTES)
        return Sealed(nonce, self._aead.encrypt(nonce, plaintext, place.encode()))

    def open(self, sealed: Sealed, place: str) -> bytes:
        """The plaintext. Raises SealBroken when key, place or bytes are not the ones it was sealed with."""
        try:
            return self._aead.decrypt(sealed.nonce, sealed.ciphertext, place.encode())
        except (InvalidTag, ValueError) as error:  # ValueError: too short to hold a nonce
            raise SealBroken("This sealed value does not open with the key and place given.") from error

    def digest(self, plaintext: bytes) -> str:
        """A digest (hex) that tells equal texts from others to whoever has the key, and nothing to anybody else."""
        return hmac.digest(hmac.digest(self._key, b"tp-content-mac-v1", "sha256"), plaintext, "sha256").hex()

    def pseudonym(self, name: str) -> str:
        """What stands for a name (40 hexadecimal digits): always the same, and nothing to whoever has not this key."""
        return hmac.digest(hmac.digest(self._key, b"tp-pseudonym-v1", "sha256"), name.encode(), "sha256").hex()[:40]

    def to_bytes(self) -> bytes:
        """The key itself, for whatever is to wrap it."""
        return self._key

    def wrap(self, other: "DataKey", place: str) -> bytes:
        """The other key, sealed under this one."""
        return self.seal(other._key, place).to_bytes()

    def unwrap(self, kid: str, blob: bytes, place: str) -> "DataKey":
        """A key that `wrap` sealed. Raises SealBroken."""
        return DataKey(kid, self.open(Sealed.from_bytes(blob), place))


def derive(secret: bytes, purpose: str, *, length: int = KEY_BYTES) -> bytes:
    """An independent key for one purpose from a master secret (HKDF-SHA256, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=purpose.encode()).derive(secret)


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
