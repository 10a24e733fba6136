"""Tenants' own keys: unwrapped once, kept for some minutes, wrapped anew when asked to.

A tenant's key is wrapped under a key of this installation, or by what its document names in `wrapped_by`: a key that
the tenant's own people hold and may withdraw.
"""

from typing import Final

from trueport.domains.auth.models import Tenant
from trueport.domains.auth.repository import tenants
from trueport.domains.auth.tenants import open_tenant_key, seal_tenant_key
from trueport.kit.crypto import DataKey
from trueport.kit.errors import Conflict, Unavailable
from trueport.kit.ids import TenantId
from trueport.storage.revisions import bump_revision
from trueport.storage.wrapping.base import KeyRefused
from trueport.storage.wrapping.opening import open_wrapper
from trueport.web.domain import Resources

STALE_S: Final = 900.0
"""How long a key is used at most when it cannot be unwrapped again because what it takes is away."""


class TenantKeys:
    """The tenants' keys in use in this process, each read again after the settings' `key_cache_s`."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._kept: dict[str, tuple[DataKey, float]] = {}

    async def of(self, tenant_id: TenantId) -> DataKey:
        """Raises NotFound, SealBroken, KeyRefused, and a kit Unavailable."""
        known, now_s = self._kept.get(tenant_id), self._resources.clock.monotonic()
        if known is not None and now_s - known[1] < self._resources.settings.key_cache_s:
            return known[0]
        try:
            key = await self._opened(await tenants(self._resources.database, "tenant key").get(tenant_id))
        except Unavailable:
            if known is not None and now_s - known[1] < STALE_S:
                return known[0]
            raise
        except BaseException:
            # A key that may not be used any more is not kept either.
            self._kept.pop(tenant_id, None)
            raise
        self._kept[tenant_id] = (key, now_s)
        return key

    async def wrap_anew(self, tenant_id: TenantId, wrapped_by: str) -> None:
        """Have the tenant's key wrapped by `wrapped_by`, "" being this installation's key. Nothing else changes.

        Raises as `of` does, UnknownWrapper, and Conflict when somebody else did so at the same moment.
        """
        stored = tenants(self._resources.database, "wrapping a tenant's key")
        tenant = await stored.get(tenant_id)
        key = await self._opened(tenant)
        if wrapped_by:
            wrapper = open_wrapper(wrapped_by, self._resources.clock)
            wrapped = await wrapper.wrap(key.to_bytes(), _context(tenant_id))
            # Before the old one is given up: what was wrapped has to open.
            if await wrapper.unwrap(wrapped, _context(tenant_id)) != key.to_bytes():
                raise KeyRefused
        else:
            wrapped = seal_tenant_key(self._resources.settings.keys, tenant_id, key)
        changed = await stored.update(
            {"_id": tenant_id, "revision": tenant.revision}, {"wrapped_key": wrapped, "wrapped_by": wrapped_by}
        )
        if changed is None:
            raise Conflict("The organisation was changed by somebody else in the meantime: try again.")
        await bump_revision(self._resources.database, tenant_id)

    async def _opened(self, tenant: Tenant) -> DataKey:
        if not tenant.wrapped_by:
            return open_tenant_key(self._resources.settings.keys, tenant)
        wrapper = open_wrapper(tenant.wrapped_by, self._resources.clock)
        return DataKey(f"{tenant.id}/1", await wrapper.unwrap(tenant.wrapped_key, _context(tenant.id)))


def _context(tenant_id: str) -> dict[str, str]:
    return {"tenant": tenant_id, "purpose": "tenant-key"}
