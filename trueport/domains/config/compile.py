"""From documents to the snapshot the hot path reads: secrets opened, names resolved, URLs parsed."""

from collections.abc import Mapping

from yarl import URL

from trueport.detection.base import DetectorFailed
from trueport.detection.embedding import Embeddings
from trueport.detection.policy import Bands, PolicySet, Vector
from trueport.domains.config.file import BoundsSpec
from trueport.domains.config.models import Configuration, StoredCredential, StoredRoute
from trueport.domains.config.policies import policy_set, topic_examples
from trueport.domains.config.repository import ConfigurationRepository, ContentKeyRepository, CredentialRepository
from trueport.domains.config.service import budget_specs, limits_spec, secret_place
from trueport.gateway.pricing import PriceBook
from trueport.gateway.snapshot import Bounds, BudgetRule, Credential, Route, Target, TenantLimits, TenantSnapshot
from trueport.kit.crypto import DataKey, Sealed
from trueport.kit.ids import CredentialId
from trueport.kit.logging import get_logger
from trueport.kit.money import nano_usd
from trueport.kit.secret import Secret
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database
from trueport.storage.revisions import revisions

log = get_logger(__name__)


async def compile_snapshot(
    database: Database,
    scope: TenantScope,
    slug: str,
    tenant_key: DataKey,
    prices: PriceBook,
    *,
    embeddings: Embeddings | None = None,
    bands: Bands | None = None,
) -> TenantSnapshot:
    """The tenant's configuration as it is now; `prices` is the book its own come before.

    embeddings: of the engine at work, for topics; `bands` are its detectors' own. A snapshot whose topics could not be
    told for the moment says it is older than it is, so that it is compiled again. Raises StoreUnavailable.
    """
    # Read first: whatever changes from here on makes a higher revision than the snapshot says it is.
    revision = (await revisions(database, [scope.tenant_id])).get(scope.tenant_id, 0)
    stored = await CredentialRepository(database, scope).find()
    configuration = await ConfigurationRepository(database, scope).current()
    credentials = {credential.name: _credential(credential, tenant_key) for credential in stored}
    vectors = await _vectors(configuration, embeddings)
    if vectors is None and embeddings is not None and embeddings.is_possible:
        revision -= 1
    return TenantSnapshot(
        tenant_id=scope.tenant_id,
        slug=slug,
        revision=revision,
        routes=_routes(configuration, credentials) if configuration else (),
        credentials=credentials,
        limits=_limits(configuration) if configuration else TenantLimits(),
        aliases={entry.alias: entry.model for entry in configuration.aliases} if configuration else {},
        regions=frozenset(configuration.regions) if configuration else frozenset(),
        budgets=_budgets(configuration) if configuration else (),
        prices=prices.with_overrides(configuration.prices) if configuration and configuration.prices else None,
        policies=policy_set(configuration, bands=bands, vectors=vectors),
        policy_version=configuration.policy_version if configuration else 0,
        moderates_itself=configuration is not None and configuration.moderations == "local",
    )


async def _vectors(configuration: Configuration | None, embeddings: Embeddings | None) -> Mapping[str, Vector] | None:
    """Of every example of a topic, None when the engine gives none now."""
    examples = topic_examples(configuration)
    if not examples:
        return {}
    if embeddings is None:
        return None
    try:
        return await embeddings.of(examples)
    except DetectorFailed as failed:
        # Policies with topics then fail as their `on_failure` says; all others hold.
        log.warning("topics_not_compiled", code=failed.code, examples=len(examples))
        return None


async def policies_of_version(
    database: Database,
    scope: TenantScope,
    policy_version: int,
    *,
    embeddings: Embeddings | None = None,
    bands: Bands | None = None,
) -> PolicySet | None:
    """The policies as they were in this version of them all, None where it is not known.

    embeddings, bands: as in `compile_snapshot`. Raises StoreUnavailable.
    """
    configuration = await ConfigurationRepository(database, scope).first_with_policies(policy_version)
    return policy_set(configuration, bands=bands, vectors=await _vectors(configuration, embeddings))


async def content_key_named(database: Database, scope: TenantScope, tenant_key: DataKey, kid: str) -> DataKey:
    """The key of a month that sealed content when a tenant had one for everybody. Raises NotFound, SealBroken."""
    stored = await ContentKeyRepository(database, scope).get(kid)
    return tenant_key.unwrap(stored.id, stored.wrapped, f"{scope.tenant_id}|content-key|{stored.id}")


async def allowed_regions(database: Database, scope: TenantScope) -> frozenset[str]:
    """The regions that the tenant's data may go to; empty: all. Raises StoreUnavailable."""
    configuration = await ConfigurationRepository(database, scope).current()
    return frozenset(configuration.regions) if configuration else frozenset()


async def accounts(database: Database, scope: TenantScope) -> list[Credential]:
    """The tenant's credentials by name, without their secrets. Raises StoreUnavailable."""
    stored = await CredentialRepository(database, scope).find()
    return sorted((_credential(credential, None) for credential in stored), key=lambda credential: credential.name)


def _credential(stored: StoredCredential, tenant_key: DataKey | None) -> Credential:
    """A credential; without the tenant's key, one without its secret."""
    secret = None
    if stored.secret is not None and tenant_key is not None:
        place = secret_place(stored.tenant_id, stored.id)
        secret = Secret(tenant_key.open(Sealed.from_bytes(stored.secret), place).decode())
    return Credential(
        id=CredentialId(stored.id),
        name=stored.name,
        provider=stored.provider,
        base_url=URL(stored.base_url),
        secret=secret,
        region=stored.region,
        deployments={entry.alias: entry.model for entry in stored.deployments},
        api_version=stored.api_version,
        quirks=frozenset(stored.quirks),
    )


def _routes(configuration: Configuration, credentials: Mapping[str, Credential]) -> tuple[Route, ...]:
    return tuple(
        Route(_targets(route, credentials), route.model, route.dialect, route.cache_s) for route in configuration.routes
    )


def _targets(route: StoredRoute, credentials: Mapping[str, Credential]) -> tuple[Target, ...]:
    return tuple(
        Target(
            credential=credentials[target.credential],
            model=target.model,
            timeout_s=target.timeout_s,
            weight=target.weight or 1,
            priority=priority,
            by_latency=route.choose == "latency",
            retries=target.retries,
        )
        for target, priority in zip(route.targets, _priorities(route), strict=True)
        if target.credential in credentials
    )


def _priorities(route: StoredRoute) -> list[int]:
    """The place of each target: as stated, else its position, which neighbours with weights share."""
    if route.choose == "latency" and all(target.priority is None for target in route.targets):
        return [0] * len(route.targets)
    places: list[int] = []
    shares = False
    for target in route.targets:
        has_weight = target.weight is not None
        if target.priority is not None:
            places.append(target.priority)
        elif places and not (shares and has_weight):
            places.append(places[-1] + 1)
        else:
            places.append(places[-1] if places else 0)
        shares = has_weight
    return places


def _limits(configuration: Configuration) -> TenantLimits:
    spec = limits_spec(configuration)
    return TenantLimits(
        tenant=Bounds(spec.requests_per_minute, spec.tokens_per_minute, spec.concurrency),
        user=_bounds(spec.per_user),
        models=tuple((glob, _bounds(bounds)) for glob, bounds in spec.models.items()),
    )


def _bounds(spec: BoundsSpec) -> Bounds:
    return Bounds(spec.requests_per_minute, spec.tokens_per_minute, spec.concurrency)


def _budgets(configuration: Configuration) -> tuple[BudgetRule, ...]:
    return tuple(
        BudgetRule(
            name=spec.title,
            period=spec.period,
            limit_nano_usd=nano_usd(spec.limit_usd),
            blocks=spec.action == "block",
            alert_at=tuple(spec.alert_at),
            per=spec.per,
            key=spec.key,
            user=spec.user,
            model=spec.model,
        )
        for spec in budget_specs(configuration)
    )
