"""`trueport kek`: what wraps tenants' keys."""

from pathlib import Path

import click

from trueport.cli.session import config_option, json_option, settings_of, show, tenant_named, with_resources
from trueport.domains.auth.api import operator_scope, work_scopes, wrap_tenant_key
from trueport.web.domain import Resources

_OURS = "platform"


@click.group()
def kek() -> None:
    """Choose and change what wraps tenants' keys."""


@kek.command(
    epilog="\b\nExamples:\n  trueport kek rewrap --tenant acme --with 'aws-kms://alias/acme?region=eu-central-1'\n"
    "  trueport kek rewrap --with file:///run/secrets/kek-2027"
)
@click.option("--tenant", "slug", help="Short name of the organisation; without it, all.")
@click.option(
    "--with",
    "wrapped_by",
    required=True,
    help="file:///path, aws-kms://KEY?region=…, azure-kv://NAME.vault.azure.net/KEY, vault://HOST:8200/transit/KEY, "
    "or platform for TRUEPORT_KEK.",
)
@json_option
@config_option
def rewrap(slug: str | None, wrapped_by: str, *, as_json: bool, config_file: Path | None) -> None:
    """Wrap tenants' keys anew. What they have sealed stays as it is.

    The key that wraps them now has to be there still; it may go afterwards. May be run again after it broke off.
    """

    async def work(resources: Resources) -> dict[str, object]:
        if slug is not None:
            scopes = [operator_scope(await tenant_named(resources, slug))]
        else:
            scopes = [scope async for scope in work_scopes(resources, "wrapping keys anew")]
        for scope in scopes:
            await wrap_tenant_key(resources, scope.tenant_id, "" if wrapped_by == _OURS else wrapped_by)
        return {"wrapped": len(scopes), "with": wrapped_by}

    show(with_resources(settings_of(config_file), work), as_json=as_json)
