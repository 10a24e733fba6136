"""From documents to the snapshot the hot path reads: secrets opened, names resolved, URLs parsed."""

from yarl import URL

from trueport.domains.config.models import Configuration, ContentKey, StoredCredential
from trueport.domains.config.repository import ConfigurationRepository, ContentKeyRepository, CredentialRepository
from trueport.domains.config.service import secret_place
from trueport.gateway.snapshot import Credential, Route, Target, TenantLimits, TenantSnapshot
from trueport.kit.clock import Clock
from trueport.kit.crypto import DataKey, Sealed
from trueport.kit.ids import CredentialId, new_id
from trueport.kit.secret import Secret
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database, Duplicate
from trueport.storage.revisions import revisions


async def compile_snapshot(
    database: Database, scope: TenantScope, slug: str, tenant_key: DataKey, clock: Clock
) -> TenantSnapshot:
    """The tenant's configuration as it is now. Raises StoreUnavailable."""
    # Read first: whatever changes from here on makes a higher revision than the snapshot says it is.
    revision = (await revisions(database, [scope.tenant_id])).get(scope.tenant_id, 0)
    stored = await CredentialRepository(database, scope).find()
    configuration = await ConfigurationRepository(database, scope).current()
    credentials = {credential.name: _credential(credential, tenant_key) for credential in stored}
    return TenantSnapshot(
        tenant_id=scope.tenant_id,
        slug=slug,
        revision=revision,
        routes=_routes(configuration, credentials),
        credentials=credentials,
        limits=_limits(configuration),
        content_key=await content_key(database, scope, tenant_key, clock),
    )


async def content_key(database: Database, scope: TenantScope, tenant_key: DataKey, clock: Clock) -> DataKey:
    """This month's key for content, made by whoever needs it first."""
    keys = ContentKeyRepository(database, scope)
    month = clock.now().strftime("%Y-%m")
    found = await keys.of_month(month)
    if found is None:
        fresh = DataKey.generate(new_id("dek"))
        found = ContentKey(
            id=fresh.kid,
            tenant_id=scope.tenant_id,
            month=month,
            wrapped=tenant_key.wrap(fresh, _key_place(scope, fresh.kid)),
            created_at=clock.now(),
        )
        try:
            await keys.insert(found)
        except Duplicate:
            found = await keys.of_month(month)
            if found is None:
                raise
    return unwrapped(found, scope, tenant_key)


def unwrapped(stored: ContentKey, scope: TenantScope, tenant_key: DataKey) -> DataKey:
    """The data key in a document. Raises SealBroken."""
    return tenant_key.unwrap(stored.id, stored.wrapped, _key_place(scope, stored.id))


def _key_place(scope: TenantScope, kid: str) -> str:
    return f"{scope.tenant_id}|content-key|{kid}"


def _credential(stored: StoredCredential, tenant_key: DataKey) -> Credential:
    secret = None
    if stored.secret is not None:
        place = secret_place(stored.tenant_id, stored.id)
        secret = Secret(tenant_key.open(Sealed.from_bytes(stored.secret), place).decode())
    return Credential(
        id=CredentialId(stored.id),
        name=stored.name,
        provider=stored.provider,
        base_url=URL(stored.base_url),
        secret=secret,
        region=stored.region,
    )


def _routes(configuration: Configuration | None, credentials: dict[str, Credential]) -> tuple[Route, ...]:
    if configuration is None:
        return ()
    return tuple(
        Route(
            targets=tuple(
                Target(credentials[target.credential], target.model, target.timeout_s, target.weight)
                for target in route.targets
                if target.credential in credentials
            ),
            model_glob=route.model,
            dialect=route.dialect,
        )
        for route in configuration.routes
    )


def _limits(configuration: Configuration | None) -> TenantLimits:
    if configuration is None:
        return TenantLimits()
    return TenantLimits(configuration.requests_per_minute, configuration.tokens_per_minute, configuration.concurrency)
