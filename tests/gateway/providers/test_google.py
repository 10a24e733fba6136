"""How Google is told who is calling."""

import json
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.support.providers import LISTED, TOKEN_CANARY, TokenEndpoint, account, asking
from trueport.gateway.providers.credential import CredentialRefused
from trueport.gateway.providers.google import GoogleProvider
from trueport.gateway.providers.tokens import TokenSource
from trueport.gateway.snapshot import Credential
from trueport.kit.clock import ManualClock

VERTEX = "https://eu-aiplatform.googleapis.com/v1/projects/p/locations/eu/publishers/google"
REQUEST = asking("generateContent", b"{}", model="gemini-2.5-flash")


@cache
def service_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


class Bench:
    def __init__(self, endpoint: TokenEndpoint, provider: GoogleProvider, clock: ManualClock) -> None:
        self.endpoint = endpoint
        self.provider = provider
        self.clock = clock

    def service_account(self, **changes: Any) -> Credential:
        key = {
            "type": "service_account",
            "private_key_id": "kid-1",
            "private_key": pem(service_key()),
            "client_email": "svc@p.iam.gserviceaccount.com",
            "token_uri": f"{self.endpoint.origin}/token",
            **changes,
        }
        kept = {name: value for name, value in key.items() if value is not None}
        return account(VERTEX, json.dumps(kept, indent=2), provider="google")

    async def headers(self, credential: Credential) -> tuple[tuple[str, str], ...]:
        return await self.provider.headers(credential, REQUEST)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with TokenEndpoint().running() as (endpoint, upstream):
        clock = ManualClock()
        yield Bench(endpoint, GoogleProvider(TokenSource(upstream, clock), clock, LISTED), clock)


async def test_a_key_is_sent_as_such(bench: Bench) -> None:
    assert await bench.headers(account(VERTEX, "AIza-1")) == (("x-goog-api-key", "AIza-1"),)
    assert await bench.headers(account(VERTEX, None)) == ()
    assert not bench.endpoint.asked


async def test_a_service_account_gets_a_token_for_a_signed_statement(bench: Bench) -> None:
    headers = await bench.headers(bench.service_account())

    assert headers == (("authorization", f"Bearer {TOKEN_CANARY}-1"),)
    (asked,) = bench.endpoint.asked
    assert asked["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    audience = f"{bench.endpoint.origin}/token"
    claims = jwt.decode(
        asked["assertion"],
        service_key().public_key(),
        algorithms=["RS256"],
        audience=audience,
        options={"verify_exp": False, "verify_iat": False},
    )
    now_s = bench.clock.epoch_us() // 1_000_000
    assert claims == {
        "iss": "svc@p.iam.gserviceaccount.com",
        "sub": "svc@p.iam.gserviceaccount.com",
        "aud": audience,
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "iat": now_s,
        "exp": now_s + 3_600,
    }
    assert jwt.get_unverified_header(asked["assertion"])["kid"] == "kid-1"


async def test_a_refused_token_is_not_sent_again(bench: Bench) -> None:
    credential = bench.service_account()
    await bench.headers(credential)

    bench.provider.refused(credential)

    assert await bench.headers(credential) == (("authorization", f"Bearer {TOKEN_CANARY}-2"),)


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "authorized_user"},
        {"type": "external_account"},
        {"client_email": None},
        {"private_key": None},
        {"private_key": ["x"]},
        {"private_key": "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n"},
        {"private_key": ""},
        {"token_uri": "https://evil.example/token"},
        {"token_uri": "http://oauth2.googleapis.com/token"},
        {"token_uri": 7},
    ],
)
async def test_a_file_that_is_no_usable_key_of_a_service_account_is_refused(
    bench: Bench, changes: dict[str, Any]
) -> None:
    with pytest.raises(CredentialRefused) as told:
        await bench.headers(bench.service_account(**changes))

    assert told.value.code == "upstream_auth"
    assert "canary" not in f"{told.value!r}{told.value.__cause__!r}"
    assert not bench.endpoint.asked


async def test_a_key_of_another_kind_signs_nothing(bench: Bench) -> None:
    with pytest.raises(CredentialRefused):
        await bench.headers(bench.service_account(private_key=pem(ec.generate_private_key(ec.SECP256R1()))))


@pytest.mark.parametrize("secret", ["{", "{}", '{"a":', '{"type":"service_account"}', '{"a": canary}'])
async def test_a_secret_that_is_not_what_it_begins_as_is_refused(bench: Bench, secret: str) -> None:
    with pytest.raises(CredentialRefused) as told:
        await bench.headers(account(VERTEX, secret))

    assert told.value.__cause__ is None
    assert "canary" not in told.value.message


@pytest.mark.parametrize("secret", ["", "a\nb", "é"])
async def test_a_key_that_no_header_carries_is_refused(bench: Bench, secret: str) -> None:
    with pytest.raises(CredentialRefused):
        await bench.headers(account(VERTEX, secret))


async def test_the_token_comes_from_google_where_the_file_does_not_say(bench: Bench) -> None:
    grant = bench.provider._grant(bench.service_account(token_uri=None))

    assert str(grant.endpoint) == "https://oauth2.googleapis.com/token"
    assert jwt.decode(grant.form()["assertion"], options={"verify_signature": False})["aud"] == str(grant.endpoint)
