"""`trueport config`: the settings of the process, and the configuration of tenants."""

import asyncio
from pathlib import Path

import click

from trueport.cli.session import (
    EXIT_AWAY,
    Failed,
    config_option,
    configuration_of,
    json_option,
    settings_of,
    show,
    tells_errors,
    tenant_named,
    with_resources,
)
from trueport.detection.embedding import gives_embeddings
from trueport.domains.config.api import (
    check_tenant_file,
    has_topics,
    read_secrets,
    read_tenant_file,
    write_tenant_file,
)
from trueport.domains.proxy.wiring import egress_policy
from trueport.gateway.providers.registry import PROVIDER_NAMES
from trueport.kit.errors import InvalidRequest
from trueport.web.deeds import operator_deeds
from trueport.web.domain import Resources

tenant_option = click.option("--tenant", "slug", required=True, help="Short name of the organisation.")


@click.group()
def config() -> None:
    """Check settings; apply and export the configuration of tenants."""


@config.command(epilog="Example: trueport config check --json")
@json_option
@config_option
def check(*, as_json: bool, config_file: Path | None) -> None:
    """Explain every problem of the settings at once, and show them with secrets masked."""
    settings = settings_of(config_file, generate_secrets=False)
    values = {**settings.masked(), "warnings": list(settings.warnings)}
    show(values, as_json=as_json)


@config.command("apply", epilog="Example: trueport config apply acme.yaml --tenant acme")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@tenant_option
@click.option("--dry-run", is_flag=True, help="Check everything and change nothing.")
@json_option
@config_option
@tells_errors
def apply_file(file: Path, slug: str, *, dry_run: bool, as_json: bool, config_file: Path | None) -> None:
    """Make a tenant's credentials, routes and limits what FILE says.

    What the file does not name is removed. Secrets are read from the environment variables or files it names.
    """
    settings = settings_of(config_file)
    try:
        wanted = read_tenant_file(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{file} cannot be read.", EXIT_AWAY) from error
    if wanted.tenant not in (None, slug):
        raise InvalidRequest(f"The file is for the tenant {wanted.tenant!r}, not for {slug!r}.")
    egress = egress_policy(settings)
    tells_topics = not has_topics(wanted) or asyncio.run(gives_embeddings(settings.detection_url, settings.data_dir))
    check_tenant_file(wanted, PROVIDER_NAMES, egress, tells_topics=tells_topics)
    secrets = read_secrets(wanted)
    if dry_run:
        show({"tenant": slug, "valid": True}, as_json=as_json)
        return

    async def work(resources: Resources) -> dict[str, object]:
        service = await configuration_of(resources, await tenant_named(resources, slug))
        applied = await service.apply(
            wanted,
            secrets,
            changed_by="operator",
            providers=PROVIDER_NAMES,
            egress=egress,
            deeds=operator_deeds(resources),
        )
        return {
            "tenant": slug,
            "version": applied.version,
            "credentials": len(wanted.credentials),
            "routes": len(wanted.routes),
        }

    show(with_resources(settings, work), as_json=as_json)


@config.command("export", epilog="Example: trueport config export --tenant acme > acme.yaml")
@tenant_option
@config_option
def export(slug: str, *, config_file: Path | None) -> None:
    """Print a tenant's configuration as a file that `apply` takes; secrets by the name of their source."""

    async def work(resources: Resources) -> str:
        service = await configuration_of(resources, await tenant_named(resources, slug))
        return write_tenant_file(await service.export(slug))

    click.echo(with_resources(settings_of(config_file), work), nl=False)
