"""What the command line and other domains use: the same rules without HTTP."""

from itertools import pairwise

import pytest

from tests.support.web import PASSWORD, House
from trueport.domains.auth import api, permissions
from trueport.domains.auth.models import ApiKey, Membership
from trueport.kit.ids import UserId
from trueport.kit.principal import ROLES
from trueport.storage.indexes import leading_fields


async def test_an_empty_database_is_set_up(house: House) -> None:
    resources = house.resources
    assert await api.is_empty(resources)

    new = api.NewUser("owner@acme.example", PASSWORD, "Olga", "Owner", is_platform_admin=True)
    user = await api.create_user(resources, new)
    tenant = await api.create_tenant(resources, UserId(user.id), "Acme", "acme", house.deeds)
    options = api.KeyOptions(name="first", env="prod")
    key = await api.create_key(resources, api.operator_scope(tenant), options, UserId(user.id), house.deeds)

    assert not await api.is_empty(resources)
    assert (await api.find_user(resources, " OWNER@acme.example ")) == user
    assert (await api.find_tenant(resources, "acme")) == tenant
    parsed = api.parse_api_key(key.text)
    assert parsed is not None
    pepper = api.api_key_pepper(resources.settings.keys)
    found = await api.find_api_key(resources.database, pepper, parsed, house.clock.now())
    assert found is not None
    assert found.key_id == key.stored.id


async def test_the_command_line_is_held_to_the_same_passwords(house: House) -> None:
    with pytest.raises(api.WeakPassword):
        await api.create_user(house.resources, api.NewUser("a@b.example", "password1234", "A", "B"))


async def test_somebody_is_added_once(house: House) -> None:
    owner, other = await house.person(), await house.person()
    scope = api.operator_scope(await house.tenant(owner))
    await api.add_member(house.resources, scope, UserId(other.id), "admin", house.deeds)

    with pytest.raises(api.AlreadyMember):
        await api.add_member(house.resources, scope, UserId(other.id), "viewer", house.deeds)


def test_each_role_includes_the_one_below_it() -> None:
    for lower, higher in pairwise(ROLES):
        assert permissions.PERMISSIONS_OF[lower] < permissions.PERMISSIONS_OF[higher]


def test_roles_hold_what_they_are_promised() -> None:
    held = permissions.PERMISSIONS_OF
    assert "analytics:read" in held["viewer"]
    assert "keys:read" not in held["viewer"]
    assert {"keys:create", "keys:read", "logs:read", "violations:read", "policies:read"} <= held["member"]
    assert not {"keys:write", "policies:write", "content:reveal"} & held["member"]
    assert {"members:write", "keys:write", "policies:write", "routes:write", "credentials:write"} <= held["admin"]
    assert {"storage:write", "billing:write", "configs:write"} <= held["admin"]
    assert held["owner"] - held["admin"] == {"tenant:delete", "tenant:transfer"}


@pytest.mark.parametrize(("model", "others"), [(ApiKey, 0), (Membership, 1)])
def test_indexes_of_tenant_documents_begin_with_the_tenant(model: type[ApiKey] | type[Membership], others: int) -> None:
    # A person's own list of tenants is the one look-up across tenants.
    assert sum(field != "tenant_id" for field in leading_fields(model)) == others
