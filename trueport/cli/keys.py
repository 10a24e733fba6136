"""`trueport keys`: API keys of a tenant."""

import json
from pathlib import Path

import click

from trueport.cli.session import config_option, json_option, settings_of, show, tenant_named, with_resources
from trueport.domains.auth.api import ApiKeyService, KeyOptions, create_key, operator_scope
from trueport.kit.clock import rfc3339
from trueport.kit.ids import UserId
from trueport.kit.tenancy import ENVIRONMENTS, Environment
from trueport.web.deeds import operator_deeds
from trueport.web.domain import Resources

tenant_option = click.option("--tenant", "slug", required=True, help="Short name of the organisation.")


@click.group()
def keys() -> None:
    """Create, list, rotate and end API keys."""


@keys.command("create", epilog="Example: trueport keys create --tenant acme --env prod --name ci --json")
@tenant_option
@click.option("--env", type=click.Choice(ENVIRONMENTS), default="prod", show_default=True)
@click.option("--name", required=True, help="What the key is for.")
@click.option("--requests-per-minute", type=click.IntRange(0), default=60, show_default=True, help="0 is no limit.")
@click.option("--tokens-per-minute", type=click.IntRange(0), default=0, show_default=True, help="0 is no limit.")
@click.option("--concurrency", type=click.IntRange(0), default=0, show_default=True, help="0 is no limit.")
@click.option("--model", "models", multiple=True, help="Allowed model, with * as wildcard; may be repeated.")
@click.option("--cidr", "cidrs", multiple=True, help="Allowed network; may be repeated.")
@json_option
@config_option
def create(
    slug: str,
    env: Environment,
    name: str,
    *,
    requests_per_minute: int,
    tokens_per_minute: int,
    concurrency: int,
    models: tuple[str, ...],
    cidrs: tuple[str, ...],
    as_json: bool,
    config_file: Path | None,
) -> None:
    """Create a key and print it, this once."""
    options = KeyOptions(
        name=name,
        env=env,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        concurrency=concurrency,
        allowed_models=models,
        allowed_cidrs=cidrs,
    )

    async def work(resources: Resources) -> dict[str, object]:
        tenant = await tenant_named(resources, slug)
        made = await create_key(
            resources, operator_scope(tenant), options, UserId("operator"), operator_deeds(resources)
        )
        return {
            "id": made.stored.id,
            "name": name,
            "env": env,
            "tenant": slug,
            "prefix": made.stored.prefix,
            "key": made.text,
            "api_key": made.text,
        }

    made = with_resources(settings_of(config_file), work)
    if not as_json:
        del made["api_key"]
    show(made, as_json=as_json)


@keys.command("list", epilog="Example: trueport keys list --tenant acme --json")
@tenant_option
@json_option
@config_option
def list_keys(slug: str, *, as_json: bool, config_file: Path | None) -> None:
    """List the keys of a tenant; never their text."""

    async def work(resources: Resources) -> list[dict[str, object]]:
        service = await _keys_of(resources, slug)
        found: list[dict[str, object]] = []
        after: str | None = None
        while True:
            page = await service.page(200, after)
            found += [
                {"id": key.id, "name": key.name, "env": key.env, "prefix": key.prefix, "status": key.status,
                 "requests_per_minute": key.requests_per_minute, "created_at": rfc3339(key.created_at)}
                for key in page.items
            ]  # fmt: skip
            after = page.next
            if after is None:
                return found

    found = with_resources(settings_of(config_file), work)
    if as_json:
        click.echo(json.dumps({"data": found}))
        return
    for key in found:
        click.echo(f"{key['id']}  {key['prefix']:<14} {key['env']:<8} {key['status']:<9} {key['name']}")


@keys.command("disable", epilog="Example: trueport keys disable key_… --tenant acme")
@click.argument("key_id")
@tenant_option
@json_option
@config_option
def disable(key_id: str, slug: str, *, as_json: bool, config_file: Path | None) -> None:
    """Switch a key off; it can be enabled again."""
    _change_status(key_id, slug, "disabled", as_json=as_json, config_file=config_file)


@keys.command("enable", epilog="Example: trueport keys enable key_… --tenant acme")
@click.argument("key_id")
@tenant_option
@json_option
@config_option
def enable(key_id: str, slug: str, *, as_json: bool, config_file: Path | None) -> None:
    """Switch a disabled key on again."""
    _change_status(key_id, slug, "active", as_json=as_json, config_file=config_file)


@keys.command("rotate", epilog="Example: trueport keys rotate key_… --tenant acme --overlap-s 3600")
@click.argument("key_id")
@tenant_option
@click.option(
    "--overlap-s", type=click.IntRange(0, 604_800), default=86_400, show_default=True, help="How long both texts work."
)
@json_option
@config_option
def rotate(key_id: str, slug: str, *, overlap_s: int, as_json: bool, config_file: Path | None) -> None:
    """Give a key a new text and print it, this once."""

    async def work(resources: Resources) -> dict[str, object]:
        service = await _keys_of(resources, slug)
        made = await service.rotate(key_id, overlap_s, operator_deeds(resources))
        return {"id": made.stored.id, "prefix": made.stored.prefix, "key": made.text, "old_key_works_for_s": overlap_s}

    show(with_resources(settings_of(config_file), work), as_json=as_json)


@keys.command("delete", epilog="Example: trueport keys delete key_… --tenant acme")
@click.argument("key_id")
@tenant_option
@json_option
@config_option
def delete(key_id: str, slug: str, *, as_json: bool, config_file: Path | None) -> None:
    """Delete a key for good."""

    async def work(resources: Resources) -> dict[str, object]:
        await (await _keys_of(resources, slug)).delete(key_id, operator_deeds(resources))
        return {"id": key_id, "deleted": True}

    show(with_resources(settings_of(config_file), work), as_json=as_json)


async def _keys_of(resources: Resources, slug: str) -> ApiKeyService:
    return ApiKeyService(resources, operator_scope(await tenant_named(resources, slug)))


def _change_status(key_id: str, slug: str, status: str, *, as_json: bool, config_file: Path | None) -> None:
    async def work(resources: Resources) -> dict[str, object]:
        service = await _keys_of(resources, slug)
        deeds = operator_deeds(resources)
        key = await service.set_status(key_id, "disabled" if status == "disabled" else "active", deeds)
        return {"id": key.id, "status": key.status}

    show(with_resources(settings_of(config_file), work), as_json=as_json)
