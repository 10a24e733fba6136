"""Access tokens: how often they are asked for, how long they are used, and what happens when there are none."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping

import pytest
from yarl import URL

from tests.support.chaos_upstream import Exchange, Scenario
from tests.support.providers import TOKEN_CANARY, TokenEndpoint, account
from trueport.gateway.egress import Egress, EgressPolicy, EgressRefused, UpstreamFailure
from trueport.gateway.providers.credential import CredentialRefused
from trueport.gateway.providers.tokens import Grant, TokenSource, TokenUnavailable, token_endpoint
from trueport.gateway.snapshot import Credential
from trueport.gateway.upstream import Upstream
from trueport.kit.clock import ManualClock
from trueport.kit.ids import CredentialId

ACCOUNT = account("https://h.example.org", "secret-canary")
SECOND_ACCOUNT = account("https://h.example.org", "secret-canary", id=CredentialId("crd_2"))
ROTATED_ACCOUNT = account("https://h.example.org", "secret-canary-2")


class Bench:
    """A token source at a real endpoint, and a clock to turn."""

    def __init__(self, endpoint: TokenEndpoint, upstream: Upstream) -> None:
        self.endpoint = endpoint
        self.clock = ManualClock()
        self.source = TokenSource(upstream, self.clock)

    def grant(self, credential: Credential) -> Grant:
        assert credential.secret is not None
        proof = credential.secret.reveal()
        return Grant(URL(self.endpoint.origin + "/token"), lambda: {"proof": proof, "scope": "a b&c"})

    async def token(self, credential: Credential = ACCOUNT) -> str:
        return (await self.source.token(credential, self.grant)).reveal()

    async def until_asked(self, times: int, *, may_be_fetching: bool = False) -> None:
        """Until the endpoint was asked that often and, mostly, what it said has been taken in."""
        async with asyncio.timeout(10):
            while len(self.endpoint.asked) < times or (self.is_fetching and not may_be_fetching):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.001)

    @property
    def is_fetching(self) -> bool:
        return any(entry.task is not None for entry in self.source._entries.values())


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with TokenEndpoint().running() as (endpoint, upstream):
        yield Bench(endpoint, upstream)


async def test_a_token_is_asked_for_with_the_accounts_proof_in_a_form(bench: Bench) -> None:
    assert await bench.token() == f"{TOKEN_CANARY}-1"

    (asked,) = bench.endpoint.exchanges
    assert (asked.method, asked.path) == ("POST", "/token")
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert bench.endpoint.asked == [{"proof": "secret-canary", "scope": "a b&c"}]


async def test_a_token_is_kept_until_shortly_before_it_ends(bench: Bench) -> None:
    first = await bench.token()
    bench.clock.advance(3_600 - 300 - 1)

    assert await bench.token() == first
    assert len(bench.endpoint.asked) == 1


async def test_calls_that_come_together_share_one_request(bench: Bench) -> None:
    tokens = await asyncio.gather(*(bench.token() for _ in range(50)))

    assert set(tokens) == {f"{TOKEN_CANARY}-1"}
    assert len(bench.endpoint.asked) == 1


async def test_a_token_that_ends_soon_serves_while_the_next_is_fetched(bench: Bench) -> None:
    first = await bench.token()
    bench.clock.advance(3_600 - 300)

    assert [await bench.token() for _ in range(5)] == [first] * 5
    await bench.until_asked(2)
    assert await bench.token() == f"{TOKEN_CANARY}-2"
    assert len(bench.endpoint.asked) == 2


async def test_a_token_that_has_ended_is_not_used(bench: Bench) -> None:
    await bench.token()
    bench.clock.advance(3_600 - 29)

    assert await bench.token() == f"{TOKEN_CANARY}-2"


async def test_the_old_token_serves_as_long_as_it_holds_when_no_new_one_can_be_had(bench: Bench) -> None:
    first = await bench.token()
    bench.endpoint.answer = saying("503 Away")
    bench.clock.advance(3_400)

    assert await bench.token() == first
    await bench.until_asked(2)
    assert await bench.token() == first
    assert not bench.is_fetching, "it is not asked again at once"
    bench.clock.advance(5)
    assert await bench.token() == first
    await bench.until_asked(3)
    bench.clock.advance(300)
    with pytest.raises(TokenUnavailable):
        await bench.token()


@pytest.mark.parametrize(
    ("life_s", "holds_s", "ends_s"), [(60, 29, 54), ("3600", 3_299, 3_570), (1e12, 86_099, 86_370)]
)
async def test_short_written_and_endless_lives_are_understood(
    bench: Bench, life_s: object, holds_s: float, ends_s: float
) -> None:
    bench.endpoint.life_s = life_s
    first = await bench.token()

    bench.clock.advance(holds_s)
    assert await bench.token() == first
    assert not bench.is_fetching
    bench.clock.advance(ends_s - holds_s)
    assert await bench.token() != first


async def test_a_refused_token_is_forgotten(bench: Bench) -> None:
    await bench.token()

    bench.source.refused(ACCOUNT)

    assert await bench.token() == f"{TOKEN_CANARY}-2"


async def test_refusals_of_an_old_token_do_not_forget_the_new_one(bench: Bench) -> None:
    await bench.token()
    bench.source.refused(ACCOUNT)
    await bench.token()

    for _ in range(20):
        bench.source.refused(ACCOUNT)
        assert await bench.token() == f"{TOKEN_CANARY}-2"
    bench.clock.advance(30)
    bench.source.refused(ACCOUNT)
    assert await bench.token() == f"{TOKEN_CANARY}-3"


async def test_one_accounts_refusal_leaves_the_others_tokens(bench: Bench) -> None:
    await bench.token(ACCOUNT)
    second = await bench.token(SECOND_ACCOUNT)

    bench.source.refused(ACCOUNT)

    assert await bench.token(SECOND_ACCOUNT) == second
    assert len(bench.endpoint.asked) == 2


async def test_another_secret_of_the_same_account_gets_a_token_of_its_own(bench: Bench) -> None:
    first = await bench.token(ACCOUNT)

    assert await bench.token(ROTATED_ACCOUNT) != first
    assert [asked["proof"] for asked in bench.endpoint.asked] == ["secret-canary", "secret-canary-2"]


def saying(status: str, body: bytes = b'{"error":"proof secret-canary"}', *, extra: bytes = b"") -> Scenario:
    async def scenario(exchange: Exchange) -> None:
        await exchange.send_json(body, status=status, extra=extra)

    return scenario


async def closing(exchange: Exchange) -> None:
    exchange.reset()


def token(**members: object) -> bytes:
    return json.dumps({"access_token": "t", "expires_in": 60, "token_type": "bearer", **members}).encode()


@pytest.mark.parametrize("status", ["400 Bad", "401 No", "403 No"])
async def test_a_proof_that_is_not_accepted_is_the_credentials_fault(bench: Bench, status: str) -> None:
    bench.endpoint.answer = saying(status)

    with pytest.raises(CredentialRefused) as told:
        await bench.token()

    assert (told.value.code, told.value.status, told.value.should_retry) == ("upstream_auth", 502, False)
    assert not told.value.counts_as_failure
    assert not told.value.request_sent


@pytest.mark.parametrize(
    "scenario",
    [
        saying("500 Broken"),
        saying("429 Slow"),
        saying("404 Gone"),
        saying("201 Created", token()),
        saying("302 Found", extra=b"Location: http://127.0.0.1:1/\r\n"),
        saying("200 OK", b"not json secret-canary"),
        saying("200 OK", b"[]"),
        saying("200 OK", b"\xff"),
        saying("200 OK", b"{}"),
        saying("200 OK", token(access_token="")),
        saying("200 OK", token(access_token="a b")),
        saying("200 OK", token(access_token="a\r\nx: y")),
        saying("200 OK", token(access_token="é")),
        saying("200 OK", token(access_token=None)),
        saying("200 OK", token(access_token="x" * 16_385)),
        saying("200 OK", token(expires_in=0)),
        saying("200 OK", token(expires_in=-1)),
        saying("200 OK", token(expires_in="soon")),
        saying("200 OK", token(expires_in="nan")),
        saying("200 OK", token(expires_in=True)),
        saying("200 OK", token(token_type="mac")),
        saying("200 OK", b'{"access_token":"t","pad":"' + b"x" * 70_000 + b'"}'),
        closing,
    ],
)
async def test_an_endpoint_that_gives_no_usable_token_has_a_code_of_its_own(bench: Bench, scenario: Scenario) -> None:
    bench.endpoint.answer = scenario

    with pytest.raises(TokenUnavailable) as told:
        await bench.token()

    assert (told.value.code, told.value.status, told.value.counts_as_failure) == ("upstream_token", 502, False)
    assert not told.value.request_sent
    assert len(bench.endpoint.asked) == 1


async def test_what_goes_wrong_is_told_and_logged_without_a_secret(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts = []
    for scenario in (saying("400 Bad"), saying("200 OK", b"secret-canary"), saying("500 No")):
        bench.endpoint.answer = scenario
        bench.clock.advance(10)
        with pytest.raises(UpstreamFailure) as told:
            await bench.token()
        link: BaseException | None = told.value
        while link is not None:
            texts.append(repr(link))
            link = link.__cause__
    bench.endpoint.answer = None
    bench.clock.advance(10)
    await bench.token()

    written = "".join([*texts, *(f"{record.msg}{record.__dict__}" for record in caplog.records)])
    assert "token_obtained" in written
    assert "token_not_obtained" in written
    assert "canary" not in written


async def test_a_failure_is_told_to_all_who_wait_and_for_a_while_to_those_who_come(bench: Bench) -> None:
    bench.endpoint.answer = saying("400 Bad")

    told = await asyncio.gather(*(bench.token() for _ in range(20)), return_exceptions=True)
    bench.clock.advance(4)
    with pytest.raises(CredentialRefused):
        await bench.token()

    assert {type(failure) for failure in told} == {CredentialRefused}
    assert len(bench.endpoint.asked) == 1
    bench.endpoint.answer = None
    bench.clock.advance(1)
    assert await bench.token() == f"{TOKEN_CANARY}-2"


async def test_a_caller_that_leaves_ends_nobody_elses_wait(bench: Bench) -> None:
    may_answer = asyncio.Event()

    async def slowly(exchange: Exchange) -> None:
        await may_answer.wait()
        await exchange.send_json(token(access_token="late"))

    bench.endpoint.answer = slowly
    leaving, staying = asyncio.create_task(bench.token()), asyncio.create_task(bench.token())
    await bench.until_asked(1, may_be_fetching=True)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    may_answer.set()

    assert await staying == "late"
    assert leaving.cancelled()
    assert len(bench.endpoint.asked) == 1


async def test_a_failure_that_nobody_waits_for_any_more_makes_no_noise(bench: Bench) -> None:
    bench.endpoint.answer = saying("500 Broken")
    leaving = asyncio.create_task(bench.token())
    await asyncio.sleep(0)
    leaving.cancel()

    await bench.until_asked(1)

    assert leaving.cancelled()


async def test_an_endpoint_that_may_not_be_reached_is_refused_as_such() -> None:
    egress = Egress(EgressPolicy())
    source = TokenSource(Upstream(egress), ManualClock())

    def grant(_: Credential) -> Grant:
        return Grant(URL("http://127.0.0.1:9/token"), lambda: {})

    try:
        for _ in range(2):
            with pytest.raises(EgressRefused):
                await source.token(ACCOUNT, grant)
    finally:
        await egress.close()


async def test_a_proof_that_cannot_be_made_is_told_to_whoever_asks(bench: Bench) -> None:
    def form() -> Mapping[str, str]:
        raise CredentialRefused("The key cannot be read.")

    for _ in range(2):
        with pytest.raises(CredentialRefused, match="cannot be read"):
            await bench.source.token(ACCOUNT, lambda _: Grant(URL(bench.endpoint.origin), form))

    assert not bench.endpoint.asked


# --- which endpoints get a proof


HOSTS = (".googleapis.com", "accounts.google.com")
NAMED = EgressPolicy(allow=("sts.internal", "127.0.0.0/8", "10.1.0.0/16"))


@pytest.mark.parametrize(
    "text",
    [
        "https://oauth2.googleapis.com/token",
        "https://accounts.google.com/o/oauth2/token",
        "http://sts.internal/token",
        "http://127.0.0.1:8123/token",
        "https://10.1.2.3/token",
    ],
)
def test_a_proof_goes_to_the_vendor_or_where_the_operator_says(text: str) -> None:
    assert str(token_endpoint(text, NAMED, HOSTS)) == text


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example/token",
        "https://googleapis.com/token",
        "https://evilgoogleapis.com/token",
        "https://oauth2.googleapis.com.evil.example/token",
        "https://accounts.google.com.evil.example/token",
        "https://x.accounts.google.com/token",
        "http://oauth2.googleapis.com/token",
        "https://oauth2.googleapis.com:8443/token",
        "https://user@oauth2.googleapis.com/token",
        "https://oauth2.googleapis.com@evil.example/token",
        "https://oauth2.googleapis.com/token?x=y",
        "https://oauth2.googleapis.com/a/../token",
        "https://8.8.8.8/token",
        "https://10.2.0.1/token",
        "https://169.254.169.254/token",
        "https://x.sts.internal/token",
        "file:///etc/passwd",
        "",
    ],
)
def test_no_proof_goes_anywhere_else(text: str) -> None:
    with pytest.raises(CredentialRefused) as told:
        token_endpoint(text, NAMED, HOSTS)

    assert not text or text not in told.value.message


def test_without_a_list_only_the_vendor_gets_a_proof() -> None:
    with pytest.raises(CredentialRefused):
        token_endpoint("https://sts.example.org/token", EgressPolicy(), HOSTS)
