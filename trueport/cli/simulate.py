"""`trueport simulate`: a provider to call when there is none."""

import asyncio
import contextlib
import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import click

from trueport.simulator import Simulator
from trueport.simulator.guide import help_text


def _epilog() -> str:
    """Examples and tables, kept line by line: a line with a backspace alone tells click not to wrap a paragraph."""
    example = """Examples:
  trueport simulate --port 9900
  curl http://127.0.0.1:9900/v1/chat/completions -H "Authorization: Bearer sk-any" \\
    -d '{"model": "sim-model", "messages": [{"role": "user", "content": "Hello [[tokens: 20]]"}]}'
  curl http://127.0.0.1:9900/v1/messages -H "x-api-key: any" -H "anthropic-version: 2023-06-01" \\
    -d '{"model": "sim-model", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}'
  curl http://127.0.0.1:9900/_simulator/ledger"""
    return "\n\n".join(f"\b\n{paragraph}" for paragraph in (example, *help_text().split("\n\n")))


@click.command("simulate", epilog=_epilog())
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=9900, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks a free one."
)
@click.option("--json", "as_json", is_flag=True, help="Print the address as one JSON object.")
@click.option(
    "--ledger-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append every finished call to this file, one JSON object a line.",
)
def simulate(host: str, port: int, *, as_json: bool, ledger_file: Path | None) -> None:
    """Run a deterministic provider for demos and tests.

    It speaks the dialects of OpenAI, Anthropic, Google and Azure; the path decides which. The same request always
    gets the same answer. Directives in the prompt, in the `x-simulator` header or after a `+` in the model name say
    what to answer and how to misbehave. Ctrl-C stops it.
    """
    with ExitStack() as stack:
        # Unbuffered: a line is on its way to the disk when the call is over, whatever happens to us next.
        file = stack.enter_context(ledger_file.open("ab", buffering=0)) if ledger_file else None
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_serve(host, port, as_json=as_json, ledger_file=file))
        except OSError as error:
            raise click.ClickException(f"Cannot listen on {host}:{port}: {error.strerror or error}") from error


async def _serve(host: str, port: int, *, as_json: bool, ledger_file: BinaryIO | None) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, stopped.set)
    simulator = Simulator(ledger_file=ledger_file)
    await simulator.start(host, port)
    if as_json:
        line = json.dumps({"url": simulator.url, "port": simulator.port, "pid": os.getpid()})
    else:
        line = f"Simulated provider at {simulator.url}/v1 (any key; Ctrl-C stops it)"
    # click.echo flushes, so a parent that reads the line knows that the port is open.
    click.echo(line)
    try:
        await stopped.wait()
    finally:
        await simulator.stop()


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.Loop
    return None
