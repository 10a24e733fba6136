"""What is accepted as a token, and the many things that are not."""

import base64
import json
from typing import Any

import jwt
import pytest

from tests.support.web import House, bearer, problem
from trueport.domains.auth.tokens import LEEWAY_S, LIFETIME_S, TokenRefused, TokenSigner
from trueport.kit.clock import ManualClock
from trueport.kit.crypto import derive
from trueport.kit.ids import TenantId, UserId, new_id
from trueport.kit.secret import Secret

OLD, NEW = Secret("o" * 40), Secret("n" * 40)
USER, SESSION, TENANT = UserId(new_id("usr")), new_id("ses"), TenantId(new_id("ten"))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def signer(clock: ManualClock) -> TokenSigner:
    return TokenSigner([OLD], clock)


def key_of(secret: Secret) -> bytes:
    return derive(secret.reveal().encode(), "trueport/token-signing/v1")


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, payload, _ = token.split(".")
    first, second = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, payload))
    return first, second


def forged(token: str, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """The token with members changed (None takes one away), signed with the right key."""
    old_header, payload = parts(token)
    changed = {name: value for name, value in {**payload, **claims}.items() if value is not None}
    new_header = {name: value for name, value in {**old_header, **(header or {})}.items() if value is not None}
    return raw(new_header, changed, key_of(OLD))


def raw(header: dict[str, Any], payload: dict[str, Any], key: bytes) -> str:
    signing = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, payload))
    return f"{text.decode()}.{base64.urlsafe_b64encode(signing.sign(text, key)).decode().rstrip('=')}"


def refused(signer: TokenSigner, token: str, use: Any = "scoped") -> bool:
    try:
        signer.verify(token, use)
    except TokenRefused:
        return True
    return False


@pytest.fixture
def token(signer: TokenSigner) -> str:
    return signer.issue_scoped(USER, SESSION, TENANT, "admin", "staging")


def test_a_token_says_what_it_was_issued_for(signer: TokenSigner, token: str) -> None:
    claims = signer.verify(token, "scoped")

    assert (claims.user_id, claims.session_id, claims.tenant_id, claims.environment) == (
        USER,
        SESSION,
        TENANT,
        "staging",
    )
    header, payload = parts(token)
    assert header == {"alg": "HS256", "typ": "JWT", "kid": header["kid"]}
    assert payload["iss"] == "trueport"
    assert payload["exp"] - payload["iat"] == 1_800
    assert (payload["typ"], payload["tid"], payload["role"], payload["env"]) == ("scoped", TENANT, "admin", "staging")


def test_forging_with_nothing_changed_gives_a_good_token(signer: TokenSigner, token: str) -> None:
    assert not refused(signer, forged(token))


def test_keys_rotate_without_logging_anybody_out(clock: ManualClock, token: str) -> None:
    rotated = TokenSigner([NEW, OLD], clock)

    assert rotated.verify(token, "scoped").user_id == USER
    assert not refused(TokenSigner([NEW], clock), rotated.issue_global(USER, SESSION), "global")
    assert refused(TokenSigner([NEW], clock), token)


@pytest.mark.parametrize("alg", ["none", "nOnE", "None", "HS512", "HS384", "RS256", "ES256", "", None])
def test_no_other_algorithm_is_accepted(signer: TokenSigner, token: str, alg: str | None) -> None:
    _, payload = parts(token)
    header, _ = parts(token)

    assert refused(signer, raw({**header, "alg": alg}, payload, key_of(OLD)))
    unsigned = raw({**header, "alg": alg}, payload, key_of(OLD)).rpartition(".")[0] + "."
    assert refused(signer, unsigned)


def test_a_token_without_its_signature_or_with_another_is_refused(signer: TokenSigner, token: str) -> None:
    head, body, signature = token.split(".")

    for broken in (f"{head}.{body}.", f"{head}.{body}", f"{head}.{body}.{signature[:-2]}", f".{body}.{signature}"):
        assert refused(signer, broken)
    assert refused(signer, raw(*parts(token), key=key_of(NEW)))


def test_hs512_with_our_own_key_is_refused(signer: TokenSigner, token: str) -> None:
    header, payload = parts(token)

    assert refused(signer, jwt.encode(payload, key_of(OLD) * 2, algorithm="HS512", headers={"kid": header["kid"]}))


@pytest.mark.parametrize(
    "kid",
    [None, "", "/etc/passwd", "../../dev/null", "http://evil.example/key", "' OR 1=1 --", "k" * 10_000, 7, ["a"], {}],
)
def test_no_other_key_id_is_accepted(signer: TokenSigner, token: str, kid: Any) -> None:
    header, payload = parts(token)

    assert refused(signer, raw({**header, "kid": kid}, payload, key_of(OLD)))
    assert refused(signer, raw({**header, "kid": kid}, payload, b""))


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "crit", "b64", "cty"])
def test_header_members_that_point_elsewhere_are_refused(signer: TokenSigner, token: str, name: str) -> None:
    value: Any = ["b64"] if name == "crit" else "https://evil.example/keys"

    assert refused(signer, forged(token, header={name: value}))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "trueport:global"}, {"aud": ["trueport:scoped"]}, {"aud": None}, {"aud": "Trueport:scoped"},
        {"iss": "evil"}, {"iss": None}, {"iss": ["trueport"]},
        {"typ": "global"}, {"typ": "refresh"}, {"typ": "reset"}, {"typ": None},
        {"sub": None}, {"sub": 7}, {"sub": "ten_" + "0" * 26}, {"sub": ""}, {"sub": {"$ne": None}},
        {"jti": None}, {"jti": 5}, {"sid": None}, {"sid": ""}, {"sid": {"$ne": ""}}, {"sid": "usr_" + "0" * 26},
        {"tid": None}, {"tid": "acme"}, {"tid": {"$ne": None}}, {"tid": ["ten_" + "0" * 26]},
        {"env": None}, {"env": "qa"}, {"role": None}, {"role": "root"},
        {"exp": None}, {"exp": "4102444800"}, {"exp": True}, {"exp": 4_102_444_800}, {"exp": 1e400}, {"exp": 1.5},
        {"nbf": None}, {"nbf": "1"}, {"iat": None}, {"iat": "1"}, {"iat": 4_102_444_800},
    ],
    ids=str,
)  # fmt: skip
def test_every_claim_has_its_value_and_type(signer: TokenSigner, token: str, claims: dict[str, Any]) -> None:
    assert refused(signer, forged(token, **claims))


def test_a_token_ends_with_its_time_and_the_leeway(signer: TokenSigner, clock: ManualClock, token: str) -> None:
    clock.advance(LIFETIME_S["scoped"] + LEEWAY_S - 1)
    assert not refused(signer, token)

    clock.advance(1)
    assert refused(signer, token)


def test_a_token_does_not_begin_before_its_time(signer: TokenSigner, clock: ManualClock, token: str) -> None:
    now = clock.epoch_us() // 1_000_000

    assert not refused(signer, forged(token, nbf=now + LEEWAY_S))
    assert refused(signer, forged(token, nbf=now + LEEWAY_S + 1))


def test_a_token_of_one_use_is_none_of_another(signer: TokenSigner, token: str) -> None:
    tokens = {
        "global": signer.issue_global(USER, SESSION),
        "scoped": token,
        "refresh": signer.issue_refresh(USER, SESSION, "rft_1"),
    }

    for issued, text in tokens.items():
        for use in tokens:
            assert refused(signer, text, use) is (issued != use)


def test_a_token_cut_anywhere_or_joined_with_another_is_nobodys(signer: TokenSigner, token: str) -> None:
    other = signer.issue_scoped(UserId(new_id("usr")), new_id("ses"), TENANT, "owner", "prod")

    for cut in range(0, len(token), 3):
        mixed = token[:cut] + other[cut:]
        if mixed not in (token, other):
            assert refused(signer, mixed)
        assert refused(signer, token[:cut])


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "é.é.é", "{}", "e30.e30.", "." * 500, "[" * 4_000])
def test_nonsense_is_refused(signer: TokenSigner, text: str) -> None:
    assert refused(signer, text)


async def test_the_application_refuses_forged_tokens_with_one_and_the_same_answer(house: House) -> None:
    user = await house.person()
    tenant = await house.tenant(user)
    good = (await house.as_member(user, tenant))["authorization"].removeprefix("Bearer ")
    header, payload = parts(good)
    key = derive(b"s" * 40, "trueport/token-signing/v1")
    assert (await house.client.get("/platform/api/service/info", headers=bearer(raw(header, payload, key)))).is_success

    details = set()
    for token in (
        raw({**header, "alg": "none"}, payload, key),
        raw({**header, "kid": "../../dev/null"}, payload, b""),
        raw({**header, "jku": "http://127.0.0.1:9/"}, payload, key),
        raw(header, {**payload, "sub": new_id("usr")}, key),
        raw(header, {**payload, "sid": new_id("ses")}, key),
        raw(header, {**payload, "exp": payload["exp"] - 4_000}, key),
        raw(header, payload, b"x" * 32),
    ):
        answer = await house.client.get("/platform/api/service/info", headers=bearer(token))
        details.add(problem(answer, 401, "invalid_token")["detail"])
    assert len(details) == 1
