"""The KeySource of a running process: keys from the auth domain, configuration from the config domain."""

from collections.abc import Collection, Mapping

from trueport.detection.embedding import Embeddings
from trueport.detection.engine import Engine
from trueport.domains.auth.api import ApiKeyService, KeyRecord, api_key_pepper, find_api_key, parse_api_key, tenant_key
from trueport.domains.auth.api import find_tenant as tenant_of_slug
from trueport.domains.config.api import compile_snapshot
from trueport.gateway.pricing import PriceBook
from trueport.gateway.snapshot import TenantSnapshot
from trueport.kit.errors import NotFound
from trueport.kit.ids import TenantId
from trueport.storage.revisions import revisions
from trueport.web.domain import Resources


class StoredKeys:
    """Reads keys and configuration from the database. `engine` is what policies are asked with."""

    def __init__(self, resources: Resources, prices: PriceBook, engine: Engine | None = None) -> None:
        self._resources = resources
        self._prices = prices
        self._embeddings = Embeddings(engine) if engine is not None else None
        self._bands = engine.bands if engine is not None else None
        self._pepper = api_key_pepper(resources.settings.keys)

    def tenant_of(self, text: str) -> TenantId | None:
        parsed = parse_api_key(text)
        return parsed.tenant_id if parsed else None

    async def find(self, text: str) -> KeyRecord | None:
        parsed = parse_api_key(text)
        if parsed is None:
            return None
        return await find_api_key(self._resources.database, self._pepper, parsed, self._resources.clock.now())

    async def still_holds(self, key: KeyRecord) -> bool:
        try:
            stored = await ApiKeyService(self._resources, key.scope).get(key.key_id)
        except NotFound:
            return False
        tenant = await tenant_of_slug(self._resources, key.tenant_slug)
        return stored.status == "active" and tenant is not None and tenant.status == "active"

    async def snapshot(self, key: KeyRecord) -> TenantSnapshot:
        own_key = await tenant_key(self._resources, key.tenant_id)
        return await compile_snapshot(
            self._resources.database,
            key.scope,
            key.tenant_slug,
            own_key,
            self._prices,
            embeddings=self._embeddings,
            bands=self._bands,
        )

    async def revisions(self, tenant_ids: Collection[TenantId]) -> Mapping[TenantId, int]:
        return await revisions(self._resources.database, tenant_ids)
