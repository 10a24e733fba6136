"""The HTTP surface of accounts, tenants, members and API keys: parse, call, show."""

from collections.abc import Sequence
from typing import Annotated, Any

from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from trueport.domains.auth.accounts import Accounts, NewUser
from trueport.domains.auth.authentication import SignedIn, SignedInMember
from trueport.domains.auth.keys import ApiKeyService
from trueport.domains.auth.members import Members
from trueport.domains.auth.repository import tenants
from trueport.domains.auth.schemas import (
    AddMember,
    ChangeKey,
    ChangeMember,
    CreateKey,
    CreateTenant,
    Info,
    KeyCreated,
    KeyShown,
    Login,
    Logout,
    MemberShown,
    PasswordChange,
    Refresh,
    Register,
    RotateKey,
    ScopedToken,
    SelectTenant,
    SlugAnswer,
    SwitchEnvironment,
    TenantShown,
    Tokens,
    UserShown,
    show_key,
    show_member,
    show_new_key,
    show_tenant,
    show_tokens,
    show_user,
)
from trueport.domains.auth.tenants import OwnTenant, OwnTenants, create_tenant, slug_problem
from trueport.domains.auth.tokens import LIFETIME_S
from trueport.domains.auth.tools import AuthTools
from trueport.kit.errors import NotFound
from trueport.kit.ids import TenantId, UserId, is_id
from trueport.kit.tenancy import Environment
from trueport.web.deeds import Deeds, Thing
from trueport.web.domain import Resources
from trueport.web.guards import global_user, public, tenant
from trueport.web.idempotency import Idempotency
from trueport.web.pagination import Listed, PageRequest, listed

AnyRequest = Request[Any, Any, Any]
# Dependencies, found by their parameter's name.
Here = NamedDependency[Resources]
TheAccounts = NamedDependency[Accounts]
Once = NamedDependency[Idempotency]
Person = NamedDependency[SignedIn]
AMember = NamedDependency[SignedInMember]
ThePage = NamedDependency[PageRequest]
TheDeeds = NamedDependency[Deeds]


def provide_accounts(resources: Here) -> Accounts:
    return Accounts(resources, resources.part(AuthTools))


def signed_in(request: AnyRequest) -> SignedIn:
    if not isinstance(request.user, SignedIn):
        raise TypeError("this route is not of access class global_user")
    return request.user


def signed_in_member(request: AnyRequest) -> SignedInMember:
    if not isinstance(request.user, SignedInMember):
        raise TypeError("this route is not of access class tenant")
    return request.user


class AuthController(Controller):
    """Signing up, in and out."""

    path = "/platform/api/global/auth"
    tags: Sequence[str] = ("accounts",)

    @post("/register", access=public())
    async def register(
        self, request: AnyRequest, data: JSONBody[Register], accounts: TheAccounts, idempotency: Once
    ) -> Response[UserShown]:
        """Create an account."""
        new = NewUser(data.email, data.password, data.first_name, data.last_name)

        async def create() -> UserShown:
            return show_user(await accounts.register(new))

        return await idempotency.once(request, f"registration {data.email.strip().lower()}", create)

    @post("/login", access=public(), status_code=200)
    async def login(self, data: JSONBody[Login], accounts: TheAccounts, deeds: TheDeeds) -> Tokens:
        """Sign in with e-mail address and password."""
        return show_tokens(await accounts.sign_in(data.email, data.password, deeds))

    @post("/refresh", access=public(), status_code=200)
    async def refresh(self, data: JSONBody[Refresh], accounts: TheAccounts, deeds: TheDeeds) -> Tokens:
        """Exchange a refresh token for the next pair of tokens."""
        return show_tokens(await accounts.refresh(data.refresh_token, deeds))

    @post("/logout", access=global_user(), status_code=204)
    async def logout(
        self, accounts: TheAccounts, signed_in: Person, deeds: TheDeeds, data: JSONBody[Logout | None] = None
    ) -> None:
        """End the session: all of its tokens stop working at once."""
        refresh_token = data.refresh_token if data is not None else None
        await accounts.sign_out(signed_in.user_id, signed_in.session_id, refresh_token, deeds)

    @post("/password/change", access=global_user(), status_code=204)
    async def change_password(
        self, data: JSONBody[PasswordChange], accounts: TheAccounts, signed_in: Person, deeds: TheDeeds
    ) -> None:
        """Set another password and end every session."""
        await accounts.change_password(signed_in.user_id, data.current_password, data.new_password, deeds)

    @post("/select-tenant", access=global_user(), status_code=200)
    async def select_tenant(
        self, data: JSONBody[SelectTenant], resources: Here, signed_in: Person, deeds: TheDeeds
    ) -> ScopedToken:
        """Get a token for work in one of your tenants."""
        own = await OwnTenants(resources, signed_in.user_id).choose(TenantId(data.tenant_id))
        return await _scoped_token(resources, signed_in, own, "prod", deeds)


class TenantController(Controller):
    """The tenants of the person who asks."""

    path = "/platform/api/global/tenants"
    tags: Sequence[str] = ("tenants",)

    @post("/", access=global_user())
    async def create(
        self,
        request: AnyRequest,
        data: JSONBody[CreateTenant],
        resources: Here,
        signed_in: Person,
        idempotency: Once,
        deeds: TheDeeds,
    ) -> Response[TenantShown]:
        """Found a tenant and become its owner."""

        async def create() -> TenantShown:
            made = await create_tenant(resources, signed_in.user_id, data.name, data.slug, deeds)
            return show_tenant(OwnTenant(made, "", "owner"))

        return await idempotency.once(request, signed_in.user_id, create)

    @get("/", access=global_user())
    async def list_own(self, resources: Here, signed_in: Person, page: ThePage) -> Listed[TenantShown]:
        """List your tenants, and your role in each."""
        own, following = await OwnTenants(resources, signed_in.user_id).page(page.limit, page.after)
        return listed(own, following, show_tenant)

    @get("/check-slug", access=global_user())
    async def check_slug(
        self, resources: Here, signed_in: Person, slug: Annotated[str, QueryParameter(max_length=100)]
    ) -> SlugAnswer:
        """Say whether a new tenant could have this slug."""
        problem = slug_problem(slug)
        if problem is None and await OwnTenants(resources, signed_in.user_id).is_taken(slug):
            problem = "taken"
        return SlugAnswer(slug, problem is None, problem)


class ServiceController(Controller):
    """The tenant one works in, and its members."""

    path = "/platform/api/service"
    tags: Sequence[str] = ("members",)

    @post("/switch-environment", access=tenant("tenant:read"), status_code=200)
    async def switch_environment(
        self, data: JSONBody[SwitchEnvironment], resources: Here, member: AMember, deeds: TheDeeds
    ) -> ScopedToken:
        """Get a token for another environment of the same tenant."""
        own = await OwnTenants(resources, member.user_id).choose(member.scope.tenant_id)
        return await _scoped_token(resources, member, own, data.env, deeds)

    @get("/info", access=tenant("tenant:read"))
    async def info(self, resources: Here, member: AMember) -> Info:
        """Show the tenant, your role and your permissions."""
        here = await tenants(resources.database, "the tenant somebody works in").get(member.scope.tenant_id)
        return Info(
            tenant=show_tenant(OwnTenant(here, "", member.role)),
            user_id=member.user_id,
            role=member.role,
            env=member.environment,
            permissions=sorted(member.permissions),
        )

    @get("/members", access=tenant("members:read"))
    async def list_members(self, resources: Here, member: AMember, page: ThePage) -> Listed[MemberShown]:
        """List the members."""
        members, following = await Members(resources, member).page(page.limit, page.after)
        return listed(members, following, show_member)

    @post("/members", access=tenant("members:write"))
    async def add_member(
        self,
        request: AnyRequest,
        data: JSONBody[AddMember],
        resources: Here,
        member: AMember,
        idempotency: Once,
        deeds: TheDeeds,
    ) -> Response[MemberShown]:
        """Add a person who has an account."""

        async def create() -> MemberShown:
            return show_member(await Members(resources, member).add(data.email, data.role, deeds))

        return await idempotency.once(request, _owner(member), create)

    @patch("/members/{member_id:str}", access=tenant("members:write"))
    async def change_member(
        self, member_id: FromPath[str], data: JSONBody[ChangeMember], resources: Here, member: AMember, deeds: TheDeeds
    ) -> MemberShown:
        """Change a member's role."""
        return show_member(await Members(resources, member).change_role(_member_id(member_id), data.role, deeds))

    @delete("/members/{member_id:str}", access=tenant("members:write"))
    async def remove_member(self, member_id: FromPath[str], resources: Here, member: AMember, deeds: TheDeeds) -> None:
        """Remove a member."""
        await Members(resources, member).remove(_member_id(member_id), deeds)


class KeyController(Controller):
    """API keys: the credentials of applications."""

    path = "/trueportai-services/api/v1/keys"
    tags: Sequence[str] = ("API keys",)

    @post("/", access=tenant("keys:create"))
    async def create(
        self,
        request: AnyRequest,
        data: JSONBody[CreateKey],
        resources: Here,
        member: AMember,
        idempotency: Once,
        deeds: TheDeeds,
    ) -> Response[KeyCreated]:
        """Create an API key; it is shown this once.

        A repetition with the same Idempotency-Key gets 409 `secret_shown_once` with the id of the key: the key itself
        is stored nowhere and cannot be shown again, but it can be rotated.
        """
        keys = ApiKeyService(resources, member.scope)

        async def create() -> KeyCreated:
            return show_new_key(await keys.create(data.options(member.environment), member.user_id, deeds))

        return await idempotency.once(request, _owner(member), create, shows_secret=True)

    @get("/", access=tenant("keys:read"))
    async def list_keys(self, resources: Here, member: AMember, page: ThePage) -> Listed[KeyShown]:
        """List the API keys, newest first."""
        found = await ApiKeyService(resources, member.scope).page(page.limit, page.after)
        return listed(found.items, found.next, show_key)

    @get("/{key_id:str}", access=tenant("keys:read"))
    async def get_key(self, key_id: FromPath[str], resources: Here, member: AMember) -> KeyShown:
        """Show one API key."""
        return show_key(await ApiKeyService(resources, member.scope).get(key_id))

    @patch("/{key_id:str}", access=tenant("keys:write"))
    async def change_key(
        self, key_id: FromPath[str], data: JSONBody[ChangeKey], resources: Here, member: AMember, deeds: TheDeeds
    ) -> KeyShown:
        """Change name, limits or restrictions; what is absent stays as it is."""
        return show_key(await ApiKeyService(resources, member.scope).change(key_id, data.changes(), deeds))

    @post("/{key_id:str}/disable", access=tenant("keys:write"), status_code=200)
    async def disable_key(self, key_id: FromPath[str], resources: Here, member: AMember, deeds: TheDeeds) -> KeyShown:
        """Switch an API key off."""
        return show_key(await ApiKeyService(resources, member.scope).set_status(key_id, "disabled", deeds))

    @post("/{key_id:str}/enable", access=tenant("keys:write"), status_code=200)
    async def enable_key(self, key_id: FromPath[str], resources: Here, member: AMember, deeds: TheDeeds) -> KeyShown:
        """Switch an API key on again."""
        return show_key(await ApiKeyService(resources, member.scope).set_status(key_id, "active", deeds))

    @post("/{key_id:str}/rotate", access=tenant("keys:write"), status_code=200)
    async def rotate_key(
        self,
        key_id: FromPath[str],
        resources: Here,
        member: AMember,
        deeds: TheDeeds,
        data: JSONBody[RotateKey | None] = None,
    ) -> KeyCreated:
        """Replace the key's secret; the old one works until the overlap ends."""
        overlap_s = (data or RotateKey()).overlap_s
        return show_new_key(await ApiKeyService(resources, member.scope).rotate(key_id, overlap_s, deeds))

    @delete("/{key_id:str}", access=tenant("keys:write"))
    async def delete_key(self, key_id: FromPath[str], resources: Here, member: AMember, deeds: TheDeeds) -> None:
        """Delete an API key."""
        await ApiKeyService(resources, member.scope).delete(key_id, deeds)


async def _scoped_token(
    resources: Resources, person: SignedIn | SignedInMember, own: OwnTenant, env: Environment, deeds: Deeds
) -> ScopedToken:
    tenant_id = TenantId(own.tenant.id)
    await deeds.tell(
        tenant_id, "auth", "tenant_entered", Thing("user", person.user_id), env=env, session=person.session_id
    )
    signer = resources.part(AuthTools).signer
    token = signer.issue_scoped(UserId(person.user_id), person.session_id, tenant_id, own.role, env)
    return ScopedToken(token, "bearer", LIFETIME_S["scoped"], tenant_id, own.role, env)


def _owner(member: SignedInMember) -> str:
    return f"{member.scope.tenant_id} {member.user_id}"


def _member_id(text: str) -> str:
    if not is_id(text, "mem"):
        raise NotFound("There is no such member.")
    return text
