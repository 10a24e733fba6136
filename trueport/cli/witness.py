"""`trueport witness`: watch other installations' logs, and sign that they only grow."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import click
from aiohttp import web

from trueport.audit.notes import NoteBroken
from trueport.audit.witness import MOST_REQUEST_BYTES, Answer, Witness, WitnessFolder, WitnessUnusable, trust
from trueport.cli.session import EXIT_USAGE, Failed, json_option, show
from trueport.kit.clock import Clock, SystemClock
from trueport.kit.logging import configure_logging, get_logger

log = get_logger(__name__)

_SHUTDOWN_S: Final = 5.0

folder_argument = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))


@click.group()
def witness() -> None:
    """Watch other installations' logs, and sign that they only grow (C2SP tlog-witness)."""


@witness.command(epilog="Example: trueport witness init ./witness --name witness.example.org/w1")
@folder_argument
@click.option(
    "--name", required=True, help="What the witness is called in its signatures; best an address without https://."
)
@json_option
def init(folder: Path, name: str, *, as_json: bool) -> None:
    """Make a witness with a key of its own, and print the public key that verifiers and logs need."""
    try:
        made = WitnessFolder.create(folder, name)
    except (WitnessUnusable, ValueError) as error:
        raise Failed(str(error), EXIT_USAGE) from error
    made.close()
    show({"key": str(made.cosigner.witness_key), "folder": str(folder)}, as_json=as_json)


@witness.command(name="trust", epilog="Example: trueport witness trust ./witness acme-log.key")
@folder_argument
@click.argument("key_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def trust_log(folder: Path, key_file: Path, *, as_json: bool) -> None:
    """Watch the logs with these public keys, one a line. A running witness sees it at once.

    Also when a log changes its key: add the new one while both sign.
    """
    try:
        new = trust(folder, key_file.read_text("utf-8"))
    except (NoteBroken, WitnessUnusable, UnicodeDecodeError) as error:
        raise Failed(str(error), EXIT_USAGE) from error
    show({"added": len(new), "logs": sorted({key.name for key in new})}, as_json=as_json)


@witness.command(epilog="Example: trueport witness serve ./witness --host 0.0.0.0 --port 8090")
@folder_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8090, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks a free one."
)
@json_option
def serve(folder: Path, host: str, port: int, *, as_json: bool) -> None:
    """Answer logs on POST /add-checkpoint until stopped. Put TLS in front of it."""
    listener = configure_logging(level="INFO")
    try:
        opened = WitnessFolder(folder)
    except WitnessUnusable as error:
        listener.stop()
        raise Failed(str(error), EXIT_USAGE) from error
    try:
        asyncio.run(_serve(opened, host, port, as_json=as_json))
    except OSError as error:
        raise Failed(f"Cannot listen on {host}:{port}: {error.strerror or error}") from error
    finally:
        opened.close()
        listener.stop()


async def _serve(opened: WitnessFolder, host: str, port: int, *, as_json: bool) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(each, stopped.set)
    app = witness_app(Witness(opened.cosigner, opened.trusted, opened), SystemClock())
    async with served(app, host, port) as address:
        show({"address": address, "key": str(opened.cosigner.witness_key)}, as_json=as_json)
        await stopped.wait()


@contextlib.asynccontextmanager
async def served(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """The address under which the application answers."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0][1]
        yield f"http://{host}:{bound}"
    finally:
        await runner.cleanup()


def witness_app(own: Witness, clock: Clock) -> web.Application:
    """The HTTP interface of a witness. `GET /` is its public key."""

    async def add_checkpoint(request: web.Request) -> web.Response:
        data = await request.read()
        try:
            # In a thread: it waits for the disk.
            answer = await asyncio.to_thread(own.add_checkpoint, data, int(clock.now().timestamp()))
        except OSError as error:
            log.error("witness_memory_failed", error_type=type(error).__name__)
            answer = Answer(500, "The witness cannot remember anything at the moment.\n")
        log.info("checkpoint_judged", status=answer.status)
        return web.Response(
            status=answer.status, body=answer.body.encode(), headers={"content-type": answer.content_type}
        )

    async def key(request: web.Request) -> web.Response:  # noqa: ARG001 - a handler's
        return web.Response(text=f"{own.witness_key}\n")

    app = web.Application(client_max_size=MOST_REQUEST_BYTES)
    app.router.add_post("/add-checkpoint", add_checkpoint)
    app.router.add_get("/", key)
    return app
