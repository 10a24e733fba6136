"""Short-lived tokens for Google and Azure: who gets them, and where they are good."""

import json
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.simulator import test_azure, test_google
from tests.support.simulator import RawReply, get, post, raw_call, request_bytes
from trueport.simulator import Simulator

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
VERTEX_CALL = f"{test_google.VERTEX}/g:generateContent"
ENTRA = "/tenant-1/oauth2/v2.0/token"
CLIENT = {"grant_type": "client_credentials", "client_id": "app", "client_secret": "s", "scope": "x/.default"}


def assertion(issuer: str = "robot@project") -> str:
    parts = (b'{"alg":"RS256"}', json.dumps({"iss": issuer}).encode(), b"signature")
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


async def ask(simulator: Simulator, form: dict[str, str], path: str = "/token") -> RawReply:
    headers = {"connection": "close", "content-type": "application/x-www-form-urlencoded"}
    return await raw_call(simulator.port, request_bytes(urlencode(form).encode(), path=path, headers=headers, key=None))


async def google_token(simulator: Simulator, issuer: str = "robot@project") -> str:
    reply = await ask(simulator, {"grant_type": GRANT, "assertion": assertion(issuer)})
    return str(json.loads(reply.body)["access_token"])


async def entra_token(simulator: Simulator) -> str:
    return str(json.loads((await ask(simulator, CLIENT, ENTRA)).body)["access_token"])


async def vertex_status(simulator: Simulator, token: str) -> int:
    bearer = {"authorization": f"Bearer {token}"}
    return (await post(simulator.port, VERTEX_CALL, test_google.body(), headers=bearer)).status


async def counted(simulator: Simulator) -> Any:
    return json.loads((await get(simulator.port, "/_simulator/tokens")).body)


async def test_a_service_account_gets_a_token_that_is_good_at_vertex(simulator: Simulator) -> None:
    reply = await ask(simulator, {"grant_type": GRANT, "assertion": assertion()})

    told = json.loads(reply.body)
    assert told.pop("access_token").startswith("ya29.sim-")
    assert told == {"expires_in": 3599, "token_type": "Bearer"}
    assert await vertex_status(simulator, await google_token(simulator)) == 200
    assert await counted(simulator) == {"issued": 2, "google": 2, "entra": 0, "refused": 0}
    assert [entry.path for entry in simulator.ledger.entries] == [VERTEX_CALL]


async def test_an_entra_client_gets_a_token_that_is_good_at_azure(simulator: Simulator) -> None:
    bearer = {"authorization": f"Bearer {await entra_token(simulator)}"}
    reply = await post(simulator.port, test_azure.CHAT, test_azure.BODY, headers=bearer)

    assert reply.status == 200
    assert (await counted(simulator))["entra"] == 1


async def test_every_token_is_another(simulator: Simulator) -> None:
    tokens = [await google_token(simulator), await google_token(simulator), await entra_token(simulator)]

    assert len(set(tokens)) == 3


@pytest.mark.parametrize(
    ("path", "form", "status", "error"),
    [
        ("/token", {"grant_type": "password", "assertion": assertion()}, 400, "unsupported_grant_type"),
        ("/token", {"grant_type": GRANT, "assertion": "a.b"}, 400, "invalid_grant"),
        ("/token", {"grant_type": GRANT, "assertion": "a.!!!.c"}, 400, "invalid_grant"),
        ("/token", {"grant_type": GRANT}, 400, "invalid_grant"),
        (ENTRA, {**CLIENT, "grant_type": "password"}, 400, "unsupported_grant_type"),
        (ENTRA, {**CLIENT, "scope": ""}, 400, "invalid_request"),
        (ENTRA, {**CLIENT, "client_secret": ""}, 401, "invalid_client"),
    ],
)
async def test_a_request_that_is_none_gets_no_token(
    simulator: Simulator, path: str, form: dict[str, str], status: int, error: str
) -> None:
    reply = await ask(simulator, form, path)

    assert (reply.status, json.loads(reply.body)["error"]) == (status, error)
    assert await counted(simulator) == {"issued": 0, "google": 0, "entra": 0, "refused": 1}


async def test_tokens_that_ran_out_or_were_taken_back_are_refused(simulator: Simulator) -> None:
    born_old = await google_token(simulator, "sim-expired@project")
    taken_back = await google_token(simulator)
    await get(simulator.port, "/_simulator/tokens", method="DELETE")
    fresh = await google_token(simulator)

    statuses = [await vertex_status(simulator, token) for token in ("sim-expired-x", born_old, taken_back, fresh)]

    assert statuses == [401, 401, 401, 200]


async def test_a_reset_counts_anew_and_leaves_tokens_good(simulator: Simulator) -> None:
    token = await google_token(simulator)
    simulator.reset()

    assert (await counted(simulator))["issued"] == 0
    assert await vertex_status(simulator, token) == 200


async def test_the_endpoint_can_be_told_to_refuse_and_how_long_tokens_live(simulator: Simulator) -> None:
    async def plan(value: dict[str, object]) -> int:
        request = request_bytes(
            json.dumps(value).encode(), method="PUT", path="/_simulator/tokens", headers={"connection": "close"}
        )
        return (await raw_call(simulator.port, request)).status

    form = {"grant_type": GRANT, "assertion": assertion()}
    assert await plan({"status": 503, "times": 2, "expires_in": 5}) == 200
    replies = [await ask(simulator, form) for _ in range(3)]

    assert [reply.status for reply in replies] == [503, 503, 200]
    assert json.loads(replies[-1].body)["expires_in"] == 5
    assert await plan({"unknown": 1}) == 400
    assert (await counted(simulator))["refused"] == 2
