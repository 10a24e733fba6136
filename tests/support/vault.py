"""A stand-in for Vault's transit engine: the two operations we use, with the checks that matter."""

import base64
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "hvs.of-the-tests"


@dataclass
class StandInVault:
    """Keys by name; one that is taken out is refused, as a deleted one is."""

    keys: dict[str, AESGCM] = field(default_factory=lambda: {"acme": AESGCM(os.urandom(32))})
    status: int = 200
    port: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        key = self.keys.get(request.match_info["name"])
        if self.status != 200:
            return web.json_response({"errors": ["stand-in"]}, status=self.status)
        if request.headers.get("x-vault-token") != TOKEN:
            return web.json_response({"errors": ["permission denied"]}, status=403)
        if key is None:
            return web.json_response({"errors": ["encryption key not found"]}, status=400)
        asked = await request.json()
        associated = base64.b64decode(asked["associated_data"])
        if request.match_info["operation"] == "encrypt":
            nonce = os.urandom(12)
            sealed = nonce + key.encrypt(nonce, base64.b64decode(asked["plaintext"]), associated)
            return web.json_response({"data": {"ciphertext": f"vault:v1:{base64.b64encode(sealed).decode()}"}})
        try:
            sealed = base64.b64decode(asked["ciphertext"].removeprefix("vault:v1:"))
            text = key.decrypt(sealed[:12], sealed[12:], associated)
        except (InvalidTag, ValueError):
            return web.json_response({"errors": ["cipher: message authentication failed"]}, status=400)
        return web.json_response({"data": {"plaintext": base64.b64encode(text).decode()}})


@asynccontextmanager
async def stand_in_vault() -> AsyncIterator[StandInVault]:
    vault = StandInVault()
    async with serving("/v1/transit/{operation}/{name}", vault.answer) as vault.port:
        yield vault


@asynccontextmanager
async def serving(path: str, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    """A server on loopback that answers POSTs to one path; its port."""
    app = web.Application()
    app.router.add_post(path, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
