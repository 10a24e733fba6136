"""`trueport audit keys`: the keys that sign checkpoints."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import click

from trueport.cli.session import (
    config_option,
    json_option,
    settings_of,
    show,
    tells_errors,
    tenant_named,
    with_resources,
)
from trueport.domains.audit.api import LogKeys
from trueport.domains.auth.api import operator_scope, work_scopes
from trueport.kit.clock import rfc3339
from trueport.kit.ids import TenantId
from trueport.web.deeds import COMMAND_LINE
from trueport.web.domain import Resources
from trueport.web.trail import trail_of


@click.group(name="keys")
def log_keys() -> None:
    """Show and change the keys that sign checkpoints."""


@log_keys.command(name="list", epilog="Example: trueport audit keys list --tenant acme --json")
@click.option("--tenant", "slug", required=True, help="Short name of the organisation.")
@json_option
@config_option
def list_keys(slug: str, *, as_json: bool, config_file: Path | None) -> None:
    """Print the public keys of an organisation's log and when each of them signs."""

    async def work(resources: Resources) -> dict[str, object]:
        scope = operator_scope(await tenant_named(resources, slug))
        found = await _keys(resources).validity(scope.tenant_id)
        return {
            str(each.key): {
                "begins_at": rfc3339(each.begins_at),
                "retires_at": None if each.retires_at is None else rfc3339(each.retires_at),
            }
            for each in found
        }

    keys = with_resources(settings_of(config_file), work)
    if as_json:
        show({"keys": [{"key": key, **when} for key, when in keys.items() if isinstance(when, dict)]}, as_json=True)
        return
    for key, when in keys.items():
        assert isinstance(when, dict)  # noqa: S101 - what was made above
        click.echo(f"{key}  from {when['begins_at']} until {when['retires_at'] or 'further notice'}")


@log_keys.command(
    epilog="\b\nExamples:\n  trueport audit keys rotate --reason 'yearly change'\n"
    "  trueport audit keys rotate --overlap-hours 1 --reason 'the old key may have been copied'"
)
@click.option("--reason", required=True, help="Why, as the record in each log is to say.")
@click.option(
    "--overlap-hours",
    type=click.IntRange(1, 24 * 366),
    default=30 * 24,
    show_default=True,
    help="How long the present key signs beside the new one.",
)
@json_option
@config_option
@tells_errors
def rotate(reason: str, *, overlap_hours: int, as_json: bool, config_file: Path | None) -> None:
    """Sign with a new key from now on, in every log of this installation; the old one signs along for a while.

    Each log gets a record of it, which the old key signs too: a verifier that knows only the old key accepts what the
    new one signs. May be run again after it broke off.
    """
    settings = settings_of(config_file)

    async def work(resources: Resources) -> dict[str, object]:
        count = 0

        async def tenant_ids() -> AsyncIterator[TenantId]:
            nonlocal count
            async for scope in work_scopes(resources, "rotation of signing keys"):
                count += 1
                yield scope.tenant_id

        new = await _keys(resources).rotate(
            trail_of(resources), tenant_ids(), COMMAND_LINE, reason, timedelta(hours=overlap_hours)
        )
        return {"key": new.id, "public_key": new.public_key, "logs": count, "old_keys_sign_for_hours": overlap_hours}

    show(with_resources(settings, work), as_json=as_json)


def _keys(resources: Resources) -> LogKeys:
    return LogKeys(resources.database, resources.settings.keys, resources.clock)
