"""The name of one request, given by the client or made here, and on every reply."""

import re
from collections.abc import Iterable
from typing import Final

from trueport.kit.ids import new_id

HEADER: Final = b"x-request-id"
_SANE: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's `x-request-id` where it sent exactly one of at most 128 harmless characters, else a new one."""
    sent = [value for name, value in headers if name.lower() == HEADER]
    if len(sent) == 1 and _SANE.fullmatch(sent[0]):
        return sent[0].decode("ascii")
    return new_id("req")
