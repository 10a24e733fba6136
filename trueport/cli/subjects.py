"""`trueport subjects`: erasing people."""

import asyncio
from pathlib import Path

import click

from trueport.cli.session import (
    EXIT_USAGE,
    Failed,
    config_option,
    json_option,
    settings_of,
    show,
    tenant_named,
    with_resources,
)
from trueport.domains.audit.api import Erasing
from trueport.domains.auth.api import operator_scope
from trueport.web.domain import Resources

_LOOK_EVERY_S = 0.5
_OPERATOR = "operator"

tenant_option = click.option("--tenant", "slug", required=True, help="Short name of the organisation.")


@click.group()
def subjects() -> None:
    """Erase what people have said."""


@subjects.command(
    epilog="\b\nExamples:\n"
    '  trueport subjects erase --tenant acme --user ada@example.com --legal-basis "GDPR art. 17(1)(b)"\n'
    '  trueport subjects erase --tenant acme --key-id key_… --legal-basis "end of contract" --json'
)
@tenant_option
@click.option("--user", help="The person as the application names them in its calls.")
@click.option("--key-id", help="An API key, for its calls that named nobody.")
@click.option("--legal-basis", required=True, help="Why, for the record.")
@click.option("--wait", "wait_s", default=60, show_default=True, help="Seconds to wait until it is done; 0 for none.")
@json_option
@config_option
def erase(
    slug: str, *, user: str | None, key_id: str | None, legal_basis: str, wait_s: int, as_json: bool,
    config_file: Path | None,
) -> None:  # fmt: skip
    """Destroy the keys of everything a person has said.

    A running server does it within seconds, since it keeps the journal that the deed is recorded in. Without one
    it is done when a server starts. Exit code 1 when a legal hold forbids it: it then waits for the release.
    """
    if (user is None) == (key_id is None):
        raise Failed("Name the person with --user, or the API key with --key-id.", EXIT_USAGE)

    async def work(resources: Resources) -> dict[str, object]:
        erasing = Erasing(resources, operator_scope(await tenant_named(resources, slug)))
        subject = await erasing.subject(user=user, key_id=key_id)
        found = await erasing.ask(subject, _OPERATOR, legal_basis)
        ends_s = resources.clock.monotonic() + wait_s
        while found.state not in ("done", "held") and resources.clock.monotonic() < ends_s:
            await asyncio.sleep(_LOOK_EVERY_S)
            found = await erasing.get(found.id)
        return {
            "erasure": found.id,
            "state": found.state,
            "subject": found.subject,
            "keys": found.kids,
            "record": found.record,
        }

    told = with_resources(settings_of(config_file), work)
    show(told, as_json=as_json)
    if told["state"] == "held":
        raise Failed("A legal hold forbids this erasure. It is done when two people have released the hold.")


@subjects.command(epilog="Example: trueport subjects certificate --tenant acme era_… > erased.note")
@tenant_option
@click.argument("erasure_id")
@config_option
def certificate(slug: str, erasure_id: str, *, config_file: Path | None) -> None:
    """Print the signed certificate of an erasure that is done."""

    async def work(resources: Resources) -> str:
        scope = operator_scope(await tenant_named(resources, slug))
        return await Erasing(resources, scope).certificate(erasure_id)

    click.echo(with_resources(settings_of(config_file), work), nl=False)
