"""Applying and reading a tenant's configuration."""

from collections.abc import Collection, Mapping

import msgspec

from trueport.domains.config.file import (
    BoundsSpec,
    BudgetSpec,
    CredentialSpec,
    LimitsSpec,
    MatchSpec,
    RouteSpec,
    SecretSource,
    TargetSpec,
    TenantFile,
    check_tenant_file,
)
from trueport.domains.config.models import Configuration, StoredAlias, StoredCredential, StoredRoute, StoredTarget
from trueport.domains.config.policies import next_policy_version, stored_policies, with_policies
from trueport.domains.config.repository import ConfigurationRepository, CredentialRepository
from trueport.gateway.egress import EgressPolicy
from trueport.kit.clock import Clock
from trueport.kit.crypto import DataKey
from trueport.kit.ids import new_id
from trueport.kit.secret import Secret
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database
from trueport.storage.revisions import bump_revision
from trueport.web.deeds import Deeds, Thing


def secret_place(tenant_id: str, credential_id: str) -> str:
    """What a sealed provider secret is bound to."""
    return f"{tenant_id}|credential|{credential_id}"


class ConfigService:
    """The configuration of one tenant. `tenant_key` seals its secrets."""

    def __init__(self, database: Database, scope: TenantScope, tenant_key: DataKey, clock: Clock) -> None:
        self._database = database
        self._scope = scope
        self._tenant_key = tenant_key
        self._clock = clock
        self._credentials = CredentialRepository(database, scope)
        self._configurations = ConfigurationRepository(database, scope)

    async def apply(
        self,
        file: TenantFile,
        secrets: Mapping[str, Secret],
        *,
        changed_by: str,
        providers: Collection[str],
        egress: EgressPolicy,
        deeds: Deeds,
    ) -> Configuration:
        """Make the tenant's configuration what the file says; what the file does not name is removed.

        Raises InvalidConfiguration and then has changed nothing. A credential without a secret in the file has none
        afterwards: a stored secret is never sent to an address it was not entered for.
        """
        check_tenant_file(file, providers, egress)
        # What a file says of secrets is where they are read from.
        before = msgspec.to_builtins(await self.export(file.tenant or ""))
        after = {**msgspec.to_builtins(file), "tenant": before.get("tenant")}
        thing = Thing("configuration", self._scope.tenant_id, before, after)
        given = sorted(name for name, spec in file.credentials.items() if spec.secret is not None and name in secrets)
        async with deeds.doing(
            self._scope.tenant_id, "policy", "configuration_applied", thing, credentials_with_secret=given
        ):
            return await self._apply(file, secrets, changed_by)

    async def _apply(self, file: TenantFile, secrets: Mapping[str, Secret], changed_by: str) -> Configuration:
        current = await self._configurations.current()
        policies = with_policies(file.policies, current)
        for name, spec in file.credentials.items():
            await self._put_credential(name, spec, secrets.get(name) if spec.secret is not None else None)
        configuration = await self._configurations.insert(
            Configuration(
                id=new_id("cfg"),
                tenant_id=self._scope.tenant_id,
                version=current.version + 1 if current else 1,
                routes=[_stored_route(route) for route in file.routes],
                aliases=_stored_names(file.aliases),
                regions=file.regions,
                requests_per_minute=file.limits.requests_per_minute,
                tokens_per_minute=file.limits.tokens_per_minute,
                concurrency=file.limits.concurrency,
                user_limits=msgspec.to_builtins(file.limits.per_user),
                model_limits=[
                    {"model": glob, **msgspec.to_builtins(bounds)} for glob, bounds in file.limits.models.items()
                ],
                budgets=[msgspec.to_builtins(budget) for budget in file.budgets],
                prices=file.prices,
                policies=[policy.members() for policy in policies],
                policy_version=next_policy_version(policies, current),
                moderations=file.moderations,
                changed_by=changed_by,
                created_at=self._clock.now(),
            )
        )
        for credential in await self._credentials.find():
            if credential.name not in file.credentials:
                await self._credentials.delete(credential.id)
        await bump_revision(self._database, self._scope.tenant_id)
        return configuration

    async def export(self, tenant_slug: str) -> TenantFile:
        """The configuration in force as a file; secrets by the source they were read from."""
        current = await self._configurations.current()
        file = TenantFile(version=1, tenant=tenant_slug)
        for credential in await self._credentials.find():
            file.credentials[credential.name] = CredentialSpec(
                provider=credential.provider,
                base_url=credential.base_url,
                secret=_source(credential.secret_source),
                region=credential.region,
                deployments={entry.alias: entry.model for entry in credential.deployments},
                api_version=credential.api_version,
                quirks=credential.quirks,
            )
        if current is not None:
            file.routes = [_route_spec(route) for route in current.routes]
            file.aliases = {entry.alias: entry.model for entry in current.aliases}
            file.regions = current.regions
            file.limits = limits_spec(current)
            file.budgets = budget_specs(current)
            file.prices = current.prices
            file.moderations = "local" if current.moderations == "local" else "provider"
            file.policies = [policy.members()["document"] for policy in stored_policies(current)]
        return file

    async def _put_credential(self, name: str, spec: CredentialSpec, secret: Secret | None) -> None:
        existing = await self._credentials.named(name)
        credential_id = existing.id if existing else new_id("crd")
        sealed = None
        if secret is not None:
            place = secret_place(self._scope.tenant_id, credential_id)
            sealed = self._tenant_key.seal(secret.reveal().encode(), place).to_bytes()
        credential = StoredCredential(
            id=credential_id,
            tenant_id=self._scope.tenant_id,
            name=name,
            provider=spec.provider,
            base_url=spec.base_url,
            secret=sealed,
            secret_hint=secret.reveal()[-4:] if secret is not None and len(secret.reveal()) >= 16 else None,
            secret_source=spec.secret.text if spec.secret else None,
            region=spec.region,
            deployments=_stored_names(spec.deployments),
            api_version=spec.api_version,
            quirks=spec.quirks,
            created_at=existing.created_at if existing else self._clock.now(),
            revision=existing.revision if existing else 0,
        )
        await (self._credentials.replace(credential) if existing else self._credentials.insert(credential))


def _stored_route(route: RouteSpec) -> StoredRoute:
    return StoredRoute(
        model=route.match.model,
        dialect=route.match.dialect,
        targets=[
            StoredTarget(
                credential=target.credential,
                model=target.model,
                timeout_s=target.timeout_s,
                weight=target.weight,
                priority=target.priority,
                retries=target.retries,
            )
            for target in route.targets
        ],
        choose=route.choose,
        cache_s=route.cache_s,
    )


def _stored_names(names: Mapping[str, str]) -> list[StoredAlias]:
    return [StoredAlias(alias=alias, model=model) for alias, model in names.items()]


def limits_spec(configuration: Configuration) -> LimitsSpec:
    """The limits of a stored configuration."""
    models = {
        entry["model"]: msgspec.convert({name: entry[name] for name in entry if name != "model"}, BoundsSpec)
        for entry in configuration.model_limits
    }
    return LimitsSpec(
        configuration.requests_per_minute,
        configuration.tokens_per_minute,
        configuration.concurrency,
        msgspec.convert(configuration.user_limits, BoundsSpec),
        models,
    )


def budget_specs(configuration: Configuration) -> list[BudgetSpec]:
    """The budgets of a stored configuration."""
    return msgspec.convert(configuration.budgets, list[BudgetSpec])


def _route_spec(route: StoredRoute) -> RouteSpec:
    return RouteSpec(
        match=MatchSpec(route.model, route.dialect),
        targets=[
            TargetSpec(
                target.credential, target.model, target.timeout_s, target.weight, target.priority, target.retries
            )
            for target in route.targets
        ],
        choose="latency" if route.choose == "latency" else "weight",
        cache_s=route.cache_s,
    )


def _source(text: str | None) -> SecretSource | None:
    if text is None:
        return None
    kind, _, name = text.partition(":")
    return SecretSource(env=name) if kind == "env" else SecretSource(file=name)
