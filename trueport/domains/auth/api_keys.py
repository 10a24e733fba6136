"""The text of an API key: `sk-tp-<tenant part>-<secret>-<checksum>`. Pure functions; nothing is looked up here.

The tenant part is the 26 characters of the tenant's id after `ten_`, so that the look-up is a query inside one
tenant. The secret is 43 base62 characters (256 bits), which is why a plain keyed digest suffices: there is nothing
to guess, and a password hash would cost every call 100 ms. The checksum, six base62 digits of the CRC-32 of all
that precedes it, tells a mistyped key from an unknown one without asking the database; it protects nothing.
"""

import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import Final

from trueport.kit.ids import TenantId

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_CHARS: Final = 43
_CHECKSUM_CHARS: Final = 6
_FORM: Final = re.compile(r"sk-tp-([0-9a-v]{26})-([0-9A-Za-z]{43})-([0-9A-Za-z]{6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """A key with a sound form, and the tenant it claims. Whether it exists is another matter."""

    tenant_id: TenantId
    text: str = field(repr=False)


def new_api_key(tenant_id: TenantId) -> str:
    """A fresh key of this tenant."""
    secret = "".join(secrets.choice(_BASE62) for _ in range(_SECRET_CHARS))
    body = f"sk-tp-{tenant_id.removeprefix('ten_')}-{secret}"
    return f"{body}-{_checksum(body)}"


def parse_api_key(text: str) -> ParsedKey | None:
    """The key this text spells, or None when it cannot be one."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    body = text[: -_CHECKSUM_CHARS - 1]
    if not hmac.compare_digest(_checksum(body), match[3]):
        return None
    return ParsedKey(TenantId(f"ten_{match[1]}"), text)


def digest_api_key(pepper: bytes, text: str) -> str:
    """What is stored of a key: HMAC-SHA256 of its whole text, in hex, under a pepper kept outside the database."""
    return hmac.digest(pepper, text.encode(), "sha256").hex()


def display_prefix(text: str) -> str:
    """Enough to recognise a key by and far too little to use it: `sk-tp-…` and four characters of its secret's end."""
    return f"sk-tp-…{text[-_CHECKSUM_CHARS - 5 : -_CHECKSUM_CHARS - 1]}"


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECKSUM_CHARS):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
