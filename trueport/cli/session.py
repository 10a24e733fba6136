"""What every command shares: settings, resources, output for people or machines, errors as exit codes."""

import asyncio
import functools
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from trueport.domains.analytics.api import MongoSink
from trueport.domains.auth.api import Tenant, find_tenant, operator_scope, tenant_key
from trueport.domains.config.api import ConfigService
from trueport.kit.errors import NotFound, TrueportError, Unavailable
from trueport.kit.logging import configure_logging
from trueport.lifespan import open_resources
from trueport.settings import Settings, SettingsError, load_settings
from trueport.storage.documents import open_store
from trueport.storage.embedded import EmbeddedFailed, EmbeddedMissing
from trueport.web.domain import Resources
from trueport.web.trail import Trail, open_trail

T = TypeVar("T")
P = ParamSpec("P")

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_AWAY = 3
AWAY = (Unavailable, EmbeddedMissing, EmbeddedFailed)

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="TRUEPORT_CONFIG",
    help="TOML file with settings; the environment wins over it.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines.")


class Failed(click.ClickException):
    """An error for a person: one sentence on standard error, and an exit code."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click looks on the instance


def settings_of(config_file: Path | None, *, generate_secrets: bool = True) -> Settings:
    """The settings. Raises Failed that lists every problem."""
    try:
        return load_settings(os.environ, config_file=config_file, generate_secrets=generate_secrets)
    except SettingsError as error:
        lines = "\n".join(f"  - {problem}" for problem in error.problems)
        raise Failed(f"The settings do not make sense:\n{lines}", EXIT_USAGE) from error


def with_resources(settings: Settings, work: Callable[[Resources], Awaitable[T]]) -> T:
    """Run `work` on the database of the settings. Raises Failed for what a person can be told."""

    async def run() -> T:
        async with open_resources(settings) as resources:

            def sink() -> MongoSink:
                return MongoSink(resources.database, open_store(settings.storage_url, settings.data_dir))

            async with open_trail(settings, resources.clock, sink) as trail:
                resources.parts[Trail] = trail
                return await work(resources)

    listener = configure_logging(level="WARNING")
    try:
        return asyncio.run(run())
    except AWAY as error:
        raise Failed(error.message, EXIT_AWAY) from error
    except TrueportError as error:
        raise Failed(_explained(error)) from error
    finally:
        listener.stop()


def tells_errors(command: Callable[P, T]) -> Callable[P, T]:
    """Turn refusals that escape a command into Failed."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except AWAY as error:
            raise Failed(error.message, EXIT_AWAY) from error
        except TrueportError as error:
            raise Failed(_explained(error)) from error

    return run


def _explained(error: TrueportError) -> str:
    listed = error.fields.get("errors")
    if not isinstance(listed, list):
        return error.message
    return "\n".join([error.message, *(f"  - {item['field']}: {item['message']}" for item in listed if item["field"])])


async def tenant_named(resources: Resources, slug: str) -> Tenant:
    """The tenant with this slug. Raises NotFound that says what to do."""
    tenant = await find_tenant(resources, slug)
    if tenant is None:
        raise NotFound(f"There is no tenant {slug!r}: create one with `trueport init --tenant {slug} …`.")
    return tenant


async def configuration_of(resources: Resources, tenant: Tenant) -> ConfigService:
    """The configuration of a tenant, its secrets sealed with the tenant's own key."""
    scope = operator_scope(tenant)
    return ConfigService(resources.database, scope, await tenant_key(resources, scope.tenant_id), resources.clock)


def show(values: Mapping[str, object], *, as_json: bool) -> None:
    """Values as one JSON object, or as lines `name: value`."""
    if as_json:
        click.echo(json.dumps(values, default=str))
        return
    width = max(map(len, values), default=0)
    for name, value in values.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {value}")


def read_password(*, from_stdin: bool) -> str:
    """A password from standard input, or asked for twice at the terminal."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer
