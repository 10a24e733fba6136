"""Who belongs to a tenant, and as what."""

from collections.abc import Mapping
from dataclasses import dataclass

from trueport.domains.auth.accounts import normalise_email
from trueport.domains.auth.events import MemberChanged
from trueport.domains.auth.models import Membership, User
from trueport.domains.auth.permissions import may_grant
from trueport.domains.auth.repository import Memberships, people
from trueport.kit.errors import Conflict, Forbidden, NotFound
from trueport.kit.ids import TenantId, UserId, new_id
from trueport.kit.principal import Role, TenantPrincipal
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Duplicate
from trueport.storage.revisions import bump_revision
from trueport.web.deeds import Deeds, Thing
from trueport.web.domain import Resources


class RoleTooHigh(Forbidden):
    """Nobody gives, changes or takes away a role above their own."""

    code = "role_too_high"

    def __init__(self) -> None:
        super().__init__("You cannot give, change or take away a role above your own.")


class LastOwner(Conflict):
    """A tenant has at least one owner."""

    code = "last_owner"

    def __init__(self) -> None:
        super().__init__("A tenant keeps at least one owner: make somebody else an owner first.")


class AlreadyMember(Conflict):
    """The person belongs to the tenant."""

    code = "already_member"

    def __init__(self) -> None:
        super().__init__("This person is a member already.")


@dataclass(frozen=True, slots=True)
class Member:
    """A membership, and the person who holds it (None when the account is gone)."""

    membership: Membership
    user: User | None


async def add_member(resources: Resources, scope: TenantScope, user_id: UserId, role: Role, deeds: Deeds) -> Membership:
    """Make a person a member. Raises AlreadyMember."""
    membership = Membership(
        id=new_id("mem"), tenant_id=scope.tenant_id, user_id=user_id, role=role, created_at=resources.clock.now()
    )
    async with deeds.doing(scope.tenant_id, "admin", "member_added", _thing(membership.id, None, membership)):
        try:
            await Memberships(resources.database, scope).insert(membership)
        except Duplicate as error:
            raise AlreadyMember from error
        await _tell(resources, scope.tenant_id, user_id, role)
    return membership


class Members:
    """The members of one tenant, as one of them sees and changes them."""

    def __init__(self, resources: Resources, principal: TenantPrincipal) -> None:
        self._resources = resources
        self._principal = principal
        self._memberships = Memberships(resources.database, principal.scope)
        self._people = people(resources.database, "names of members")

    async def page(self, limit: int, after: str | None) -> tuple[list[Member], str | None]:
        page = await self._memberships.page(limit=limit, after=after)
        users = await self._people.find({"_id": {"$in": [m.user_id for m in page.items]}}, limit=max(1, limit))
        by_id: Mapping[str, User] = {user.id: user for user in users}
        return [Member(m, by_id.get(m.user_id)) for m in page.items], page.next

    async def add(self, email: str, role: Role, deeds: Deeds) -> Member:
        """Add somebody who has an account. Raises NotFound, RoleTooHigh, AlreadyMember."""
        self._check_may_grant(role)
        user = await self._people.by_email(normalise_email(email))
        if user is None:
            raise NotFound("Nobody could be added under this address. The person needs an account first.")
        membership = await add_member(self._resources, self._principal.scope, UserId(user.id), role, deeds)
        return Member(membership, user)

    async def change_role(self, member_id: str, role: Role, deeds: Deeds) -> Member:
        """Raises NotFound, RoleTooHigh, LastOwner."""
        before = await self._memberships.get(member_id)
        self._check_may_grant(before.role)
        self._check_may_grant(role)
        wanted, tenant_id = before.model_copy(update={"role": role}), self._principal.scope.tenant_id
        async with deeds.doing(tenant_id, "admin", "member_role_changed", _thing(member_id, before, wanted)):
            after = await self._memberships.replace(wanted)
            if before.role == "owner" and await self._memberships.count_owners() == 0:
                # Looked at after the write: of two owners who step down at once, at least one finds nobody left.
                await self._memberships.update(member_id, {"role": "owner"})
                raise LastOwner
            await _tell(self._resources, tenant_id, UserId(after.user_id), role)
        return Member(after, await self._people.find_one({"_id": after.user_id}))

    async def remove(self, member_id: str, deeds: Deeds) -> None:
        """Raises NotFound, RoleTooHigh, LastOwner."""
        before = await self._memberships.get(member_id)
        self._check_may_grant(before.role)
        tenant_id = self._principal.scope.tenant_id
        async with deeds.doing(tenant_id, "admin", "member_removed", _thing(member_id, before, None)):
            await self._memberships.delete(member_id)
            if before.role == "owner" and await self._memberships.count_owners() == 0:
                await self._memberships.insert(before)
                raise LastOwner
            await _tell(self._resources, tenant_id, UserId(before.user_id), None)

    def _check_may_grant(self, role: Role) -> None:
        if not may_grant(self._principal.role, role):
            raise RoleTooHigh


def _thing(member_id: str, before: Membership | None, after: Membership | None) -> Thing:
    """People by their id: a record stays for years, and names and addresses need not."""

    def told(membership: Membership | None) -> dict[str, str] | None:
        return None if membership is None else {"user_id": membership.user_id, "role": membership.role}

    return Thing("member", member_id, told(before), told(after))


async def _tell(resources: Resources, tenant_id: TenantId, user_id: UserId, role: Role | None) -> None:
    await bump_revision(resources.database, tenant_id)
    await resources.events.tell(MemberChanged(tenant_id, user_id, role))
