"""A stand-in for Azure Key Vault and its sign-in: one RSA key in versions, `wrapkey` and `unwrapkey`."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.hashes import SHA256

TOKEN = "eyJ.of-the-tests"
_OAEP = OAEP(mgf=MGF1(SHA256()), algorithm=SHA256(), label=None)


@dataclass
class StandInKeyVault:
    """`versions` of the key `acme`, the newest last; without any it is disabled."""

    versions: dict[str, rsa.RSAPrivateKey] = field(default_factory=dict)
    port: int = 0

    def rotate(self) -> None:
        self.versions[f"{len(self.versions):032x}"] = rsa.generate_private_key(65_537, 2_048)

    async def sign_in(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form["client_secret"] != "app-secret":
            return web.json_response({"error": "invalid_client"}, status=401)
        return web.json_response({"access_token": TOKEN, "token_type": "Bearer"})

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}" or "api-version" not in request.query:
            return web.json_response({"error": {"code": "Unauthorized"}}, status=401)
        version = request.match_info.get("version", "") or next(reversed(self.versions), "")
        if version not in self.versions:
            return web.json_response({"error": {"code": "Forbidden"}}, status=403)
        key, asked = self.versions[version], await request.json()
        data = base64.urlsafe_b64decode(asked["value"] + "==")
        if request.match_info["operation"] == "wrapkey":
            data = key.public_key().encrypt(data, _OAEP)
        else:
            try:
                data = key.decrypt(data, _OAEP)
            except ValueError:
                return web.json_response({"error": {"code": "BadParameter"}}, status=400)
        kid = f"https://acme.vault.azure.net/keys/acme/{version}"
        return web.json_response({"kid": kid, "value": base64.urlsafe_b64encode(data).decode().rstrip("=")})


@asynccontextmanager
async def stand_in_key_vault() -> AsyncIterator[StandInKeyVault]:
    vault = StandInKeyVault()
    vault.rotate()
    app = web.Application()
    app.router.add_post("/directory/oauth2/v2.0/token", vault.sign_in)
    app.router.add_post("/keys/acme/{operation}", vault.answer)
    app.router.add_post("/keys/acme/{version}/{operation}", vault.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    vault.port = runner.addresses[0][1]
    try:
        yield vault
    finally:
        await runner.cleanup()
