"""The lean client against real servers, and against a scripted one where the point is what goes over the wire."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.redis_server import RedisServer, inspector, private_redis
from trueport.gateway.limits.resp import Address, ErrorReply, RedisAway, RespClient, pack
from trueport.kit.secret import Secret

Runner = Callable[[Coroutine[object, object, None]], None]
both_loops = pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])


async def call(client: RespClient, *arguments: str | int) -> object:
    return await client.call(pack(*arguments), client.deadline())


@asynccontextmanager
async def scripted(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[tuple[RespClient, list[bytes]]]:
    """A server that answers each read with `answer(read)`; what it read, in order."""
    reads: list[bytes] = []
    open_writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.append(writer)
        while read := await reader.read(65536):
            reads.append(read)
            if (reply := answer(read)) is not None:
                writer.write(reply)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = RespClient(Address(port=server.sockets[0].getsockname()[1]))
    try:
        yield client, reads
    finally:
        await client.close()
        server.close()
        for writer in open_writers:
            writer.close()
        await server.wait_closed()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[RespClient]:
    client = RespClient(Address.parse(redis_url), timeout_s=5)
    yield client
    await client.close()


async def test_replies_come_to_the_commands_they_belong_to(client: RespClient) -> None:
    replies = await asyncio.gather(*(call(client, "ECHO", n) for n in range(500)))

    assert replies == [b"%d" % n for n in range(500)]


async def test_an_error_reply_belongs_to_its_command_alone(client: RespClient) -> None:
    replies = await client.call_all([pack("ECHO", "a"), pack("NOSUCH"), pack("ECHO", "b")])

    assert replies[0] == b"a"
    assert isinstance(replies[1], ErrorReply)
    assert replies[2] == b"b"


async def test_commands_of_one_loop_turn_leave_in_one_write() -> None:
    async with scripted(lambda read: b"+OK\r\n" * read.count(b"*1")) as (client, reads):
        await call(client, "PING")

        await asyncio.gather(*(call(client, "PING") for _ in range(50)))

        assert reads == [pack("PING"), pack("PING") * 50]


async def test_concurrent_first_commands_share_one_connection() -> None:
    with private_redis() as server:
        client = RespClient(Address.parse(server.url), timeout_s=5)
        await asyncio.gather(*(call(client, "PING") for _ in range(50)))

        with inspector(server.url) as looking:
            assert len(looking.client_list()) == 2  # the client's and our own
        await client.close()


async def test_a_silent_server_is_hung_up_on_and_everything_in_flight_fails() -> None:
    async with scripted(lambda _: None) as (client, reads):
        outcomes = await asyncio.gather(*(call(client, "PING") for _ in range(20)), return_exceptions=True)

        assert all(isinstance(outcome, RedisAway) for outcome in outcomes)
        assert len(reads) == 1


@both_loops
def test_it_works_the_same_on_both_event_loops(runner: Runner) -> None:
    async def story(server: RedisServer) -> None:
        client = RespClient(Address.parse(server.url), connect_timeout_s=5)
        replies = await asyncio.gather(
            *(client.call(pack("ECHO", n), asyncio.get_running_loop().time() + 5) for n in range(100))
        )
        assert replies == [b"%d" % n for n in range(100)]
        server.pause()
        async with asyncio.timeout(4):  # sooner than the deadlines of the first commands
            with pytest.raises(RedisAway, match="did not answer in time"):
                await call(client, "PING")
        server.resume()
        assert await client.call(pack("PING"), client.deadline() + 5) == b"PONG"
        await client.close()

    with private_redis() as server:
        runner(story(server))


@both_loops
def test_answers_that_came_while_the_loop_was_held_up_are_not_late(runner: Runner, redis_url: str) -> None:
    async def story() -> None:
        client = RespClient(Address.parse(redis_url), timeout_s=5, connect_timeout_s=5)
        await call(client, "PING")
        for _ in range(5):
            waiting = asyncio.create_task(client.call(pack("PING"), asyncio.get_running_loop().time() + 0.02))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            time.sleep(0.05)  # noqa: ASYNC251 - the loop is held up on purpose
            assert await waiting == b"PONG"
        await client.close()

    runner(story())


async def test_a_server_that_falls_silent_after_an_idle_while_is_noticed() -> None:
    with private_redis() as server:
        client = RespClient(Address.parse(server.url))
        await client.call(pack("PING"), client.deadline())
        await asyncio.sleep(0.2)
        server.pause()

        async with asyncio.timeout(5):
            with pytest.raises(RedisAway, match="did not answer in time"):
                await call(client, "PING")
        await client.close()


async def test_a_late_reply_never_reaches_a_later_command() -> None:
    """The reply to the first command arrives after its deadline, while the second waits."""
    with private_redis() as server:
        client = RespClient(Address.parse(server.url))
        await call(client, "PING")
        server.pause()
        with pytest.raises(RedisAway):
            await call(client, "ECHO", "late")
        server.resume()

        answers = [await client.call(pack("ECHO", n), client.deadline() + 5) for n in range(20)]

        assert answers == [b"%d" % n for n in range(20)]
        await client.close()


async def test_a_cancelled_command_lets_its_neighbours_finish_and_spoils_the_connection() -> None:
    async with scripted(lambda read: b"+OK\r\n" * read.count(b"*1")) as (client, _):
        await call(client, "PING")
        first, second = (asyncio.create_task(call(client, "PING")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()

        assert await second == b"OK"
        connection = client._connection
        assert await call(client, "PING") == b"OK"
        assert client._connection is not connection
        assert first.cancelled()


async def test_after_a_thousand_cancellations_no_answer_is_anothers(redis_url: str) -> None:
    client = RespClient(Address.parse(redis_url), timeout_s=5)
    wrong = cancelled = 0

    async def echo(text: str) -> None:
        nonlocal wrong
        if await call(client, "ECHO", text) != text.encode():
            wrong += 1

    for n in range(1000):
        tasks = [asyncio.create_task(echo(f"{n}-{m}")) for m in range(3)]
        for _ in range(n % 4):
            await asyncio.sleep(0)
        tasks[n % 3].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled += sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        assert not [o for o in outcomes if o is not None and not isinstance(o, asyncio.CancelledError)]

    await client.close()
    assert wrong == 0
    assert cancelled > 500


async def test_a_server_that_hung_up_is_called_again() -> None:
    with private_redis() as server:
        client = RespClient(Address.parse(server.url), timeout_s=5)
        await call(client, "PING")
        server.kill()
        with pytest.raises(RedisAway):
            await call(client, "PING")
        with pytest.raises(RedisAway):
            await call(client, "PING")
        server.start()

        assert await call(client, "PING") == b"PONG"
        await client.close()


async def test_nonsense_on_the_wire_ends_the_connection() -> None:
    async with scripted(lambda _: b"?what\r\n") as (client, _):
        with pytest.raises(RedisAway):
            await call(client, "PING")


async def test_an_answer_nobody_asked_for_ends_the_connection() -> None:
    async with scripted(lambda _: b"+OK\r\n+OK\r\n") as (client, _):
        assert await call(client, "PING") == b"OK"

        assert client._connection is not None
        assert not client._connection.accepts


async def test_a_password_and_a_database_are_given_before_anything_else() -> None:
    with private_redis("--requirepass", "open sesame") as server:
        url = f"redis://:open%20sesame@127.0.0.1:{server.port}/3"
        client = RespClient(Address.parse(url), timeout_s=5)
        await call(client, "SET", "here", "yes")

        with inspector(url) as looking:
            assert looking.get("here") == b"yes"
        await client.close()


async def test_a_wrong_password_is_redis_being_away() -> None:
    with private_redis("--requirepass", "open sesame") as server:
        client = RespClient(Address.parse(f"redis://user:wrong@127.0.0.1:{server.port}/3"), timeout_s=5)

        with pytest.raises(RedisAway) as refusal:
            await call(client, "PING")

        assert "wrong" not in str(refusal.value)
        await client.close()


async def test_a_unix_socket_serves_as_well(tmp_path: Path) -> None:
    with private_redis("--unixsocket", str(tmp_path / "r.sock")):
        client = RespClient(Address.parse(f"unix://{tmp_path}/r.sock?db=2"), timeout_s=5)

        assert await call(client, "PING") == b"PONG"
        await client.close()


async def test_with_tls_the_server_has_to_prove_its_name(tmp_path: Path) -> None:
    certificate = self_signed_for_loopback(tmp_path)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(100):
            writer.write(b"+PONG\r\n")
            await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side)
    address = Address.parse(f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    trusting = RespClient(
        address, timeout_s=5, connect_timeout_s=5, tls=ssl.create_default_context(cafile=str(certificate))
    )
    suspicious = RespClient(address, timeout_s=5, connect_timeout_s=5)

    assert await call(trusting, "PING") == b"PONG"
    with pytest.raises(RedisAway):
        await call(suspicious, "PING")

    await trusting.close()
    await suspicious.close()
    server.close()
    await server.wait_closed()


def self_signed_for_loopback(folder: Path) -> Path:
    """A file with a new key and a certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "redis.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


async def test_once_closed_nothing_is_asked(redis_url: str) -> None:
    client = RespClient(Address.parse(redis_url))
    await call(client, "PING")
    await client.close()

    with pytest.raises(RedisAway):
        await call(client, "PING")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", Address()),
        ("redis://cache.internal", Address(host="cache.internal")),
        ("redis://cache:6380/2", Address(host="cache", port=6380, database=2)),
        ("rediss://u%40x:p%2Fw@cache", Address(host="cache", tls=True, user="u@x", password=Secret("p/w"))),
        ("redis://:pw@[::1]:7000", Address(host="::1", port=7000, password=Secret("pw"))),
        ("unix:///run/redis.sock?db=4", Address(path="/run/redis.sock", database=4)),
    ],
)
def test_an_address_is_read_from_a_url(url: str, address: Address) -> None:
    assert Address.parse(url) == address


@pytest.mark.parametrize("url", ["http://h", "redis://:hunter2@h/x", "redis://:hunter2@h:port/0", "hunter2"])
def test_a_bad_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="Redis URL") as refusal:
        Address.parse(url)

    assert "hunter2" not in str(refusal.value)


def test_an_address_does_not_show_its_password() -> None:
    assert "hunter2" not in repr(Address.parse("redis://:hunter2@h"))
