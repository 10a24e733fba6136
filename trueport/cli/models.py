"""`trueport models`: which detection models there are, fetching them, and whether they are whole."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, get_args

import click

from trueport.cli.session import EXIT_AWAY, EXIT_FAILED, EXIT_USAGE, Failed, json_option
from trueport.detection.sidecar.files import SidecarFailed
from trueport.detection.sidecar.named import (
    GUARD,
    NamedModel,
    State,
    named_models,
    read_manifest,
    state_of,
    state_of_embedded,
)
from trueport.detection.sidecar.production import Device, put_named
from trueport.detection.sidecar.pulling import HubAway, PullFailed, PullRefused, pull

_EMBEDDED: Final = "guard"

_data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="TRUEPORT_DATA_DIR",
    default=Path("trueport-data"),
    show_default=True,
    help="Models are kept in its folder models.",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One model as it is listed. `state` is what its hashes say; `revision` the hub's commit, or the model's hash."""

    name: str
    served: str
    licence: str
    size_mb: int
    state: State
    folder: str
    revision: str
    is_default: bool
    note: str


@click.group()
def models() -> None:
    """List, fetch and verify detection models."""


@models.command("list", epilog="Example: trueport models list --json")
@_data_dir_option
@json_option
def list_models(*, data_dir: Path, as_json: bool) -> None:
    """Show the embedded model and the full-size ones, with licence, size, place and state."""
    rows = _rows(data_dir)
    if as_json:
        click.echo(json.dumps({"data": [asdict(row) for row in rows]}))
        return
    for row in rows:
        star = "*" if row.is_default else " "
        click.echo(f"{row.name:<31}{star} {row.served:<10} {row.size_mb:>5} MB  {row.state:<8} {row.licence}")
        if row.folder:
            click.echo(f"{'':<33}{row.folder}  {row.revision}")
    click.echo("\n* what `trueport models pull` fetches when no model is named")


@models.command(
    "pull",
    epilog="\b\nExamples:\n  trueport models pull\n  trueport models pull pii-kiji --revision 0123abc\n"
    "  trueport models pull injection-prompt-guard-2-22m --accept-licence",
)
@click.argument("names", nargs=-1)
@_data_dir_option
@click.option(
    "--repository",
    type=click.Path(file_okay=False, path_type=Path),
    help="The Triton model repository to lay them into; without it models/triton in the data folder.",
)
@click.option("--revision", help="Commit, tag or branch of the one model that is named; without it the newest.")
@click.option("--accept-licence", is_flag=True, help="You have read the model's licence and keep to it.")
@click.option(
    "--device",
    type=click.Choice(get_args(Device)),
    default="gpu",
    show_default=True,
    help="What the Triton server runs them on.",
)
def pull_models(
    *,
    names: tuple[str, ...],
    data_dir: Path,
    repository: Path | None,
    revision: str | None,
    accept_licence: bool,
    device: Device,
) -> None:
    """Fetch models from the Hugging Face hub, for a Triton server of your own.

    Exit code 3 when the hub is away. HF_ENDPOINT and HF_TOKEN are those of huggingface_hub.
    """
    if revision and len(names) != 1:
        raise Failed("--revision goes with the name of one model.", EXIT_USAGE)
    home = data_dir.absolute() / "models"
    for name in names or [name for name, named in named_models().items() if named.is_default]:
        named = _named(name)
        try:
            manifest = pull(name, named, home / name, revision=revision, has_consent=accept_licence, progress=_say)
            put_named(repository or home / "triton", named, manifest, home / name, device=device)
        except HubAway as error:
            raise Failed(error.message, EXIT_AWAY) from error
        except (PullRefused, PullFailed, SidecarFailed) as error:
            raise Failed(error.message, EXIT_FAILED) from error
        click.echo(f"{name} {manifest.revision} sha256:{manifest.sha256}")


@models.command(epilog="Example: trueport models verify && echo all whole")
@click.argument("names", nargs=-1)
@_data_dir_option
@json_option
def verify(*, names: tuple[str, ...], data_dir: Path, as_json: bool) -> None:
    """Compare models with the hashes they came with. Exit code 1 when one is damaged.

    Without names: the embedded model and all that were fetched.
    """
    known = {row.name: row for row in _rows(data_dir)}
    for name in names:
        if name not in known:
            _named(name)
    rows = [known[name] for name in names] or [
        row for row in known.values() if row.state != "missing" or row.name == _EMBEDDED
    ]
    is_whole = all(row.state == "ok" for row in rows)
    if as_json:
        click.echo(json.dumps({"ok": is_whole, "data": [asdict(row) for row in rows]}))
    else:
        for row in rows:
            click.echo(f"{row.state:<8} {row.name:<31} {row.folder}")
    if not is_whole:
        raise SystemExit(EXIT_FAILED)


def _rows(data_dir: Path) -> list[Row]:
    home = data_dir.absolute() / "models"
    return [_embedded_row(), *(_row(name, named, home / name) for name, named in named_models().items())]


def _embedded_row() -> Row:
    state = state_of_embedded(GUARD)
    size = sum(path.stat().st_size for path in GUARD.glob("*")) if state != "missing" else 0
    return Row(
        name=_EMBEDDED,
        served="all",
        licence="Apache-2.0",
        size_mb=round(size / 1e6),
        state=state,
        folder=str(GUARD) if state != "missing" else "",
        revision="",
        is_default=False,
        note="comes with TruePortAI and runs on a processor",
    )


def _row(name: str, named: NamedModel, folder: Path) -> Row:
    state, manifest = state_of(folder), read_manifest(folder)
    return Row(
        name=name,
        served=named.served,
        licence=named.licence if named.is_commercial else f"{named.licence} (not for commercial use)",
        size_mb=named.size_mb,
        state=state,
        folder=str(folder) if state != "missing" else "",
        revision=manifest.revision if manifest else "",
        is_default=named.is_default,
        note=named.note,
    )


def _named(name: str) -> NamedModel:
    named = named_models().get(name)
    if named is None:
        raise Failed(f"There is no model {name!r}; known are {', '.join(named_models())}.", EXIT_USAGE)
    return named


def _say(line: str) -> None:
    click.echo(line, err=True)
