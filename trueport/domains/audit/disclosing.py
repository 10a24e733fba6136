"""Hands out parts of a tenant's trail: bundles of records with their proofs, and evidence packs.

Each leaves an `export` record before anything leaves the house. The archive that proofs are made from is written to a
folder of its own and thrown away again.
"""

import asyncio
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from trueport.audit.columnar import require_parquet
from trueport.audit.disclosure import (
    Custody,
    Files,
    Format,
    NothingSigned,
    Wanted,
    bundle_of,
    ground_of,
    select,
    signed_bundle,
)
from trueport.audit.evidence.frameworks import Framework
from trueport.audit.evidence.pack import Request, pack_of
from trueport.audit.examination import KeySpan
from trueport.audit.reading import read
from trueport.audit.verifier import Folder, Key, Source, read_keys
from trueport.domains.audit.exporting import Export
from trueport.domains.audit.keys import LogKeys, origin_of
from trueport.domains.audit.placing.stores import Stores
from trueport.domains.audit.service import AuditLog
from trueport.kit.clock import Clock, rfc3339
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import ContentStore, FolderStore
from trueport.storage.mongo import Database
from trueport.web.trail import Trail

_PROOF: Final = "proof/"


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks for a part of the trail, and why."""

    by: str
    reason: str


class Disclosing:
    """Makes bundles and packs of one tenant.

    `contents` is where sealed contents of records lie, `archive` where the records are that were pruned.
    """

    def __init__(
        self,
        database: Database,
        scope: TenantScope,
        keys: LogKeys,
        contents: ContentStore,
        clock: Clock,
        archive: Stores | None = None,
    ) -> None:
        self._scope = scope
        self._keys = keys
        self._clock = clock
        self._log = AuditLog(database, scope, keys, clock)
        self._export = Export(database, scope, keys, contents, archive)

    async def bundle(self, trail: Trail, wanted: Wanted, asking: Asking, extra: Format = "jsonl") -> Files:
        """The records asked for, each with its proof, signed by the log; in a table too where `extra` says so.

        Raises FormatUnavailable, SpoolUnavailable (and hands out nothing), NothingSigned, LogHasHole and a kit
        Unavailable.
        """
        if extra == "parquet":
            require_parquet()
        custody = await self._recorded(trail, asking, {"what": "disclosure", "query": wanted.shown()})

        def work(source: Source, keys: list[Key], _: list[KeySpan]) -> Files:
            ground = ground_of(source, read(source, keys), keys)
            return bundle_of(select(source, wanted.takes), ground, custody, wanted.shown(), extra=extra)

        return await self._signed(await self._on_archive(work), "")

    async def pack(
        self,
        trail: Trail,
        framework: Framework,
        since: datetime,
        until: datetime,
        asking: Asking,
        organisation: str | None = None,
    ) -> Files:
        """An evidence pack. Raises what `bundle` raises."""
        wanted = Wanted(since, until)
        said = {"what": "evidence", "framework": framework.name, "query": wanted.shown()}
        custody = await self._recorded(trail, asking, said)
        request = Request(framework, since, until, custody, organisation or self._scope.tenant_id)

        def work(source: Source, keys: list[Key], spans: list[KeySpan]) -> Files:
            return pack_of(source, keys, request, spans=spans)

        return await self._signed(await self._on_archive(work), _PROOF)

    async def _recorded(self, trail: Trail, asking: Asking, said: Mapping[str, object]) -> Custody:
        made_at = self._clock.now()
        fields = {"action": "export.create", "by": asking.by, "reason": asking.reason, "asked_at": rfc3339(made_at)}
        await trail.record(self._scope.tenant_id, "export", {**fields, **said})
        return Custody(made_at, asking.by, asking.reason)

    async def _on_archive(self, work: Callable[[Source, list[Key], list[KeySpan]], Files]) -> Files:
        """Do `work` on the archive up to now, in a thread: it hashes and parses every record."""
        await self._log.advance()
        tenant_id = self._scope.tenant_id
        public = await self._keys.verifier_keys(tenant_id)
        spans = await self._keys.spans(tenant_id)
        with TemporaryDirectory(prefix="trueport-") as folder:
            target, is_empty = FolderStore(Path(folder)), True
            async for written in self._export.segments():
                is_empty = False
                for each in written.objects:
                    await target.put(each.name, each.data)
            if is_empty:
                raise NothingSigned("Nothing has been recorded under a signed checkpoint yet.")
            keys = read_keys("\n".join(map(str, public)))
            return await asyncio.to_thread(lambda: work(Folder(Path(folder)), keys, spans))

    async def _signed(self, files: Files, folder: str) -> Files:
        signers = await self._keys.signers(self._scope.tenant_id)
        return await signed_bundle(files, origin_of(self._scope.tenant_id), signers, folder)


def zipped(files: Files) -> bytes:
    """The files as one archive, in the order of their names, and the same for the same files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED)
    return packed.getvalue()
