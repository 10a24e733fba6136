"""How Azure is told who is calling, and what its versions are sent."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.providers import LISTED, TOKEN_CANARY, TokenEndpoint, account, asking
from trueport.gateway.call import Request
from trueport.gateway.json_gate import read_object
from trueport.gateway.providers.azure import AzureProvider
from trueport.gateway.providers.credential import CredentialRefused
from trueport.gateway.providers.tokens import TokenSource
from trueport.gateway.snapshot import Credential
from trueport.kit.clock import ManualClock

BASE = "https://acme-eu.openai.azure.com"
FORM = "multipart/form-data; boundary=b"
DEPLOYMENTS = {"gpt-4o": "gpt-4o-prod", "gpt-4o-prod": "never", "whisper-1": "whisper-eu"}


class Bench:
    def __init__(self, endpoint: TokenEndpoint, provider: AzureProvider) -> None:
        self.endpoint = endpoint
        self.provider = provider

    def principal(self, **changes: Any) -> Credential:
        said = {
            "tenant_id": "entra-tenant",
            "client_id": "app-1",
            "client_secret": "entra-canary",
            "authority": self.endpoint.origin + "/",
            **changes,
        }
        return account(BASE, json.dumps({name: value for name, value in said.items() if value is not None}))

    async def headers(self, credential: Credential) -> tuple[tuple[str, str], ...]:
        return await self.provider.headers(credential, asking(model="m"))

    def adapted(self, request: Request, base: str = BASE, **more: Any) -> Request:
        return self.provider.adapted(account(base, deployments=DEPLOYMENTS, **more), request)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with TokenEndpoint().running() as (endpoint, upstream):
        yield Bench(endpoint, AzureProvider(TokenSource(upstream, ManualClock()), LISTED))


async def test_a_key_is_sent_as_such(bench: Bench) -> None:
    assert await bench.headers(account(BASE, "k-1")) == (("api-key", "k-1"),)
    assert await bench.headers(account(BASE, None)) == ()
    assert not bench.endpoint.asked


async def test_a_service_principal_gets_a_token_from_entra(bench: Bench) -> None:
    assert await bench.headers(bench.principal()) == (("authorization", f"Bearer {TOKEN_CANARY}-1"),)

    assert bench.endpoint.exchanges[0].path == "/entra-tenant/oauth2/v2.0/token"
    assert bench.endpoint.asked == [
        {
            "grant_type": "client_credentials",
            "client_id": "app-1",
            "client_secret": "entra-canary",
            "scope": "https://cognitiveservices.azure.com/.default",
        }
    ]


async def test_a_refused_token_is_not_sent_again(bench: Bench) -> None:
    credential = bench.principal()
    await bench.headers(credential)

    bench.provider.refused(credential)

    assert await bench.headers(credential) == (("authorization", f"Bearer {TOKEN_CANARY}-2"),)


@pytest.mark.parametrize(
    ("authority", "endpoint", "scope"),
    [
        (None, "https://login.microsoftonline.com", "https://cognitiveservices.azure.com/.default"),
        ("https://login.microsoftonline.us/", "https://login.microsoftonline.us", "https://cognitiveservices.azure.us/.default"),
        ("https://login.chinacloudapi.cn", "https://login.chinacloudapi.cn", "https://cognitiveservices.azure.cn/.default"),
    ],
)  # fmt: skip
async def test_each_of_microsofts_clouds_has_its_own_authority(
    bench: Bench, authority: str | None, endpoint: str, scope: str
) -> None:
    grant = bench.provider._grant(bench.principal(authority=authority))

    assert str(grant.endpoint) == f"{endpoint}/entra-tenant/oauth2/v2.0/token"
    assert grant.form()["scope"] == scope


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant_id": None},
        {"client_id": ""},
        {"client_secret": 7},
        {"tenant_id": "../other"},
        {"tenant_id": "a/b"},
        {"tenant_id": "a?b"},
        {"tenant_id": "a b\n"},
        {"authority": "https://evil.example"},
        {"authority": "http://login.microsoftonline.com"},
        {"authority": "https://login.microsoftonline.com.evil.example"},
        {"authority": "https://x.login.microsoftonline.com"},
        {"authority": ["https://login.microsoftonline.com"]},
    ],
)
async def test_a_principal_that_names_no_usable_place_is_refused(bench: Bench, changes: dict[str, Any]) -> None:
    with pytest.raises(CredentialRefused) as told:
        await bench.headers(bench.principal(**changes))

    assert "canary" not in told.value.message
    assert not bench.endpoint.asked


BODY = b'{ "model" : "gpt-4o", "messages":[], "temperature": 1.0 }'


def test_a_deployment_in_the_path_leaves_the_body_alone(bench: Bench) -> None:
    request = asking(body=BODY)

    assert bench.adapted(request) is request


@pytest.mark.parametrize(("base", "operation"), [(BASE + "/openai/v1", "chat/completions"), (BASE, "responses")])
def test_elsewhere_the_deployment_stands_where_the_model_was(bench: Bench, base: str, operation: str) -> None:
    adapted = bench.adapted(asking(operation, BODY), base)

    assert adapted.body == BODY.replace(b'"gpt-4o"', b'"gpt-4o-prod"')
    assert adapted.members == read_object(adapted.body)
    assert adapted.model == "gpt-4o"


@pytest.mark.parametrize("body", [b'{"model":"o3","input":"x"}', b'{"input":"x"}', None])
def test_a_model_without_a_deployment_of_another_name_changes_nothing(bench: Bench, body: bytes | None) -> None:
    request = asking("responses", body)

    assert bench.adapted(request, BASE + "/openai/v1") is request


def test_a_model_that_only_the_path_named_is_put_into_the_body(bench: Bench) -> None:
    adapted = bench.adapted(asking(body=b'{"messages":[]}', model="gpt-4o"), BASE + "/openai/v1")

    assert adapted.body == b'{"messages":[],"model":"gpt-4o-prod"}'


def form(model: str) -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n--b--\r\n'.encode()


def test_the_deployment_stands_where_a_form_had_the_model(bench: Bench) -> None:
    def sent(base: str) -> bytes:
        request = asking("audio/transcriptions", model="whisper-1", content_type=FORM)
        return bench.adapted(replace(request, body=form("whisper-1")), base).body

    assert sent(BASE + "/openai/v1") == form("whisper-eu")
    assert sent(BASE) == form("whisper-1")


STREAM = b'{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true}}'


@pytest.mark.parametrize(
    ("version", "wanted", "is_dropped"),
    [
        ("2024-06-01", False, True),
        ("2024-08-01-preview", False, True),
        ("2024-06-01", True, False),
        ("2024-09-01-preview", False, False),
        ("2024-10-21", False, False),
        ("preview", False, False),
    ],
)
def test_an_old_version_is_not_asked_for_what_only_the_gateway_wanted(
    bench: Bench, version: str, wanted: bool, is_dropped: bool
) -> None:
    request = asking(body=STREAM, query=f"api-version={version}", wants_usage_event=wanted)

    adapted = bench.adapted(request, api_version="2025-01-01")

    assert (b"stream_options" not in adapted.body) == is_dropped
    assert adapted.members == read_object(adapted.body)
