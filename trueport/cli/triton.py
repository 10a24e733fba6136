"""`trueport triton`: an inference server beside the gateway, on the processor alone."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import click

from trueport.cli.session import EXIT_AWAY, Failed, json_option
from trueport.detection.sidecar import environment, repository
from trueport.detection.sidecar.files import SidecarFailed
from trueport.detection.sidecar.server import TritonServer

_GUARD: Final = Path(repository.__file__).parents[1] / "models" / "guard"
_GRPC_PORT: Final = 8001
_HTTP_PORT: Final = 8000
_ALL: Final = 4

_python_option = click.option(
    "--python",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The Python 3.11 or 3.12 that runs the models; without it the one that runs this command, or one on the path.",
)
_environment_option = click.option(
    "--environment",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="TRUEPORT_TRITON_ENVIRONMENT",
    help="Folder for the server's own Python environment; without it one in the user's cache.",
)


@click.group()
def triton() -> None:
    """Run the detection models on a Triton inference server on this machine.

    A server with a graphics card and the full-size models is described in deploy/triton/README.md.
    """


@triton.command(epilog="Example: trueport triton install --environment /opt/triton")
@_python_option
@_environment_option
def install(*, python: Path | None, folder: Path | None) -> None:
    """Install the server, so that `run` need not: about 90 MB to fetch, 350 MB on disk."""
    click.echo(str(_environment(python, folder).folder))


@triton.command(
    epilog="\b\nExample:\n  trueport triton run --data-dir ./trueport-data\n"
    "  TRUEPORT_DETECTION_URL=triton://127.0.0.1:8001 trueport serve"
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="TRUEPORT_DATA_DIR",
    default=Path("trueport-data"),
    show_default=True,
    help="The model repository and the server's log go into its folder triton.",
)
@click.option(
    "--grpc-port", default=_GRPC_PORT, show_default=True, type=click.IntRange(0, 65535), help="0 picks a free one."
)
@click.option(
    "--http-port", default=_HTTP_PORT, show_default=True, type=click.IntRange(0, 65535), help="0 picks a free one."
)
@click.option("--threads", type=click.IntRange(1, 64), help="Cores for the model; without it up to four.")
@click.option(
    "--model",
    "guard",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=_GUARD,
    help="Folder of another model in the form of the embedded one.",
)
@_python_option
@_environment_option
@click.option("--foreground", is_flag=True, help="Show the server's own log here rather than keep it in a file.")
@json_option
def run(
    *,
    data_dir: Path,
    grpc_port: int,
    http_port: int,
    threads: int | None,
    guard: Path,
    python: Path | None,
    folder: Path | None,
    foreground: bool,
    as_json: bool,
) -> None:
    """Run a Triton server with the embedded model, for this machine alone. Ctrl-C ends it."""
    home = data_dir.absolute() / "triton"
    with _told():
        models = repository.lay_out(home / "models", guard, threads=threads or repository.default_threads())
    built = _environment(python, folder)
    server = TritonServer(
        built, models, None if foreground else home / "server.log", grpc_port=grpc_port, http_port=http_port
    )
    with _until_signal() as was_signalled:
        try:
            with _told():
                server.start()
            _announce(server, repository.served_models(models), as_json=as_json)
            ended = server.wait()
        except _Signalled:
            ended = 0
        finally:
            server.stop()
    if not was_signalled() and ended != 0:
        raise Failed(f"The Triton server ended by itself with {ended}.", EXIT_AWAY)


def _announce(server: TritonServer, served: tuple[str, ...], *, as_json: bool) -> None:
    url = f"triton://{server.address}"
    if len(served) < _ALL:
        # A model of which the server has nothing counts as failed with every call, unless the address leaves it out.
        url += f"?models={','.join(served)}"
    if as_json:
        click.echo(json.dumps({"url": url, "grpc": server.address, "http_port": server.http_port, "pid": server.pid}))
    else:
        click.echo(f"TRUEPORT_DETECTION_URL={url}")


def _environment(python: Path | None, folder: Path | None) -> environment.Environment:
    with _told():
        interpreter = environment.find_interpreter(python)
        return environment.build(
            (folder or environment.default_folder()).absolute(),
            interpreter,
            lambda line: click.echo(line, err=True),
        )


class _Signalled(BaseException):
    """SIGINT or SIGTERM arrived. Not an Exception, so that nothing on the way swallows it."""


@contextmanager
def _until_signal() -> Iterator[Callable[[], bool]]:
    """Raise _Signalled at the first SIGINT or SIGTERM; later ones change nothing, for the end is under way."""
    arrived = False

    def on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        nonlocal arrived
        if not arrived:
            arrived = True
            raise _Signalled

    earlier = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: arrived
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except SidecarFailed as error:
        raise Failed(error.message, EXIT_AWAY) from error
