"""Applying and reading a tenant's configuration."""

from collections.abc import Collection, Mapping

from trueport.domains.config.file import (
    CredentialSpec,
    LimitsSpec,
    MatchSpec,
    RouteSpec,
    SecretSource,
    TargetSpec,
    TenantFile,
    check_tenant_file,
)
from trueport.domains.config.models import Configuration, StoredCredential, StoredRoute, StoredTarget
from trueport.domains.config.repository import ConfigurationRepository, CredentialRepository
from trueport.gateway.egress import EgressPolicy
from trueport.kit.clock import Clock
from trueport.kit.crypto import DataKey
from trueport.kit.ids import new_id
from trueport.kit.secret import Secret
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database
from trueport.storage.revisions import bump_revision


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
    ) -> Configuration:
        """Make the tenant's configuration what the file says; what the file does not name is removed.

        Raises InvalidConfiguration and then has changed nothing. A credential without a secret in the file has none
        afterwards: a stored secret is never sent to an address it was not entered for.
        """
        check_tenant_file(file, providers, egress)
        current = await self._configurations.current()
        for name, spec in file.credentials.items():
            await self._put_credential(name, spec, secrets.get(name) if spec.secret is not None else None)
        configuration = await self._configurations.insert(
            Configuration(
                id=new_id("cfg"),
                tenant_id=self._scope.tenant_id,
                version=current.version + 1 if current else 1,
                routes=[_stored_route(route) for route in file.routes],
                requests_per_minute=file.limits.requests_per_minute,
                tokens_per_minute=file.limits.tokens_per_minute,
                concurrency=file.limits.concurrency,
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
            )
        if current is not None:
            file.routes = [_route_spec(route) for route in current.routes]
            file.limits = LimitsSpec(current.requests_per_minute, current.tokens_per_minute, current.concurrency)
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
                credential=target.credential, model=target.model, timeout_s=target.timeout_s, weight=target.weight
            )
            for target in route.targets
        ],
    )


def _route_spec(route: StoredRoute) -> RouteSpec:
    return RouteSpec(
        match=MatchSpec(route.model, route.dialect),
        targets=[
            TargetSpec(target.credential, target.model, target.timeout_s, target.weight) for target in route.targets
        ],
    )


def _source(text: str | None) -> SecretSource | None:
    if text is None:
        return None
    kind, _, name = text.partition(":")
    return SecretSource(env=name) if kind == "env" else SecretSource(file=name)
