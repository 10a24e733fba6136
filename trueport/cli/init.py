"""`trueport init`: the first person, tenant and key of an empty installation."""

from pathlib import Path

import click

from trueport.cli.session import config_option, json_option, read_password, settings_of, show, with_resources
from trueport.domains.auth.api import (
    KeyOptions,
    NewUser,
    create_key,
    create_tenant,
    create_user,
    is_empty,
    operator_scope,
)
from trueport.kit.errors import Conflict
from trueport.kit.ids import UserId
from trueport.web.deeds import operator_deeds
from trueport.web.domain import Resources


@click.command(epilog="Example: echo \"$PASSWORD\" | trueport init --tenant acme --email owner@acme.example "
               "--password-stdin --json")  # fmt: skip
@click.option("--tenant", "slug", required=True, help="Short name of the organisation, such as acme.")
@click.option("--email", required=True, help="E-mail address of its owner, who also becomes the platform's admin.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--name", help="Full name of the organisation; the short one by default.")
@json_option
@config_option
def init(
    slug: str, email: str, *, password_stdin: bool, name: str | None, as_json: bool, config_file: Path | None
) -> None:
    """Create the first platform admin, tenant and API key on an empty database."""
    settings = settings_of(config_file)
    password = read_password(from_stdin=password_stdin)

    async def work(resources: Resources) -> dict[str, object]:
        return await set_up(resources, slug=slug, name=name or slug, email=email, password=password)

    show(with_resources(settings, work), as_json=as_json)
    if not as_json:
        click.echo("The API key is shown this once: keep it in a safe place.")


async def set_up(resources: Resources, *, slug: str, name: str, email: str, password: str) -> dict[str, object]:
    """Owner, tenant and key of an empty installation. Raises Conflict when it is not empty."""
    if not await is_empty(resources):
        raise Conflict("This installation is set up already: `trueport keys create` makes further keys.")
    user = await create_user(
        resources, NewUser(email=email, password=password, first_name="", last_name="", is_platform_admin=True)
    )
    deeds = operator_deeds(resources)
    tenant = await create_tenant(resources, UserId(user.id), name, slug, deeds)
    options = KeyOptions(name="first key", env="prod")
    key = await create_key(resources, operator_scope(tenant), options, UserId(user.id), deeds)
    return {
        "tenant_id": tenant.id,
        "tenant": tenant.slug,
        "user_id": user.id,
        "email": user.email,
        "key_id": key.stored.id,
        "api_key": key.text,
        "base_url": f"{resources.settings.server.public_url}/openai/v1",
    }
