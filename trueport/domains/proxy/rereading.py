"""Recorded content opened: for people, and for a replay, with the detectors of today and the policies proposed."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trueport.audit.records import Kind, record_id
from trueport.detection.policy import ActivePolicies, Context, PolicySet
from trueport.detection.policy.replay import context_of, reading_fields, was_stopped_before_its_answer
from trueport.detection.types import Side
from trueport.domains.analytics.api import AuditRecords, ContentUnreadable, Said
from trueport.domains.audit.api import ContentErased
from trueport.domains.proxy.contents import StoredContents
from trueport.domains.proxy.scanning import texts_of
from trueport.gateway.judging import PolicyScreener
from trueport.gateway.texts import Texts
from trueport.kit.crypto import SealBroken
from trueport.kit.errors import InvalidRequest, NotFound
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database

_KINDS: Final[Mapping[Side, Kind]] = {"input": "intent", "output": "outcome"}


class RecordedContent:
    """A ContentReader and a ContentViewer. The first tells places and scores alone, or why there are none."""

    def __init__(self, database: Database, contents: StoredContents, screener: PolicyScreener) -> None:
        self._database = database
        self._contents = contents
        self._screener = screener

    async def read_again(self, scope: TenantScope, outcome: Mapping[str, Any], policies: PolicySet) -> dict[str, Any]:
        readings: dict[str, Any] = {}
        for side in _KINDS:
            found = await self._side(scope, outcome, policies, side)
            if found is not None:
                readings[side] = found
        return {**outcome, "readings": readings, "detector_failures": []}

    async def _side(
        self, scope: TenantScope, outcome: Mapping[str, Any], policies: PolicySet, side: Side
    ) -> dict[str, Any] | None:
        """What was read, None where there is nothing to read or nobody who asks."""
        before = (outcome.get("readings") or {}).get(side)
        if outcome.get("decision") == "refuse" or (
            side == "output" and before is None and was_stopped_before_its_answer(outcome)
        ):
            return None
        context = context_of(outcome, before)
        active = policies.for_call(side, context)
        if active.is_empty:
            return None
        found = await self._read(scope, outcome, side, active, context)
        kept = {
            "model": context.model,
            "provider": context.provider,
            "user_kept": bool((before or {}).get("user_kept")),
        }
        return {**found, **kept}

    async def _read(
        self, scope: TenantScope, outcome: Mapping[str, Any], side: Side, active: ActivePolicies, context: Context
    ) -> dict[str, Any]:
        size = _size(outcome, side)
        if not size:
            return {**reading_fields([], active, context, is_user_kept=False), "took_us": 0}
        try:
            texts = await self._texts(scope, outcome, side, size)
        except ContentUnreadable as error:
            return {"unreadable": error.reason}
        judgement = await self._screener.judge(texts, active, context)
        if any(failure.categories & active.wanted for failure in judgement.failures):
            return {"unreadable": "detector_failed"}
        return {**(judgement.reading or {}), "took_us": judgement.took_us}

    async def texts(self, scope: TenantScope, outcome: Mapping[str, Any], side: Side) -> Sequence[Said]:
        size = _size(outcome, side)
        if not size:
            return ()
        found = await self._texts(scope, outcome, side, size)
        return [Said(part.path, part.passage.role, part.passage.text) for part in found.parts]

    async def _texts(self, scope: TenantScope, outcome: Mapping[str, Any], side: Side, size: int) -> Texts:
        body = await self._opened(scope, outcome["rid"], side, size)
        try:
            return await asyncio.to_thread(texts_of, side, outcome, body)
        except InvalidRequest as error:
            raise ContentUnreadable("content_not_readable") from error

    async def _opened(self, scope: TenantScope, rid: str, side: Side, size: int) -> bytes:
        """What was said on one side. Raises ContentUnreadable, and a kit Unavailable."""
        # Looked for first: opening waits for a record that may be on its way, and these have had their time.
        if await AuditRecords(self._database, scope).find_one({"_id": record_id(rid, _KINDS[side])}) is None:
            raise ContentUnreadable("content_not_kept")
        try:
            body = await self._contents.of(scope, rid, _KINDS[side])
        except ContentErased as error:
            raise ContentUnreadable("content_erased") from error
        except (NotFound, SealBroken) as error:
            raise ContentUnreadable("content_not_kept") from error
        if body is None:
            raise ContentUnreadable("content_not_kept")
        if side == "output" and len(body) != size:
            raise ContentUnreadable("content_cut")
        return body


def _size(outcome: Mapping[str, Any], side: Side) -> int:
    return int(outcome.get("request_bytes" if side == "input" else "reply_bytes") or 0)
