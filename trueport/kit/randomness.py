"""Random bytes in small pieces, taken from the system in large ones.

A system call for each identifier and nonce costs more than everything else done with it. The bytes are the kernel's
own; a forked process starts with an empty store, so that no two processes ever hand out the same ones.
"""

import os
from typing import Final

_STORE_BYTES: Final = 4_096


class _Store:
    __slots__ = ("at", "data")

    def __init__(self) -> None:
        self.empty()

    def empty(self) -> None:
        self.data = b""
        self.at = 0


_store: Final = _Store()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_store.empty)


def random_bytes(count: int) -> bytes:
    """`count` bytes fit for keys and nonces; each byte is handed out once.

    For one thread of a process, the event loop's; others ask the system themselves.
    """
    at = _store.at
    end = at + count
    if end > len(_store.data):
        _store.data = os.urandom(max(_STORE_BYTES, count))
        at, end = 0, count
    _store.at = end
    return _store.data[at:end]
