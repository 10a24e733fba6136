"""Accounts that are called with a token instead of a key: Vertex AI's service accounts and Azure's Entra clients."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.e2e.conftest import Gateway
from tests.support.installation import Installation, installation

MODELS = ["vertex-model", "entra-model"]
HELLO: list[Any] = [{"role": "user", "content": "Say it. [[say: Here I am.]]"}]


def service_account(token_uri: str) -> str:
    """A key file as the vendor's console gives it, line breaks and all."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {
        "type": "service_account",
        "project_id": "acme",
        "private_key_id": "k1",
        "private_key": text,
        "client_email": "gateway@acme.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }
    return json.dumps(account, indent=2)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with installation(tmp_path_factory.mktemp("tokens") / "data") as place:
        url = place.simulator.url
        place.environment["VERTEX_KEY"] = service_account(f"{url}/token")
        place.environment["ENTRA_KEY"] = json.dumps(
            {"tenant_id": "directory", "client_id": "app", "client_secret": "hidden", "authority": url}
        )
        place.set_up()
        place.configure(
            credentials={
                "vertex": {
                    "provider": "google",
                    "base_url": f"{url}/v1/projects/acme/locations/eu/publishers/google",
                    "secret": {"env": "VERTEX_KEY"},
                },
                "entra": {
                    "provider": "azure",
                    "base_url": url,
                    "secret": {"env": "ENTRA_KEY"},
                    "deployments": {"entra-model": "prod"},
                },
            },
            routes=[
                {"match": {"model": "vertex-*"}, "targets": [{"credential": "vertex", "model": "gemini-2.5-flash"}]},
                {"match": {"model": "entra-*"}, "targets": [{"credential": "entra"}]},
            ],
        )
        place.serve()
        yield Gateway(place)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as found:
        yield found


def tokens(place: Installation, method: str = "GET") -> dict[str, Any]:
    request = urllib.request.Request(f"{place.simulator.url}/_simulator/tokens", method=method)
    with urllib.request.urlopen(request, timeout=20) as reply:
        text = reply.read()
    return dict(json.loads(text)) if text else {}


@pytest.mark.parametrize("model", MODELS)
def test_a_token_is_fetched_once_and_used_again(gateway: Gateway, client: openai.OpenAI, model: str) -> None:
    client.chat.completions.create(model=model, messages=HELLO)
    issued = tokens(gateway.place)["issued"]

    answers = [client.chat.completions.create(model=model, messages=HELLO) for _ in range(5)]
    streamed = client.chat.completions.create(model=model, messages=HELLO, stream=True)

    assert [answer.choices[0].message.content for answer in answers] == ["Here I am."] * 5
    assert "".join(piece.choices[0].delta.content or "" for piece in streamed if piece.choices) == "Here I am."
    assert tokens(gateway.place)["issued"] == issued


def test_what_arrives_is_the_vendors_path_and_its_token(gateway: Gateway, client: openai.OpenAI) -> None:
    for model, path in (
        ("vertex-model", "/v1/projects/acme/locations/eu/publishers/google/models/gemini-2.5-flash:generateContent"),
        ("entra-model", "/openai/deployments/prod/chat/completions"),
    ):
        answer = client.chat.completions.with_raw_response.create(model=model, messages=HELLO)
        seen = gateway.seen_upstream(answer.headers["x-trueport-interaction"])

        assert seen["path"] == path
        authorization = next(value for name, value in seen["headers"] if name.lower() == "authorization")
        assert authorization.startswith("Bearer ")
        assert gateway.key not in json.dumps(seen["headers"])


def test_a_token_taken_back_is_told_as_ours_to_mend_and_replaced_by_the_next_call(
    gateway: Gateway, client: openai.OpenAI
) -> None:
    for model in MODELS:
        client.chat.completions.create(model=model, messages=HELLO)
    tokens(gateway.place, "DELETE")

    for model in MODELS:
        with pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(model=model, messages=HELLO)

        assert refused.value.code == "upstream_auth"
        assert client.chat.completions.create(model=model, messages=HELLO).choices[0].message.content == "Here I am."
