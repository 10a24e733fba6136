"""`trueport simulate` as a user starts it, and the tables it explains itself with."""

import asyncio
import json
import signal
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.simulator import (
    PATIENCE_S,
    chat_body,
    chat_call,
    connected,
    raw_call,
    request_bytes,
    simulator_process,
)
from trueport.cli.simulate import simulate
from trueport.simulator import Simulator
from trueport.simulator.directives import DIRECTIVES
from trueport.simulator.faults import FAULTS
from trueport.simulator.guide import DIALECTS, dialect_table, directive_table, fault_table, how_to_write

PAGE = Path(__file__).parents[2] / "ui" / "docs" / "simulator.md"


def test_it_runs_in_a_process_of_its_own_keeps_a_file_and_stops_on_a_signal(tmp_path: Path) -> None:
    books = tmp_path / "ledger.jsonl"
    with simulator_process("--ledger-file", str(books)) as running:
        reply = asyncio.run(chat_call(running.port, "[[tokens: 5]]"))
        written = [json.loads(line) for line in books.read_text().splitlines()]
        running.process.send_signal(signal.SIGINT)
        status = running.process.wait(PATIENCE_S)

    assert reply.status == 200
    assert [(line["completion_tokens"], line["completed"]) for line in written] == [(5, True)]
    assert status == 0
    assert running.url == f"http://127.0.0.1:{running.port}"


def test_a_stop_during_a_stream_is_clean() -> None:
    async def begin(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET /v1/models HTTP/1.1\r\nauthorization: Bearer k\r\nx-simulator: fault=silence after=1\r\n\r\n"
        )
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        running.process.terminate()
        assert running.process.wait(PATIENCE_S) == 0
        writer.transport.abort()
        await asyncio.sleep(0)

    with simulator_process() as running:
        asyncio.run(begin(running.port))


async def test_faults_reach_the_socket_on_the_commands_own_loop() -> None:
    """The command runs on uvloop where there is one, whose transports are not asyncio's."""
    with simulator_process() as running:
        before = await chat_call(running.port, "[[fault: rst]]")
        within = await chat_call(running.port, "[[fault: rst after=2]]", stream=True)
        closed = await chat_call(running.port, "[[fault: eof after=2]]", stream=True)
        split = await chat_call(running.port, "[[say: naïve 🙂]] [[fault: split=1]]", stream=True)
        long = await chat_call(running.port, "[[tokens: 20000]]", stream=True)
        async with connected(running.port) as (reader, writer):
            writer.write(request_bytes(chat_body("[[pace: forever]] [[tokens: 9]]", stream=True)))
            await asyncio.wait_for(reader.readuntil(b"\n\n\r\n"), PATIENCE_S)
        books = request_bytes(method="GET", path="/_simulator/ledger", headers={"connection": "close"})
        entries: list[dict[str, object]] = [{"ended": None}]
        async with asyncio.timeout(PATIENCE_S):
            while entries[-1]["ended"] is None:
                entries = json.loads((await raw_call(running.port, books)).body)["entries"]

    assert (before.wire, before.was_reset) == (b"", True)
    assert (within.unchunked().count(b"data: "), within.was_reset) == (2, True)
    assert (closed.body.count(b"data: "), closed.was_reset) == (2, False)
    assert "🙂".encode() in split.unchunked()
    assert long.is_whole
    assert [entry["completed"] for entry in entries] == [False, False, False, True, True, False]
    assert [entry["client_gone"] for entry in entries] == [False] * 5 + [True]


async def test_it_can_speak_tls(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate(tmp_path))
    trusting = ssl.create_default_context(cafile=tmp_path / "certificate.pem")

    async with Simulator.running(tls=tls) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port, ssl=trusting)
        writer.write(request_bytes(chat_body("[[say: hidden]]"), headers={"connection": "close"}))
        reply = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
        await writer.wait_closed()

    assert simulator.url.startswith("https://")
    assert b"hidden" in reply


def certificate(folder: Path) -> Path:
    """A fresh self-signed certificate for 127.0.0.1, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulator")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    path = folder / "certificate.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return path


def test_a_port_in_use_is_a_plain_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = CliRunner().invoke(simulate, ["--port", str(port)])

    assert outcome.exit_code == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in outcome.output


def test_help_has_an_example_and_every_dialect_directive_and_fault() -> None:
    text = CliRunner().invoke(simulate, ["--help"]).output

    assert "trueport simulate --port 9900" in text
    for name, paths, _ in DIALECTS:
        assert f"{name}: {paths}" in text
    for row in DIRECTIVES.values():
        assert row.example in text
    for fault in FAULTS.values():
        assert f" {how_to_write(fault)}\n" in text


def test_the_documentation_has_the_tables_as_the_code_has_them() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert dialect_table() in page
    assert directive_table() in page
    assert fault_table() in page
