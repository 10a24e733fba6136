"""Keys in Azure Key Vault: `wrapkey` and `unwrapkey` with RSA-OAEP-256.

The application that asks is that of the environment (`AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`,
`AZURE_AUTHORITY_HOST`). RSA-OAEP authenticates nothing beside the key, so a digest of the context is wrapped with it.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from yarl import URL

from trueport.kit.crypto import KEY_BYTES
from trueport.storage.wrapping.base import KeyRefused, KeyServiceUnavailable
from trueport.storage.wrapping.http import post

_API: Final = "7.4"
_ALGORITHM: Final = "RSA-OAEP-256"
_AUTHORITY: Final = "https://login.microsoftonline.com"
_SCOPE: Final = "https://vault.azure.net/.default"
_VERSION: Final = re.compile(r"[0-9A-Za-z-]{1,64}")


class AzureKeyVaultWrapper:
    """Implements KeyWrapper. What is kept names the version of the key, so that a rotated key still opens it."""

    def __init__(self, vault: URL, name: str) -> None:
        self._key = vault / "keys" / name

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        asked = {"alg": _ALGORITHM, "value": _text(key + _digest(context))}
        said = await self._call(self._key / "wrapkey", asked)
        version = str(said.get("kid", "")).rpartition("/")[2]
        if _VERSION.fullmatch(version) is None or not isinstance(said.get("value"), str):
            raise KeyServiceUnavailable
        return json.dumps({"version": version, "value": said["value"]}).encode()

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        version, value = _kept(wrapped)
        said = await self._call(self._key / version / "unwrapkey", {"alg": _ALGORITHM, "value": value})
        opened = _bytes(said.get("value"))
        key, digest = opened[:KEY_BYTES], opened[KEY_BYTES:]
        if not hmac.compare_digest(digest, _digest(context)):
            raise KeyRefused
        return key

    async def _call(self, url: URL, asked: Mapping[str, str]) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {await _token()}", "content-type": "application/json"}
        answer = await post(url.with_query({"api-version": _API}), json.dumps(asked).encode(), headers)
        if answer.status != 200:
            raise KeyRefused
        return answer.members


async def _token() -> str:
    """A token for the application. Raises KeyRefused, KeyServiceUnavailable."""
    authority = URL(os.environ.get("AZURE_AUTHORITY_HOST", _AUTHORITY))
    form = {
        "grant_type": "client_credentials",
        "client_id": os.environ.get("AZURE_CLIENT_ID", ""),
        "client_secret": os.environ.get("AZURE_CLIENT_SECRET", ""),
        "scope": _SCOPE,
    }
    answer = await post(
        authority / os.environ.get("AZURE_TENANT_ID", "common") / "oauth2" / "v2.0" / "token",
        urlencode(form).encode(),
        {"content-type": "application/x-www-form-urlencoded"},
    )
    token = answer.members.get("access_token")
    if answer.status != 200 or not isinstance(token, str):
        raise KeyRefused
    return token


def _kept(wrapped: bytes) -> tuple[str, str]:
    """Version and value. Raises KeyRefused for what `wrap` did not give: a version is part of a path."""
    try:
        kept = json.loads(wrapped)
        version, value = str(kept["version"]), str(kept["value"])
    except (ValueError, KeyError, TypeError) as error:
        raise KeyRefused from error
    if _VERSION.fullmatch(version) is None:
        raise KeyRefused
    return version, value


def _digest(context: Mapping[str, str]) -> bytes:
    return hashlib.sha256(json.dumps(dict(context), sort_keys=True).encode()).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: object) -> bytes:
    if not isinstance(text, str):
        raise KeyServiceUnavailable
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise KeyServiceUnavailable from error
