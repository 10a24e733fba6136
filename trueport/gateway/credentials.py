"""Where clients put their API key."""

from typing import Final

from trueport.gateway.call import HeaderList
from trueport.kit.errors import InvalidRequest

KEY_HEADERS: Final = (b"x-api-key", b"api-key", b"x-goog-api-key")


class AmbiguousCredential(InvalidRequest):
    """Two different keys in one request: which one counts is not ours to guess."""

    code = "ambiguous_credential"


def bearer_or_header(headers: HeaderList) -> str | None:
    """The key from `Authorization: Bearer` or one of the SDKs' own headers; None when there is none.

    Raises AmbiguousCredential when two of them disagree.
    """
    found: str | None = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() != b"bearer":
                continue
            text = rest.strip()
        elif name in KEY_HEADERS:
            text = value.strip()
        else:
            continue
        if not text:
            continue
        key = text.decode("latin-1")
        if found is not None and found != key:
            raise AmbiguousCredential("The request carries two different API keys: send one.")
        found = key
    return found
