"""Keys in the transit engine of HashiCorp Vault or OpenBao. The token is that of the environment, `VAULT_TOKEN`."""

import base64
import json
import os
from collections.abc import Mapping

from yarl import URL

from trueport.storage.wrapping.base import KeyRefused, KeyServiceUnavailable
from trueport.storage.wrapping.http import post


class VaultWrapper:
    """Implements KeyWrapper with a key of a type that takes associated data, such as `aes256-gcm96`."""

    def __init__(self, address: URL, mount: str, name: str) -> None:
        self._address = address
        self._mount = mount
        self._name = name

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        asked = {"plaintext": base64.b64encode(key).decode(), "associated_data": _associated(context)}
        return (await self._call("encrypt", asked, "ciphertext")).encode()

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        asked = {"ciphertext": wrapped.decode("latin-1"), "associated_data": _associated(context)}
        try:
            return base64.b64decode(await self._call("decrypt", asked, "plaintext"), validate=True)
        except ValueError as error:
            raise KeyServiceUnavailable from error

    async def _call(self, operation: str, asked: Mapping[str, str], member: str) -> str:
        url = self._address / "v1" / self._mount / operation / self._name
        headers = {"x-vault-token": os.environ.get("VAULT_TOKEN", ""), "content-type": "application/json"}
        answer = await post(url, json.dumps(asked).encode(), headers)
        if answer.status != 200:
            raise KeyRefused
        data = answer.members.get("data")
        if not isinstance(data, dict) or not isinstance(data.get(member), str):
            raise KeyServiceUnavailable
        return str(data[member])


def _associated(context: Mapping[str, str]) -> str:
    return base64.b64encode(json.dumps(dict(context), sort_keys=True).encode()).decode()
