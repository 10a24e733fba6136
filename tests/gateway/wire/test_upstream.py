"""Faults of a provider, each on a real socket, and what the caller is told about them."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.support.chaos_upstream import Authority, CertificateKind, ChaosUpstream, Exchange, Scenario
from trueport.gateway.egress import Egress, EgressPolicy, PoolKey
from trueport.gateway.streaming import SseSplitter, event_data, events
from trueport.gateway.upstream import (
    EgressRefused,
    Timeouts,
    Upstream,
    UpstreamAnswer,
    UpstreamConnect,
    UpstreamFailure,
    UpstreamInvalid,
    UpstreamRedirect,
    UpstreamRequest,
    UpstreamStalled,
    UpstreamTimeout,
    UpstreamTls,
    UpstreamTruncated,
)
from trueport.kit.deadline import Deadline
from trueport.kit.ids import CredentialId, TenantId

POOL = PoolKey(TenantId("ten_a"), CredentialId("crd_a"))
KEY = "sk-upstream-canary"
LIMIT = 1_000_000
PATIENT = Timeouts()


def request_to(
    origin: str,
    path: str = "/",
    *,
    method: str = "POST",
    body: bytes = b"{}",
    pool: PoolKey = POOL,
    timeouts: Timeouts = PATIENT,
) -> UpstreamRequest:
    headers = (("Authorization", f"Bearer {KEY}"), ("Content-Type", "application/json"))
    return UpstreamRequest(method, URL(origin + path), headers, body, pool, timeouts)


@asynccontextmanager
async def provider(scenario: Scenario) -> AsyncIterator[ChaosUpstream]:
    async with ChaosUpstream({"/": scenario}).running() as chaos:
        yield chaos


async def ask(egress: Egress, scenario: Scenario, **timeouts: float) -> bytes:
    async with provider(scenario) as chaos:
        answer = await Upstream(egress).send(request_to(chaos.origin, timeouts=Timeouts(**timeouts)))
        return await answer.read(LIMIT)


async def listen(egress: Egress, scenario: Scenario, *, event_s: float = 5.0, total_s: float = 30.0) -> list[bytes]:
    """The data of every event of a stream."""
    heard: list[bytes] = []
    async with provider(scenario) as chaos:
        answer = await Upstream(egress).send(request_to(chaos.origin))
        async for batch in events(answer, SseSplitter(), event_s=event_s, deadline=Deadline.after(total_s)):
            heard += [event_data(event) for event in batch]
    return heard


async def test_an_answer_brings_status_body_and_only_listed_headers(egress: Egress) -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.send_json(
            b'{"id":1}',
            status="429 Too Many",
            extra=b"Retry-After: 7\r\nRetry-After-Ms: 7000\r\nX-Request-Id: req_1\r\nOpenAI-Processing-Ms: 12\r\n"
            b"OpenAI-Organization: acme\r\nSet-Cookie: a=b\r\nServer: nginx\r\nKeep-Alive: timeout=5\r\n"
            b"X-RateLimit-Remaining-Tokens: 5\r\nVia: 1.1 proxy\r\n",
        )

    async with provider(scenario) as chaos:
        answer = await Upstream(egress).send(request_to(chaos.origin))
        body = await answer.read(LIMIT)

    assert (answer.status, body, answer.upstream_request_id) == (429, b'{"id":1}', "req_1")
    assert answer.headers == {
        "content-type": "application/json",
        "retry-after": "7",
        "retry-after-ms": "7000",
        "openai-processing-ms": "12",
    }


async def test_what_is_sent_is_the_body_as_given_and_asks_for_no_compression(egress: Egress) -> None:
    async with provider(Exchange.send_json) as chaos:
        await (await Upstream(egress).send(request_to(chaos.origin, body=b'{"n": 1.0}'))).read(LIMIT)

    (sent,) = chaos.requests
    assert sent.body == b'{"n": 1.0}'
    assert sent.headers["accept-encoding"] == "identity"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["content-length"] == "10"
    assert set(sent.headers) == {
        *("host", "accept", "accept-encoding", "user-agent", "authorization", "content-type", "content-length"),
    }


@pytest.mark.parametrize(
    "header",
    [
        ("Host", "other.example"), ("Content-Length", "3"), ("transfer-encoding", "chunked"), ("Connection", "x-drop"),
        ("Accept-Encoding", "gzip"), ("Cookie", "a=b"), ("Expect", "100-continue"), ("X-A", "b\r\nX-C: d"),
        ("X-A", "b\x00"), ("X A", "b"), ("X-A\n", "b"), ("X-A", "b\n"), ("X-A", "Ж"), ("", "b"),
    ],
)  # fmt: skip
async def test_headers_of_the_connection_and_illegal_ones_are_not_sent(egress: Egress, header: tuple[str, str]) -> None:
    async with provider(Exchange.send_json) as chaos:
        request = UpstreamRequest("POST", URL(chaos.origin), (header,), b"{}", POOL)
        with pytest.raises(ValueError, match="header"):
            await Upstream(egress).send(request)

    assert chaos.connections == 0


async def test_connections_are_reused_within_a_credential_and_never_across(egress: Egress) -> None:
    other = PoolKey(TenantId("ten_b"), CredentialId("crd_a"))
    async with provider(Exchange.send_json) as chaos:
        upstream = Upstream(egress)
        for pool in (POOL, POOL, other, PoolKey(POOL.tenant, CredentialId("crd_b")), other):
            await (await upstream.send(request_to(chaos.origin, pool=pool))).read(LIMIT)

    assert [exchange.connection for exchange in chaos.requests] == [1, 1, 2, 3, 2]


async def test_a_cookie_set_for_one_call_is_absent_from_the_next(egress: Egress) -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.send_json(extra=b"Set-Cookie: session=canary\r\n")

    async with provider(scenario) as chaos:
        for _ in range(2):
            await (await Upstream(egress).send(request_to(chaos.origin))).read(LIMIT)

    assert "cookie" not in chaos.requests[1].headers


async def test_a_closed_port_is_a_failed_connection(egress: Egress) -> None:
    async with provider(Exchange.send_json) as chaos:
        origin = chaos.origin
    with pytest.raises(UpstreamConnect) as caught:
        await Upstream(egress).send(request_to(origin))

    assert (caught.value.code, caught.value.status) == ("upstream_connect", 502)
    assert caught.value.counts_as_failure
    assert not caught.value.request_sent


async def test_a_name_that_does_not_exist_is_a_failed_connection() -> None:
    class Nxdomain(aiohttp.abc.AbstractResolver):
        async def resolve(self, *_: object) -> list[aiohttp.abc.ResolveResult]:
            raise OSError("Name or service not known")

        async def close(self) -> None: ...

    egress = Egress(EgressPolicy(), resolver=Nxdomain())
    with pytest.raises(UpstreamConnect):
        await Upstream(egress).send(request_to("https://api.nowhere.example-provider.com"))
    await egress.close()


@pytest.mark.parametrize("kind", ["expired", "self-signed", "wrong-name"])
async def test_a_certificate_that_proves_nothing_ends_the_call(
    egress: Egress, authority: Authority, tmp_path: Path, kind: CertificateKind
) -> None:
    async with ChaosUpstream({"/": Exchange.send_json}, authority.server_context(kind, tmp_path)).running() as chaos:
        with pytest.raises(UpstreamTls) as caught:
            await Upstream(egress).send(request_to(chaos.origin))

    assert (caught.value.code, caught.value.status) == ("upstream_tls", 502)
    assert chaos.requests == []


async def test_a_good_certificate_is_accepted(egress: Egress, authority: Authority, tmp_path: Path) -> None:
    async with ChaosUpstream({"/": Exchange.send_json}, authority.server_context("good", tmp_path)).running() as chaos:
        answer = await Upstream(egress).send(request_to(chaos.origin))
        assert await answer.read(LIMIT) == b'{"ok":true}'


async def test_the_systems_authorities_do_not_vouch_for_ours(authority: Authority, tmp_path: Path) -> None:
    egress = Egress(EgressPolicy(allow=("127.0.0.1",)))
    async with ChaosUpstream({"/": Exchange.send_json}, authority.server_context("good", tmp_path)).running() as chaos:
        with pytest.raises(UpstreamTls):
            await Upstream(egress).send(request_to(chaos.origin))
        await egress.close()


async def test_plain_http_on_a_tls_port_is_a_tls_failure(egress: Egress) -> None:
    async def answer_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UpstreamTls):
            await Upstream(egress).send(request_to(f"https://127.0.0.1:{port}"))


async def test_a_handshake_that_never_ends_is_a_timeout_before_anything_was_sent(egress: Egress) -> None:
    async with provider(Exchange.gone) as chaos:
        origin = chaos.origin.replace("http:", "https:")
        with pytest.raises(UpstreamTimeout) as caught:
            await Upstream(egress).send(request_to(origin, timeouts=Timeouts(connect_s=0.1)))
    assert not caught.value.request_sent


async def slow_headers(exchange: Exchange) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Pad: y\r\n" * 1_000:
        await exchange.send(bytes([byte]))
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("timeouts", [{"headers_s": 0.2}, {"total_s": 0.2}])
async def test_headers_that_come_byte_by_byte_have_one_deadline(egress: Egress, timeouts: dict[str, float]) -> None:
    started = time.monotonic()
    with pytest.raises(UpstreamTimeout) as caught:
        await ask(egress, slow_headers, **timeouts)

    assert (caught.value.code, caught.value.status) == ("upstream_timeout", 504)
    assert caught.value.request_sent
    assert time.monotonic() - started < 5


async def test_a_provider_that_only_says_continue_runs_into_the_header_deadline(egress: Egress) -> None:
    async def scenario(exchange: Exchange) -> None:
        for _ in range(1_000):
            await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(0.005)

    with pytest.raises(UpstreamTimeout):
        await ask(egress, scenario, headers_s=0.2)


async def test_a_body_that_drips_runs_into_the_total_deadline(egress: Egress) -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(1_000):
            await exchange.send(b"x")
            await asyncio.sleep(0.01)

    with pytest.raises(UpstreamTimeout):
        await ask(egress, scenario, total_s=0.2)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent", "304 Not"])
async def test_a_redirect_is_never_followed(egress: Egress, status: str) -> None:
    async with provider(Exchange.send_json) as target:
        location = f"Location: {target.origin}/\r\n".encode()
        with pytest.raises(UpstreamRedirect) as caught:
            await ask(egress, lambda exchange: exchange.send_json(b"", status=status, extra=location))

    assert (caught.value.code, caught.value.status) == ("upstream_redirect", 502)
    assert target.connections == 0


async def test_a_compressed_answer_is_refused_without_unpacking_it(egress: Egress) -> None:
    bomb = gzip.compress(b"0" * 20_000_000)

    async def scenario(exchange: Exchange) -> None:
        await exchange.send_json(bomb, extra=b"Content-Encoding: gzip\r\n")

    with pytest.raises(UpstreamInvalid) as caught:
        await ask(egress, scenario)
    assert (caught.value.code, caught.value.status) == ("upstream_invalid", 502)


async def test_an_answer_that_says_identity_is_taken(egress: Egress) -> None:
    assert await ask(egress, lambda e: e.send_json(b"1", extra=b"Content-Encoding: identity\r\n")) == b"1"


MALFORMED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "bad status line": b"HTTP/1.1 two hundred\r\n\r\n",
    "20,000 headers": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(20_000)) + b"\r\n",
    "a header of 70 kB": b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nabc",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "status 999": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    "coded transfer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "bad chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_not_http_is_an_invalid_answer(egress: Egress, answer: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        await ask(egress, lambda exchange: exchange.send(answer))


@pytest.mark.parametrize("garbage", [b"zz\r\nabc\r\n", b"-3\r\nabc\r\n", b"3\r\nabcdef\r\n0\r\n\r\n"])
async def test_a_body_that_stops_being_http_is_an_invalid_answer(egress: Egress, garbage: bytes) -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.send_chunk(b"abc")
        await asyncio.sleep(0.05)
        await exchange.send(garbage)

    with pytest.raises(UpstreamInvalid):
        await ask(egress, scenario)


async def hang_up(exchange: Exchange) -> None:
    exchange.writer.close()


async def reset(exchange: Exchange) -> None:
    exchange.reset()


@pytest.mark.parametrize("scenario", [hang_up, reset])
async def test_a_connection_that_ends_without_an_answer_may_have_been_billed(
    egress: Egress, scenario: Callable[[Exchange], Awaitable[None]]
) -> None:
    with pytest.raises(UpstreamConnect) as caught:
        await ask(egress, scenario)
    assert caught.value.request_sent


def breaks_off(start: bytes, ending: Scenario) -> Scenario:
    async def scenario(exchange: Exchange) -> None:
        await exchange.send(start)
        await asyncio.sleep(0.02)
        await ending(exchange)

    return scenario


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TRUNCATIONS = {
    "short of its length": breaks_off(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", hang_up),
    "reset short of its length": breaks_off(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", reset),
    "inside a chunk": breaks_off(CHUNKED + b"ff\r\nabc", hang_up),
    "between chunks": breaks_off(CHUNKED + b"3\r\nabc\r\n", hang_up),
    "reset between chunks": breaks_off(CHUNKED + b"3\r\nabc\r\n", reset),
    "reset without a length": breaks_off(b"HTTP/1.1 200 OK\r\n\r\nabc", reset),
}


@pytest.mark.parametrize("scenario", TRUNCATIONS.values(), ids=TRUNCATIONS.keys())
async def test_a_body_that_breaks_off_is_truncated(egress: Egress, scenario: Scenario) -> None:
    with pytest.raises(UpstreamTruncated) as caught:
        await ask(egress, scenario)
    assert (caught.value.code, caught.value.status) == ("upstream_truncated", 502)


async def test_a_body_without_a_length_that_ends_in_peace_is_whole(egress: Egress) -> None:
    assert await ask(egress, breaks_off(b"HTTP/1.1 200 OK\r\n\r\nabc", hang_up)) == b"abc"


@pytest.mark.parametrize(("size", "fits"), [(999, True), (1_000, True), (1_001, False)])
@pytest.mark.parametrize("chunked", [True, False])
async def test_the_limit_on_a_body_is_exact(egress: Egress, size: int, fits: bool, chunked: bool) -> None:
    async def scenario(exchange: Exchange) -> None:
        if not chunked:
            return await exchange.send_json(b"x" * size)
        await exchange.start_stream()
        await exchange.send_chunk(b"x" * size)
        return await exchange.end_stream()

    async with provider(scenario) as chaos:
        answer = await Upstream(egress).send(request_to(chaos.origin))
        if fits:
            assert len(await answer.read(1_000)) == size
        else:
            with pytest.raises(UpstreamInvalid):
                await answer.read(1_000)


async def test_messages_repeat_neither_url_nor_key_nor_what_the_provider_said(egress: Egress) -> None:
    said = f"HTTP/1.1 200 {KEY}\r\n: broken {KEY}\r\n\r\n".encode()
    scenarios: list[Scenario] = [hang_up, lambda e: e.send(said), *TRUNCATIONS.values()]
    for scenario in scenarios:
        with pytest.raises(UpstreamFailure) as caught:
            await ask(egress, scenario)
        told = f"{caught.value} {caught.value.fields}"
        assert "127.0.0.1" not in told
        assert KEY not in told
    assert KEY not in repr(request_to("http://127.0.0.1"))


async def drip_bytes(exchange: Exchange) -> None:
    await exchange.start_stream()
    await exchange.send_chunk(b"data: 1\n\n")
    for _ in range(1_000):
        await exchange.send_chunk(b"x")
        await asyncio.sleep(0.01)
    exchange.writer.close()


async def drip_comments(exchange: Exchange) -> None:
    await exchange.start_stream()
    await exchange.send_chunk(b"data: 1\n\n")
    for _ in range(1_000):
        await exchange.send_chunk(b": still here\n\nevent: nothing\n\n")
        await asyncio.sleep(0.01)
    exchange.writer.close()


async def fall_silent(exchange: Exchange) -> None:
    await exchange.start_stream()
    await exchange.send_chunk(b"data: 1\n\n")
    await exchange.gone()


@pytest.mark.parametrize("scenario", [drip_bytes, drip_comments, fall_silent])
async def test_a_stream_without_events_has_stalled(egress: Egress, scenario: Scenario) -> None:
    heard: list[bytes] = []
    async with provider(scenario) as chaos:
        answer = await Upstream(egress).send(request_to(chaos.origin))
        with pytest.raises(UpstreamStalled) as caught:  # noqa: PT012 - the loop is the deed
            async for batch in events(answer, SseSplitter(), event_s=0.2, deadline=Deadline.after(20)):
                heard += [event for event in batch if event_data(event)]
        await asyncio.wait_for(chaos.ended.acquire(), 5)

    assert heard == [b"data: 1\n\n"]
    assert (caught.value.code, caught.value.status) == ("upstream_stalled", 504)


async def steady_stream(exchange: Exchange) -> None:
    await exchange.start_stream()
    for number in range(1_000):
        await exchange.send_chunk(b"data: %d\n\n" % number)
        await asyncio.sleep(0.01)


async def test_a_stream_of_events_that_never_ends_meets_its_deadline(egress: Egress) -> None:
    with pytest.raises(UpstreamTimeout):
        await listen(egress, steady_stream, event_s=5, total_s=0.2)


async def test_events_that_keep_coming_keep_a_stream_alive_beyond_the_stall_time(egress: Egress) -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.start_stream()
        for number in range(12):
            await exchange.send_chunk(b"data: %d\n\n" % number)
            await asyncio.sleep(0.05)
        await exchange.end_stream()

    assert len(await listen(egress, scenario, event_s=0.4)) == 12


async def test_time_the_caller_takes_is_not_held_against_the_provider(egress: Egress) -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.send_chunk(b"data: 1\n\n")
        await asyncio.sleep(0.3)
        await exchange.send_chunk(b"data: 2\n\n")
        await exchange.end_stream()

    heard: list[bytes] = []
    async with provider(scenario) as chaos:
        answer = await Upstream(egress).send(request_to(chaos.origin))
        async for batch in events(answer, SseSplitter(), event_s=0.15, deadline=Deadline.after(20)):
            heard += batch
            await asyncio.sleep(0.4)

    assert heard == [b"data: 1\n\n", b"data: 2\n\n"]


def stream_that(ends: Scenario, data: bytes = b"data: 1\n\n") -> Scenario:
    async def scenario(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.send_chunk(data)
        await asyncio.sleep(0.02)
        await ends(exchange)

    return scenario


@pytest.mark.parametrize(
    "scenario",
    [
        stream_that(hang_up),
        stream_that(reset),
        stream_that(Exchange.end_stream, b"data: 1\n\ndata: cut of"),
        stream_that(Exchange.end_stream, b"data: 1\n\ndata: cut off\n"),
        stream_that(lambda e: e.send(b"5\r\ndat")),
    ],
)
async def test_a_stream_that_breaks_off_is_truncated_after_its_whole_events(egress: Egress, scenario: Scenario) -> None:
    async def ended(exchange: Exchange) -> None:
        await scenario(exchange)
        exchange.writer.close()

    heard: list[bytes] = []
    async with provider(ended) as chaos:
        answer = await Upstream(egress).send(request_to(chaos.origin))
        with pytest.raises(UpstreamTruncated):  # noqa: PT012 - the loop is the deed
            async for batch in events(answer, SseSplitter(), event_s=5, deadline=Deadline.after(20)):
                heard += batch

    assert heard == [b"data: 1\n\n"]


@pytest.mark.parametrize("last", [b"data: 1\n\n", b"data: 1\r\r", b"data: 1\r\n\r\n"])
async def test_a_stream_that_ends_after_an_event_is_whole(egress: Egress, last: bytes) -> None:
    assert await listen(egress, stream_that(Exchange.end_stream, last)) == [b"1"]


async def test_an_endless_line_is_refused_before_it_fills_the_memory(egress: Egress) -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.start_stream()
        with suppress(ConnectionError):
            await exchange.send_chunk(b"data: " + b"x" * 5_000_000)

    with pytest.raises(UpstreamInvalid):
        await listen(egress, scenario)


async def test_the_first_event_is_not_held_back(egress: Egress) -> None:
    async def scenario(exchange: Exchange) -> None:
        await stream_that(Exchange.gone)(exchange)

    async with provider(scenario) as chaos:
        answer = await Upstream(egress).send(request_to(chaos.origin))
        stream = events(answer, SseSplitter(), event_s=20, deadline=Deadline.after(20))
        async with asyncio.timeout(5):
            assert await anext(stream) == [b"data: 1\n\n"]
        answer.close()


async def stop_after_one_chunk(answer: UpstreamAnswer) -> None:
    await answer.read_chunk()


async def stop_at_once(_: UpstreamAnswer) -> None: ...


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("reading", [stop_at_once, stop_after_one_chunk])
async def test_closing_early_ends_the_connection_within_a_second(
    egress: Egress,
    authority: Authority,
    tmp_path: Path,
    tls: bool,
    reading: Callable[[UpstreamAnswer], Awaitable[None]],
) -> None:
    context = authority.server_context("good", tmp_path) if tls else None
    async with ChaosUpstream({"/": steady_stream}, context).running() as chaos:
        answer = await Upstream(egress).send(request_to(chaos.origin))
        await reading(answer)
        answer.close()
        answer.close()
        await asyncio.wait_for(chaos.ended.acquire(), 1)
        await asyncio.sleep(0)

        with pytest.raises(UpstreamTruncated):
            await answer.read(LIMIT)


async def test_closing_does_not_wait_for_the_other_sides_goodbye(
    egress: Egress, authority: Authority, tmp_path: Path
) -> None:
    """A network that has begun to swallow our bytes lets no farewell through; the connection ends all the same."""
    frozen, ended = asyncio.Event(), asyncio.Event()

    async with ChaosUpstream({"/": fall_silent}, authority.server_context("good", tmp_path)).running() as chaos:

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while data := await reader.read(65_536):
                    if not frozen.is_set():
                        writer.write(data)

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", chaos.port)
            back = asyncio.create_task(pump(there_reader, writer))
            await pump(reader, there_writer)
            ended.set()
            there_writer.transport.abort()
            writer.transport.abort()
            await back

        async with await asyncio.start_server(carry, "127.0.0.1", 0) as proxy:
            port = proxy.sockets[0].getsockname()[1]
            answer = await Upstream(egress).send(request_to(f"https://127.0.0.1:{port}"))
            await answer.read_chunk()
            frozen.set()
            answer.close()
            await asyncio.wait_for(ended.wait(), 1)


async def test_a_cancelled_reader_leaves_no_connection_behind(egress: Egress) -> None:
    async with provider(fall_silent) as chaos:
        answer = await Upstream(egress).send(request_to(chaos.origin))
        task = asyncio.create_task(answer.read(LIMIT))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(chaos.ended.acquire(), 1)


async def test_a_call_cancelled_before_its_headers_leaves_no_connection_behind(egress: Egress) -> None:
    async with provider(Exchange.gone) as chaos:
        task = asyncio.create_task(Upstream(egress).send(request_to(chaos.origin)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(chaos.ended.acquire(), 1)


async def test_a_loop_over_a_fast_provider_gives_others_their_turn(egress: Egress) -> None:
    """Otherwise a departed client, whose cancellation waits for a turn, would hold the worker."""

    async def scenario(exchange: Exchange) -> None:
        await exchange.start_stream()
        with suppress(ConnectionError):
            for _ in range(2_000):
                await exchange.send_chunk(b"x" * 10_000)
            await exchange.end_stream()

    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with provider(scenario) as chaos:
        answer = await Upstream(egress).send(request_to(chaos.origin))
        task = asyncio.create_task(other())
        reads = 0
        async for _ in answer.chunks():
            reads += 1
        task.cancel()

    # A turn between any two; before the first read the call waited for the head of the answer.
    assert turns >= reads - 1 > 10


async def test_a_burst_of_events_is_not_spread_over_time(egress: Egress) -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.start_stream()
        for number in range(50):
            await exchange.send_chunk(b"data: %d\n\n" % number)
        await exchange.end_stream()

    started = time.monotonic()
    for _ in range(5):
        assert await listen(egress, scenario) == [b"%d" % number for number in range(50)]
    assert time.monotonic() - started < 2


async def test_a_refused_address_never_sees_a_connection() -> None:
    egress = Egress(EgressPolicy())
    async with provider(Exchange.send_json) as chaos:
        with pytest.raises(EgressRefused) as caught:
            await Upstream(egress).send(request_to(chaos.origin))
    await egress.close()

    assert chaos.connections == 0
    assert (caught.value.code, caught.value.status) == ("egress_refused", 502)
    assert not caught.value.counts_as_failure


async def test_many_calls_one_after_the_other_share_a_connection_after_every_kind_of_whole_body(egress: Egress) -> None:
    async def chunked(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.send_chunk(b"{}")
        await exchange.end_stream()

    scenarios: dict[str, Scenario] = {
        "/json": Exchange.send_json,
        "/chunked": chunked,
        "/empty": lambda e: e.send_json(b""),
        "/none": lambda e: e.send(b"HTTP/1.1 204 No Content\r\n\r\n"),
    }
    async with ChaosUpstream(scenarios).running() as chaos:
        for path in [*scenarios, *scenarios]:
            answer = await Upstream(egress).send(request_to(chaos.origin, path))
            await answer.read(LIMIT)
        assert chaos.connections == 1


async def test_a_connection_that_the_provider_closed_while_idle_is_not_used_again(egress: Egress) -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.send_json()
        exchange.writer.close()

    async with provider(scenario) as chaos:
        for _ in range(3):
            answer = await Upstream(egress).send(request_to(chaos.origin))
            assert await answer.read(LIMIT) == b'{"ok":true}'
            await asyncio.wait_for(chaos.ended.acquire(), 5)
            await asyncio.sleep(0.02)

    assert chaos.connections == 3


async def test_a_body_larger_than_the_socket_buffer_arrives_whole(egress: Egress) -> None:
    body = b"0123456789" * 900_000
    async with provider(Exchange.send_json) as chaos:
        await (await Upstream(egress).send(request_to(chaos.origin, body=body))).read(LIMIT)
    assert chaos.requests[0].body == body


async def test_an_answer_nobody_asked_for_is_not_given_to_the_next_call(egress: Egress) -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.send_json(b'"asked"')
        await asyncio.sleep(0.02)
        await exchange.send_json(b'"not asked"')

    async with provider(scenario) as chaos:
        for _ in range(3):
            answer = await Upstream(egress).send(request_to(chaos.origin))
            assert await answer.read(LIMIT) == b'"asked"'
            await asyncio.sleep(0.05)

    assert chaos.connections == 3


async def test_what_follows_an_answer_at_once_is_not_given_to_the_next_call(egress: Egress) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"

    async with provider(lambda exchange: exchange.send(whole + b'"first"' + whole + b'"other"')) as chaos:
        for _ in range(3):
            answer = await Upstream(egress).send(request_to(chaos.origin))
            assert await answer.read(LIMIT) == b'"first"'

    assert chaos.connections == 3


@pytest.mark.parametrize(("method", "is_sent_again"), [("GET", True), ("DELETE", True), ("POST", False)])
async def test_only_what_may_be_repeated_is_when_a_kept_connection_ends_under_it(
    egress: Egress, method: str, is_sent_again: bool
) -> None:
    async def scenario(exchange: Exchange) -> None:
        if len(chaos.requests) == 2:
            exchange.writer.close()
        else:
            await exchange.send_json()

    async with provider(scenario) as chaos:
        await (await Upstream(egress).send(request_to(chaos.origin))).read(LIMIT)
        again = request_to(chaos.origin, method=method, body=b"")
        if is_sent_again:
            assert await (await Upstream(egress).send(again)).read(LIMIT) == b'{"ok":true}'
        else:
            with pytest.raises(UpstreamConnect):
                await Upstream(egress).send(again)

    assert len(chaos.requests) == (3 if is_sent_again else 2)


async def test_a_new_connection_that_ends_without_an_answer_is_not_tried_again(egress: Egress) -> None:
    async with provider(hang_up) as chaos:
        with pytest.raises(UpstreamConnect):
            await Upstream(egress).send(request_to(chaos.origin, method="GET", body=b""))

    assert len(chaos.requests) == 1


async def test_interim_answers_are_passed_over(egress: Egress) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

    async def scenario(exchange: Exchange) -> None:
        await exchange.send(interim)
        await asyncio.sleep(0.02)
        await exchange.send(interim)
        await exchange.send_json()

    assert await ask(egress, scenario) == b'{"ok":true}'


async def test_trailers_end_a_stream_like_any_other_end(egress: Egress) -> None:
    async def scenario(exchange: Exchange) -> None:
        await exchange.start_stream(extra=b"Trailer: X-Sum\r\n")
        await exchange.send_chunk(b"abc")
        await exchange.send(b"0\r\nX-Sum: 1\r\n\r\n")

    async with provider(scenario) as chaos:
        for _ in range(2):
            assert await (await Upstream(egress).send(request_to(chaos.origin))).read(LIMIT) == b"abc"

    assert chaos.connections == 1


async def test_an_answer_to_half_a_body_is_read_and_ends_the_connection(egress: Egress) -> None:
    """A provider that refuses a large body need not read it first."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(100_000)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
        with suppress(ConnectionError):
            await reader.read()
        ended.set()
        writer.close()

    ended = asyncio.Event()
    server = await asyncio.start_server(refuse, "127.0.0.1", limit=1 << 16)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answer = await Upstream(egress).send(request_to(f"http://127.0.0.1:{port}", body=b"x" * (16 << 20)))
        assert answer.status == 413
        assert await answer.read(LIMIT) == b"{}"
        # The rest of the body is not sent: the provider sees the end, though what was under way comes before it.
        await asyncio.wait_for(ended.wait(), 5)


async def test_a_head_request_has_no_body_whatever_length_is_stated(egress: Egress) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    async with provider(lambda exchange: exchange.send(head)) as chaos:
        for _ in range(2):
            answer = await Upstream(egress).send(request_to(chaos.origin, method="HEAD", body=b""))
            assert await answer.read(LIMIT) == b""

    assert chaos.connections == 1


@pytest.mark.parametrize(("method", "length"), [("GET", None), ("POST", "0"), ("DELETE", "0")])
async def test_an_empty_body_has_a_length_where_one_could_be_expected(
    egress: Egress, method: str, length: str | None
) -> None:
    async with provider(Exchange.send_json) as chaos:
        await (await Upstream(egress).send(request_to(chaos.origin, method=method, body=b""))).read(LIMIT)

    assert chaos.requests[0].headers.get("content-length") == length


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX-B: c", "/\x00", "/Ж"])
async def test_a_path_that_would_end_the_request_line_is_not_sent(egress: Egress, path: str) -> None:
    async with provider(Exchange.send_json) as chaos:
        request = UpstreamRequest("POST", URL(chaos.origin + path, encoded=True), (), b"{}", POOL)
        with pytest.raises(ValueError, match="request line"):
            await Upstream(egress).send(request)

    assert chaos.connections == 0


async def test_the_answers_head_has_bounds(egress: Egress) -> None:
    for extra in (b"X-A: " + b"b" * 9_000 + b"\r\n", b"".join(b"X-%d: b\r\n" % number for number in range(200))):
        with pytest.raises(UpstreamInvalid):
            await ask(egress, lambda exchange, extra=extra: exchange.send_json(extra=extra))  # type: ignore[misc]


async def test_a_switch_of_protocols_is_an_invalid_answer_and_ends_the_connection(egress: Egress) -> None:
    switch = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    async with provider(lambda exchange: exchange.send(switch)) as chaos:
        for _ in range(2):
            with pytest.raises(UpstreamInvalid):
                await Upstream(egress).send(request_to(chaos.origin))

    assert chaos.connections == 2
