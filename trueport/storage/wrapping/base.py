"""The door to whatever wraps keys."""

from collections.abc import Mapping
from typing import Final, Protocol

from trueport.kit.errors import TrueportError, Unavailable

WRAP_TIMEOUT_S: Final = 5.0


class KeyRefused(TrueportError):
    """Whoever wraps this key does not open it: it was withdrawn, is another's, or was changed."""

    code = "key_refused"
    status = 403

    def __init__(self) -> None:
        super().__init__("The organisation's key may not be used: it was withdrawn, or is not the one that wrapped it.")


class KeyServiceUnavailable(Unavailable):
    """The key management service does not answer right now."""

    code = "key_service_unavailable"

    def __init__(self) -> None:
        super().__init__("The key management service is not available at the moment.")


class UnknownWrapper(TrueportError):
    """A URL names no kind of key this installation can use."""

    code = "unknown_key_wrapper"
    status = 500


class KeyWrapper(Protocol):
    """Seals keys of 32 bytes under one that never leaves it.

    `context` is authenticated beside the key, such as the tenant it belongs to: the same is needed to open it.
    """

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Raises KeyRefused, KeyServiceUnavailable."""

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Raises KeyRefused, also for another context or changed bytes, and KeyServiceUnavailable."""
