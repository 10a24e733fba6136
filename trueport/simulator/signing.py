"""Signatures of thinking blocks: they show a provider that thoughts come back as they were given out."""

from base64 import b64encode
from hashlib import shake_256


def signature_of(thinking: str) -> str:
    """The signature given out with these thoughts."""
    digest = shake_256(b"simulator thoughts\0" + thinking.encode("utf-8", "surrogatepass")).digest(96)
    return b64encode(digest).decode()


def is_genuine(thinking: str, signature: str | None) -> bool:
    """Whether these thoughts, and no others, were given out with that signature."""
    return signature == signature_of(thinking)
