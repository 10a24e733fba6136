"""Content beside a record: the ciphertext travels separately, the record holds what pins it."""

import hashlib

from trueport.kit.crypto import ALGORITHM, DataKey, SealBroken, Sealed


def seal_content(key: DataKey, plaintext: bytes, place: str) -> tuple[dict[str, object], bytes]:
    """The description for the record and the ciphertext to keep.

    No digest of the plaintext is kept: short prompts could be guessed from it.
    """
    sealed = key.seal(plaintext, place)
    description: dict[str, object] = {
        "kid": key.kid,
        "alg": ALGORITHM,
        "nonce": sealed.nonce.hex(),
        "ct_sha256": hashlib.sha256(sealed.ciphertext).hexdigest(),
        "ct_len": len(sealed.ciphertext),
        "kc": key.commitment,
    }
    return description, sealed.ciphertext


def open_content(key: DataKey, description: dict[str, object], ciphertext: bytes, place: str) -> bytes:
    """The plaintext. Raises SealBroken when ciphertext, key or place are not the ones the record describes."""
    if hashlib.sha256(ciphertext).hexdigest() != description["ct_sha256"] or key.commitment != description["kc"]:
        raise SealBroken("The content is not what its record describes.")
    return key.open(Sealed(bytes.fromhex(str(description["nonce"])), ciphertext), place)
