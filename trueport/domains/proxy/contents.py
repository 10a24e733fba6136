"""What was said in an interaction, out of the tenant's storage."""

import asyncio
from typing import Final

from trueport.audit.canonical import parse
from trueport.audit.records import Kind, record_id
from trueport.audit.sealing import open_content
from trueport.domains.analytics.api import AuditRecords
from trueport.domains.audit.api import SubjectKeys
from trueport.domains.proxy.recorder import content_place
from trueport.kit.errors import NotFound
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import ContentStore
from trueport.web.domain import Resources

_LOOKS: Final = 20
_BETWEEN_LOOKS_S: Final = 0.1


class StoredContents:
    """Opens the content of records that have been shipped."""

    def __init__(self, resources: Resources, store: ContentStore, keys: SubjectKeys) -> None:
        self._resources = resources
        self._keys = keys
        self._store = store

    async def of(self, scope: TenantScope, interaction_id: str, kind: Kind) -> bytes | None:
        """The content of the interaction's record, None when it is not there (yet), or was not kept.

        Waits two seconds for a record that is still on its way. Raises ContentErased when its key was destroyed, a kit
        Unavailable, and SealBroken for content that is not what its record describes.
        """
        records = AuditRecords(self._resources.database, scope)
        for _ in range(_LOOKS):
            try:
                record = await records.get(record_id(interaction_id, kind))
                break
            except NotFound:
                await asyncio.sleep(_BETWEEN_LOOKS_S)
        else:
            return None
        reference, description = record.content_reference, parse(record.canonical).get("content")
        if reference is None or not isinstance(description, dict):
            return None
        key = await self._keys.opening(scope, str(description["kid"]))
        stored = await self._store.get(reference.object)
        ciphertext = stored[reference.offset : reference.offset + reference.length]
        return open_content(key, description, ciphertext, content_place(scope.tenant_id, interaction_id, kind))
