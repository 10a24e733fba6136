"""`trueport serve`: the server, as a supervisor and its workers."""

import os
import shutil
from pathlib import Path

import click
from prometheus_client import values

from trueport.cli.session import EXIT_AWAY, Failed, config_option, settings_of
from trueport.cli.workers import listen, run_workers
from trueport.detection.registry import check_engine
from trueport.kit.errors import TrueportError
from trueport.settings import Settings
from trueport.storage.embedded import EmbeddedMongo


@click.command(epilog="Example: TRUEPORT_PORT=8080 trueport serve")
@click.option("--host", help="Address to listen on; TRUEPORT_HOST by default.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on; TRUEPORT_PORT by default.")
@click.option("--workers", type=click.IntRange(1, 256), help="Worker processes; TRUEPORT_WORKERS by default.")
@config_option
def serve(*, host: str | None, port: int | None, workers: int | None, config_file: Path | None) -> None:
    """Run the server until it is told to stop; SIGTERM and Ctrl-C let calls under way finish."""
    for name, value in (("HOST", host), ("PORT", port), ("WORKERS", workers)):
        if value is not None:
            os.environ[f"TRUEPORT_{name}"] = str(value)
    if config_file is not None:
        os.environ["TRUEPORT_CONFIG"] = str(config_file.absolute())
    settings = settings_of(config_file)
    for warning in settings.warnings:
        click.echo(f"Warning: {warning}", err=True)
    run_server(settings)


def run_server(settings: Settings) -> None:
    """Serve until stopped. An embedded database belongs to this process, so that all workers share it."""
    embedded = EmbeddedMongo(settings.data_dir) if settings.embeds_mongodb else None
    try:
        # Here and not only in the workers, whose supervisor would start them again and again.
        check_engine(settings.detection_url)
        if embedded is not None:
            os.environ["TRUEPORT_MONGODB_URI"] = embedded.start()
            os.environ.setdefault("TRUEPORT_ALLOW_EMBEDDED", "1")
        if settings.server.workers > 1:
            _share_metrics(settings.data_dir)
        _serve_until_stopped(settings)
    except TrueportError as error:
        raise Failed(error.message, EXIT_AWAY) from error
    finally:
        if embedded is not None:
            embedded.stop()


def _serve_until_stopped(settings: Settings) -> None:
    server = settings.server
    listener = listen(server.host, server.port)
    host = f"[{server.host}]" if ":" in server.host else server.host
    click.echo(f"Listening at http://{host}:{server.port}", err=True)
    run_workers(listener, server.workers)


def _share_metrics(data_dir: Path) -> None:
    """Workers count into files of one folder, so that any of them can answer /metrics for all."""
    folder = data_dir / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    # The library looks at the environment once, when it is imported, and that was before this.
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]  # untyped in the library
