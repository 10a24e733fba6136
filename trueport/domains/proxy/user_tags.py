"""How an application's own user is named in records.

The tag in a request's body may be anything an application knows its user by, an address or a name, so what is recorded
of it is a keyed digest: equal tags can be counted together, and nobody reads them. A tag in the header made for it is
meant for the record and stands there as it is.
"""

import hashlib
import hmac
from typing import Final

from trueport.kit.ids import TenantId

_DIGITS: Final = 20


class UserTags:
    """Digests under a key of the installation, different for each tenant."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def digest(self, tenant_id: TenantId, tag: str) -> str:
        """`user_` and 20 hexadecimal digits."""
        said = f"{tenant_id}\n{tag}".encode()
        return f"user_{hmac.new(self._key, said, hashlib.sha256).hexdigest()[:_DIGITS]}"
