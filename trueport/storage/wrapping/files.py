"""A key-encryption key that lies in a file, such as a mounted secret."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from trueport.kit.crypto import DataKey, SealBroken, Sealed, derive
from trueport.storage.wrapping.base import KeyRefused, UnknownWrapper

_SHORTEST = 32


class FileWrapper:
    """Implements KeyWrapper. The file is read each time: taking it away withdraws the key."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        return (await self._key()).seal(key, _place(context)).to_bytes()

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        try:
            return (await self._key()).open(Sealed.from_bytes(wrapped), _place(context))
        except SealBroken as error:
            raise KeyRefused from error

    async def _key(self) -> DataKey:
        try:
            secret = (await asyncio.to_thread(self._path.read_bytes)).strip()
        except OSError as error:
            raise KeyRefused from error
        if len(secret) < _SHORTEST:
            raise UnknownWrapper(f"A key file needs at least {_SHORTEST} characters; try: openssl rand -hex 32")
        return DataKey("file-kek", derive(secret, "trueport/file-kek/v1"))


def _place(context: Mapping[str, str]) -> str:
    return json.dumps(dict(context), sort_keys=True)
