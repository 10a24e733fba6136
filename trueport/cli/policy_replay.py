"""`trueport policy replay`: what a proposed set of policies would have decided about recorded calls."""

import json
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from trueport.cli.session import (
    EXIT_USAGE,
    Failed,
    config_option,
    json_option,
    settings_of,
    tenant_named,
    with_resources,
)
from trueport.detection.policy import PolicySet
from trueport.detection.policy.replay import Diff
from trueport.domains.analytics.api import PoliciesRefused, diff_members, proposed_set, replay_policies
from trueport.domains.auth.api import operator_scope
from trueport.web.domain import Resources

_DAY = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])
_BAR_WIDTH = 30


@click.command("replay", epilog="Example: trueport policy replay --from 2026-11-01 --to 2026-11-20 "
               "--policies policies.toml --tenant acme")  # fmt: skip
@click.option("--from", "since", type=_DAY, required=True, help="First moment, UTC.")
@click.option("--to", "until", type=_DAY, required=True, help="End, UTC; it does not belong to the period.")
@click.option("--policies", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
              help="TOML or JSON file whose list `policies` is the proposed set.")  # fmt: skip
@click.option("--tenant", "slug", required=True, help="Short name of the organisation.")
@json_option
@config_option
def replay(since: datetime, until: datetime, *, file: Path, slug: str, as_json: bool, config_file: Path | None) -> None:
    """Replay recorded calls with other policies, and tell what would be decided otherwise. Changes nothing."""
    policies = _policies_of(file)
    if since >= until:
        raise Failed("--to has to lie after --from.", EXIT_USAGE)
    period = since.replace(tzinfo=UTC), until.replace(tzinfo=UTC)

    async def work(resources: Resources) -> Diff:
        scope = operator_scope(await tenant_named(resources, slug))
        return await replay_policies(resources.database, scope, policies, period=period, progress=_show_progress)

    found = diff_members(with_resources(settings_of(config_file), work))
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{found['interactions']} calls replayed, {found['changed_total']} decided otherwise or unknown")
    for name in ("decisions", "reasons", "keys", "models", "categories", "policies"):
        for entry in found[name]:
            click.echo(f"{name:<11} {' -> '.join(entry['of'])}: {entry['count']}")


def _policies_of(file: Path) -> PolicySet:
    """The proposed set. Raises Failed that lists every problem."""
    try:
        text = file.read_text(encoding="utf-8")
        read: Any = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise Failed(f"{file.name} cannot be read: {error}.", EXIT_USAGE) from error
    listed = read.get("policies") if isinstance(read, dict) else read
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise Failed(f"{file.name} has no list `policies`.", EXIT_USAGE)
    try:
        return proposed_set(listed)
    except PoliciesRefused as error:
        raise Failed("\n".join(error.problems), EXIT_USAGE) from error


def _show_progress(done: int, total: int) -> None:
    filled = _BAR_WIDTH * done // max(total, 1)
    is_end = "\n" if done >= total else ""
    click.echo(f"\r[{'#' * filled:<{_BAR_WIDTH}}] {done}/{total}{is_end}", nl=False, file=sys.stderr)
