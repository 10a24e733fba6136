"""Requests as hostile or slow clients send them."""

import asyncio
import gzip
import time
import tracemalloc
import zlib
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.gateway.intake import (
    BodyTooLarge,
    ClientGone,
    InvalidHost,
    RequestTimeout,
    UnsupportedEncoding,
    check_headers,
    check_host,
    read_body,
)
from trueport.kit.errors import InvalidRequest, TrueportError

Headers = list[tuple[bytes, bytes]]
NONE: Headers = []
GZIP: Headers = [(b"content-encoding", b"gzip")]


class Client:
    """An ASGI `receive` that gives these pieces, then waits for ever or hangs up."""

    def __init__(self, *pieces: bytes, pause_s: float = 0, ends: bool = True, leaves: bool = False) -> None:
        self.pieces = list(pieces)
        self.pause_s = pause_s
        self.ends = ends
        self.leaves = leaves
        self.asked = 0

    async def __call__(self) -> MutableMapping[str, Any]:
        self.asked += 1
        if not self.pieces:
            if self.leaves:
                return {"type": "http.disconnect"}
            await asyncio.Event().wait()
        if self.pause_s:
            await asyncio.sleep(self.pause_s)
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or not self.ends}


def length(size: int) -> Headers:
    return [(b"content-length", b"%d" % size)]


@pytest.mark.parametrize("headers", [length(7), NONE, [(b"content-encoding", b"identity")]])
@pytest.mark.parametrize("pieces", [[b"1234567"], [b"123", b"4567"], [b"", b"123", b"", b"4567", b""]])
async def test_a_body_is_read_whole(headers: Headers, pieces: list[bytes]) -> None:
    assert await read_body(Client(*pieces), headers, limit_bytes=100) == b"1234567"


async def test_a_request_without_a_body_is_not_waited_for() -> None:
    client = Client()
    assert await read_body(client, length(0), limit_bytes=100) == b""
    assert client.asked == 0


async def test_a_stated_length_beyond_the_limit_is_refused_before_reading() -> None:
    client = Client(b"x")
    with pytest.raises(BodyTooLarge) as caught:
        await read_body(client, length(101), limit_bytes=100)
    assert (caught.value.code, caught.value.status) == ("body_too_large", 413)
    assert client.asked == 0


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize(("size", "fits"), [(99, True), (100, True), (101, False)])
async def test_the_limit_is_exact(size: int, fits: bool, stated: bool, encoded: bool) -> None:
    body = bytes(range(size))
    sent = gzip.compress(body) if encoded else body
    headers = [*(GZIP if encoded else NONE), *(length(len(sent)) if stated else NONE)]
    limit = 100 if not (encoded and stated) else max(100, len(sent))
    reading = read_body(Client(sent[:40], sent[40:]), headers, limit_bytes=limit)
    if fits or limit > 100:
        assert await reading == body
    else:
        with pytest.raises(BodyTooLarge):
            await reading


async def test_a_chunked_body_is_refused_at_the_limit_and_not_read_on() -> None:
    client = Client(*[b"x" * 60] * 50)
    with pytest.raises(BodyTooLarge):
        await read_body(client, NONE, limit_bytes=100)
    assert client.asked == 2


@pytest.mark.parametrize("sent", [b"123456", b"12345678"])
async def test_a_length_that_lies_is_refused(sent: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await read_body(Client(sent), length(7), limit_bytes=100)


@pytest.mark.parametrize("value", [b"-1", b"+1", b"1x", b"", b" 7", b"0x7", b"7,7", b"\xb2", b"9" * 30, b"1_0"])
async def test_a_length_that_is_no_number_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await read_body(Client(b"1234567"), [(b"content-length", value)], limit_bytes=100)


async def test_a_client_that_leaves_is_gone() -> None:
    with pytest.raises(ClientGone):
        await read_body(Client(b"x", ends=False, leaves=True), NONE, limit_bytes=100)


@pytest.mark.parametrize(
    "client",
    [Client(), Client(b"x", ends=False), Client(*[b"x"] * 1_000, pause_s=0.01),
    Client(*[b"x" * 20] * 500, pause_s=0.01)],
    ids=["never begins", "stops", "drips", "is faster than allowed, but for too long"],
)  # fmt: skip
async def test_a_body_that_comes_too_slowly_is_timed_out(client: Client) -> None:
    started = time.monotonic()
    with pytest.raises(RequestTimeout) as caught:
        await read_body(client, NONE, limit_bytes=100_000, deadline_s=0.3, grace_s=0.1, least_bytes_per_s=1_000)
    assert (caught.value.code, caught.value.status) == ("request_timeout", 408)
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("client", [Client(*[b"x"] * 1_000, pause_s=0.01), Client(b"x", ends=False)])
async def test_a_body_below_the_pace_is_given_up_long_before_the_deadline(client: Client) -> None:
    with pytest.raises(RequestTimeout):
        async with asyncio.timeout(9):
            await read_body(client, NONE, limit_bytes=100_000, deadline_s=60, grace_s=0.1, least_bytes_per_s=1_000)


async def test_a_body_at_a_fair_pace_may_take_longer_than_the_grace() -> None:
    client = Client(*[b"x" * 1_000] * 8, pause_s=0.03)
    body = await read_body(client, NONE, limit_bytes=100_000, grace_s=0.1, least_bytes_per_s=1_000)
    assert len(body) == 8_000


async def test_a_cancelled_reader_is_cancelled_and_not_timed_out() -> None:
    task = asyncio.create_task(read_body(Client(), NONE, limit_bytes=100))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("coding", [b"gzip", b"GZIP", b"x-gzip", b" gzip "])
async def test_a_gzip_body_is_inflated_as_it_comes(coding: bytes) -> None:
    body = bytes(range(256)) * 4
    sent = gzip.compress(body)
    client = Client(*[sent[at : at + 1] for at in range(len(sent))])
    assert await read_body(client, [(b"content-encoding", coding)], limit_bytes=2_000) == body


@pytest.mark.parametrize("coding", [b"br", b"deflate", b"zstd", b"compress", b"gzip, gzip", b"gzip,br", b"x", b"\xff"])
async def test_other_encodings_are_not_supported(coding: bytes) -> None:
    client = Client(b"x")
    with pytest.raises(UnsupportedEncoding) as caught:
        await read_body(client, [(b"content-encoding", coding)], limit_bytes=100)
    assert (caught.value.code, caught.value.status) == ("unsupported_encoding", 415)
    assert client.asked == 0


async def test_two_content_encodings_are_two_codings() -> None:
    with pytest.raises(UnsupportedEncoding):
        await read_body(Client(b"x"), [*GZIP, *GZIP], limit_bytes=100)


BAD_GZIP = {
    "empty": b"",
    "not gzip": b"hello, world, this is no gzip",
    "zlib": zlib.compress(b"hello"),
    "cut off": gzip.compress(b"hello, world")[:-1],
    "wrong checksum": gzip.compress(b"hello, world")[:-8] + b"\0\0\0\0" + gzip.compress(b"hello, world")[-4:],
    "two members": gzip.compress(b"hello") + gzip.compress(b"world"),
    "trailing bytes": gzip.compress(b"hello") + b"x",
}


@pytest.mark.parametrize("sent", BAD_GZIP.values(), ids=BAD_GZIP.keys())
async def test_gzip_that_does_not_hold_is_refused(sent: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await read_body(Client(sent), GZIP, limit_bytes=10_000)
    assert caught.value.status == 400


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """300 MB of zeros in 0.3 MB."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(b"\0" * 1_000_000) for _ in range(300)) + packer.flush()


@pytest.mark.parametrize("step", [1_000, 65_536, 10_000_000])
async def test_a_gzip_bomb_is_refused_within_little_memory(bomb: bytes, step: int) -> None:
    client = Client(*[bomb[at : at + step] for at in range(0, len(bomb), step)])

    tracemalloc.start()
    with pytest.raises(TrueportError) as caught:
        await read_body(client, GZIP, limit_bytes=10_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (type(caught.value), caught.value.status) in {(UnsupportedEncoding, 415), (BodyTooLarge, 413)}
    assert peak < 25_000_000


async def test_a_ratio_beyond_twenty_is_not_supported_even_within_the_limit() -> None:
    with pytest.raises(UnsupportedEncoding):
        await read_body(Client(gzip.compress(b"\0" * 100_000)), GZIP, limit_bytes=1_000_000)


@given(st.binary(max_size=300), st.integers(1, 50))
async def test_any_body_arrives_as_sent_or_is_refused(body: bytes, step: int) -> None:
    pieces = [body[at : at + step] for at in range(0, len(body), step)] or [b""]
    assert await read_body(Client(*pieces), NONE, limit_bytes=300) == body
    try:
        await read_body(Client(*pieces), GZIP, limit_bytes=300)
    except TrueportError as error:
        assert error.status in {400, 413, 415}  # noqa: PT017 - it is allowed, not required


@pytest.mark.parametrize(
    ("value", "host"),
    [(b"api.example.com", "api.example.com"), (b"API.Example.com:8443", "api.example.com:8443"),
    (b"127.0.0.1:80", "127.0.0.1:80"),
     (b"[::1]:8000", "[::1]:8000"), (b"localhost", "localhost"), (b"a_b.example", "a_b.example")],
)  # fmt: skip
def test_the_host_is_the_one_header(value: bytes, host: str) -> None:
    assert check_host([(b"accept", b"*/*"), (b"host", value)]) == host


BAD_HOSTS = [
    b"", b" ", b"a b", b"a/b", b"a?b", b"a#b", b"a@b", b"user:pw@a", b"a\\b", b"a:b", b"a:", b"a:123456", b"a,b",
    b"a;b",
    b"a\x00", b"a\r\nb", b"a\n", b"\ta", b"a.", b".a", b"a..b", b"[::1", b"::1", b"[x]", b"[]", b"a%2fb", b"\xc3\xa4",
    b"a'b",
    b"<a>", b"{a}", b"a|b", b"a:80:80", b"http://a", b"//a", b"a/", b"*", b"a&b", b"a=b", b"x" * 300,
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_HOSTS)
def test_a_host_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidHost) as caught:
        check_host([(b"host", value)])
    assert (caught.value.code, caught.value.status) == ("invalid_host", 400)


@pytest.mark.parametrize("count", [0, 2, 3])
def test_no_host_or_several_are_refused(count: int) -> None:
    with pytest.raises(InvalidHost):
        check_host([(b"host", b"a.example")] * count)


GOOD: Headers = [(b"host", b"a"), (b"content-type", b"application/json"), (b"x-name", "Grüße\t!".encode())]


@pytest.mark.parametrize("extra", [NONE, length(5), [(b"transfer-encoding", b"chunked")]])
def test_ordinary_headers_pass(extra: Headers) -> None:
    check_headers([*GOOD, *extra])


@pytest.mark.parametrize(
    "bad",
    [
        [(b"x-a", b"a\x00b")], [(b"x-a", b"a\rb")], [(b"x-a", b"a\nb")], [(b"x-a", b"a\r\n b")], [(b"x-a", b"\x7f")],
        [(b"x-a", b"\x1b[31m")], [(b"", b"a")], [(b"x a", b"a")], [(b"x\ny", b"a")], [(b"x-a:", b"a")],
        [(b"x\xff", b"a")],
        [(b"x\r\n", b"a")],
        [*length(5), *length(5)], [*length(5), *length(6)], [*length(5), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"identity")],
    ],
)  # fmt: skip
def test_headers_that_two_servers_might_read_differently_are_refused(bad: Headers) -> None:
    with pytest.raises(InvalidRequest):
        check_headers([*GOOD, *bad])
