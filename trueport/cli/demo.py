"""`trueport demo`: everything on embedded parts, with a simulated provider and sample calls, in one command."""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import click

from trueport.cli.init import set_up
from trueport.cli.session import (
    EXIT_AWAY,
    Failed,
    config_option,
    configuration_of,
    settings_of,
    tells_errors,
    with_resources,
)
from trueport.domains.auth.api import find_tenant
from trueport.domains.config.api import read_tenant_file
from trueport.domains.proxy.wiring import egress_policy
from trueport.gateway.providers.registry import PROVIDER_NAMES
from trueport.kit.secret import Secret
from trueport.settings import Settings
from trueport.storage.embedded import EmbeddedMongo
from trueport.web.deeds import operator_deeds
from trueport.web.domain import Resources

TENANT: Final = "demo"
EMAIL: Final = "demo@trueport.example"
MODEL: Final = "sim-model"
_ENDING: Final = (signal.SIGINT, signal.SIGTERM)
_PATIENCE_S: Final = 60.0


@click.command(epilog="Example: trueport demo --port 8080")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the gateway; a free one if it is taken.")
@click.option("--once", is_flag=True, help="Stop after the sample calls instead of waiting for Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines.")
@config_option
@tells_errors
def demo(*, port: int | None, once: bool, as_json: bool, config_file: Path | None) -> None:
    """Start a simulated provider and the gateway, make a key, send sample calls, and say how to go on.

    Everything lives in TRUEPORT_DATA_DIR; a second run uses the same data again. Ctrl-C stops everything.
    """
    say = _quiet if as_json else click.echo
    os.environ["TRUEPORT_EGRESS_ALLOW"] = ",".join(
        filter(None, [os.environ.get("TRUEPORT_EGRESS_ALLOW", ""), "127.0.0.1"])
    )
    settings = settings_of(config_file)
    # With its own secrets and database set, nothing else makes the folder.
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    gateway_port = _free_port(port if port is not None else settings.server.port)
    # Ctrl-C and a polite kill end the same way: through the exits below, in reverse. Said of both, because whoever
    # starts this in the background of a script starts it with Ctrl-C switched off.
    for number in _ENDING:
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        try:
            say("Starting the embedded database …")
            embedded = EmbeddedMongo(settings.data_dir) if settings.embeds_mongodb else None
            if embedded is not None:
                stack.callback(embedded.stop)
                os.environ["TRUEPORT_MONGODB_URI"] = embedded.start()
                settings = settings_of(config_file)
            say("Starting the simulated provider …")
            provider_url = _start_simulator(stack)
            access = with_resources(settings, lambda resources: _prepare(resources, provider_url))
            say(f"Starting the gateway on port {gateway_port} …")
            base_url = f"http://127.0.0.1:{gateway_port}"
            _start_gateway(stack, gateway_port, base_url, config_file, settings.data_dir / "demo-server.log")
            samples = _send_samples(f"{base_url}/openai/v1", access["api_key"])
            _report(base_url, provider_url, access, samples, settings, as_json=as_json)
            if not once:
                say("\nRunning. Ctrl-C stops everything.")
                signal.pause()
        except KeyboardInterrupt:
            say("\nStopping …")


@contextmanager
def _not_interrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of the block: a process that has begun has to be known before anybody may leave.

    The signals are not blocked, because the process would begin with them blocked as well.
    """
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _quiet(_: str) -> None:
    """Takes the place of echo when a machine reads the output."""


def _start_simulator(stack: ExitStack) -> str:
    command = [sys.executable, "-m", "trueport", "simulate", "--port", str(_free_port(9900)), "--json"]
    with _not_interrupted():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        stack.callback(_end, process)
    line = process.stdout.readline() if process.stdout else b""
    if not line:
        raise Failed("The simulated provider did not start.", EXIT_AWAY)
    url: str = json.loads(line)["url"]
    return url


def _start_gateway(stack: ExitStack, port: int, base_url: str, config_file: Path | None, log_path: Path) -> None:
    environment = {**os.environ, "TRUEPORT_PORT": str(port), "TRUEPORT_HOST": "127.0.0.1", "TRUEPORT_WORKERS": "1",
                   "TRUEPORT_PUBLIC_URL": base_url}  # fmt: skip
    command = [sys.executable, "-m", "trueport", "serve"]
    if config_file is not None:
        command += ["--config", str(config_file)]
    log = stack.enter_context(log_path.open("ab"))
    with _not_interrupted():
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        stack.callback(_end, process)
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise Failed(f"The gateway ended at once: see {log_path}.", EXIT_AWAY)
        try:
            with urllib.request.urlopen(f"{base_url}/readyz", timeout=2):  # noqa: S310 - our own address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise Failed(f"The gateway did not become ready: see {log_path}.", EXIT_AWAY)


# The simulated provider speaks every dialect; each SDK finds the account made for its own.
_ACCOUNTS: Final = {
    "simulator": ("openai_compatible", "/v1"),
    "simulator-anthropic": ("anthropic", ""),
    "simulator-google": ("google", ""),
    "simulator-azure": ("azure", ""),
}


async def _prepare(resources: Resources, provider_url: str) -> dict[str, str]:
    """Tenant, owner and key of the demonstration, made on the first run, and a route to the simulated provider."""
    notes = resources.settings.data_dir / "demo.json"
    tenant = await find_tenant(resources, TENANT)
    if tenant is None or not notes.exists():
        password = secrets.token_urlsafe(18)
        made = await set_up(resources, slug=TENANT, name="Demonstration", email=EMAIL, password=password)
        kept = {"api_key": str(made["api_key"]), "email": EMAIL, "password": password}
        handle = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(kept, file)
        tenant = await find_tenant(resources, TENANT)
    if tenant is None:
        raise Failed("The demonstration's tenant could not be created.")
    credentials = {
        name: {"provider": provider, "base_url": provider_url + root, "secret": {"env": "TRUEPORT_DEMO_PROVIDER_KEY"}}
        for name, (provider, root) in _ACCOUNTS.items()
    }
    wanted = read_tenant_file(json.dumps({"version": 1, "credentials": credentials}))
    service = await configuration_of(resources, tenant)
    await service.apply(
        wanted,
        dict.fromkeys(_ACCOUNTS, Secret("sk-simulated-provider")),
        changed_by="demo",
        providers=PROVIDER_NAMES,
        egress=egress_policy(resources.settings),
        deeds=operator_deeds(resources),
    )
    kept_access: dict[str, str] = json.loads(notes.read_text())
    return kept_access


def _send_samples(base_url: str, key: str) -> list[dict[str, Any]]:
    """Three calls as an application would send them: one plain, one with a chosen answer, one streamed."""
    prompts: list[dict[str, Any]] = [
        {"content": "Say something friendly."},
        {"content": "What is the capital of France? [[say: Paris is the capital of France.]]"},
        {"content": "Tell me a short story. [[tokens: 24]]", "stream": True},
    ]
    return [_send(base_url, key, prompt["content"], streams=bool(prompt.get("stream"))) for prompt in prompts]


def _send(base_url: str, key: str, content: object, *, streams: bool) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": streams}
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{base_url}/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310 - our own address
            answer = reply.read().decode()
            interaction = reply.headers["x-trueport-interaction"]
    except (http.client.HTTPException, OSError) as error:
        raise Failed(f"A sample call failed ({error}): see demo-server.log in the data folder.") from error
    return {"interaction": interaction, "streamed": streams, "answer": _text_of(answer, streams=streams)}


def _text_of(answer: str, *, streams: bool) -> str:
    if not streams:
        return str(json.loads(answer)["choices"][0]["message"]["content"])
    chunks: list[dict[str, Any]] = [json.loads(line[6:]) for line in answer.splitlines() if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def _report(
    base_url: str, provider_url: str, access: dict[str, str], samples: list[dict[str, Any]], settings: Settings,
    *, as_json: bool,
) -> None:  # fmt: skip
    if as_json:
        click.echo(
            json.dumps(
                {
                    "api_key": access["api_key"],
                    "base_url": f"{base_url}/openai/v1",
                    "gateway_url": base_url,
                    "provider_url": provider_url,
                    "email": access["email"],
                    "password": access["password"],
                    "data_dir": str(settings.data_dir),
                    "samples": samples,
                }
            )
        )
        return
    for number, sample in enumerate(samples, start=1):
        kind = "streamed" if sample["streamed"] else "plain"
        click.echo(f"  call {number} ({kind}), recorded as {sample['interaction']}: {sample['answer']}")
    click.echo(f"""
API key   {access["api_key"]}
Base URL  {base_url}/openai/v1      (OpenAI SDK)
          {base_url}/anthropic      (Anthropic SDK)
          {base_url}/google         (Google GenAI SDK)
          {base_url}                (Azure OpenAI SDK, as azure_endpoint)

Try it:
  curl {base_url}/openai/v1/chat/completions -H "Authorization: Bearer {access["api_key"]}" \\
    -H "Content-Type: application/json" \\
    -d '{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{base_url}/openai/v1", api_key="{access["api_key"]}")
  print(client.chat.completions.create(model="{MODEL}", messages=[{{"role": "user", "content": "Hello"}}]))

Where to look:
  API description   {base_url}/schema
  interaction log   log in with {access["email"]} (password in {settings.data_dir / "demo.json"}), then
                    GET {base_url}/trueportai-services/api/v1/analytics/logs
  provider's ledger {provider_url}/_simulator/ledger
  data              {settings.data_dir}""")


def _free_port(wanted: int) -> int:
    """The wanted port if nobody listens there, else a free one."""
    for candidate in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            return port
    raise Failed("No free port was found.", EXIT_AWAY)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
