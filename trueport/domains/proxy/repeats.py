"""Which Idempotency-Keys were used for which calls. The answers themselves stay where all content is."""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from typing import Final

from odmantic import query

from trueport.domains.audit.api import ContentErased
from trueport.domains.proxy.callers import KeyRing
from trueport.domains.proxy.contents import StoredContents
from trueport.domains.proxy.models import UsedKey
from trueport.gateway.cache import AnswerCache, KeptAnswer
from trueport.gateway.call import Admitted, HeaderList, Outcome
from trueport.gateway.repeats import Claim, IdempotencyMismatch, OutcomeUnknown, RequestInProgress
from trueport.kit.errors import NotFound, Unavailable
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Duplicate
from trueport.storage.scoped import TenantRepository
from trueport.web.domain import Resources

log = get_logger(__name__)

KEPT_FOR: Final = timedelta(hours=24)
LEASE: Final = timedelta(seconds=700)
_REMEMBERED_S: Final = 60.0
_KEPT_HEADERS: Final = frozenset({b"content-type", b"x-trueport-dropped"})
_CAN_BE_SENT_AGAIN: Final = frozenset({"refused", "upstream_failed"})


class UsedKeys(TenantRepository[UsedKey]):
    model = UsedKey


class StoredRepeats:
    """Implements the gateway's Repeats on the database."""

    def __init__(self, resources: Resources, callers: KeyRing, contents: StoredContents) -> None:
        self._resources = resources
        self._clock = resources.clock
        self._callers = callers
        self._contents = contents
        self._digest_key = resources.settings.keys.purpose_key("gateway-idempotency")
        # The newest answers, so that a client that asks at once need not wait for its record to arrive.
        self._newest = AnswerCache(resources.clock, capacity_bytes=16 << 20)
        self._under_way: set[asyncio.Task[None]] = set()

    async def claim(self, admitted: Admitted, key: str) -> Claim | KeptAnswer:
        name = self._digest("key", admitted.caller.tenant_id, admitted.caller.environment, key)
        digest = self._body_digest(admitted)
        keys = UsedKeys(self._resources.database, self._scope(admitted))
        now = self._clock.now()
        used = UsedKey(
            id=name,
            tenant_id=admitted.caller.tenant_id,
            created_at=now,
            interaction_id=admitted.call.interaction_id,
            body_digest=digest,
            lease_until=now + LEASE,
            expires_at=now + KEPT_FOR,
        )
        with suppress(Duplicate):
            await keys.insert(used)
            return Claim(name, admitted)
        earlier = await self._earlier(keys, name)
        if earlier is None or earlier.expires_at <= now:
            # The database removes what has expired in its own time.
            await keys.delete_many({"_id": name}, query.lte(UsedKey.expires_at, now))
            with suppress(Duplicate):
                await keys.insert(used)
                return Claim(name, admitted)
            raise RequestInProgress
        if not hmac.compare_digest(earlier.body_digest, digest):
            raise IdempotencyMismatch
        return await self._answer_of(earlier, self._scope(admitted), _remembered_as(admitted, name))

    def settle(self, claim: Claim, outcome: Outcome, head: HeaderList) -> None:
        keys = UsedKeys(self._resources.database, self._scope(claim.admitted))
        if outcome.end == "completed" and outcome.status < 300:
            target, request = outcome.served_by, claim.admitted.request
            headers = [pair for pair in head if pair[0] in _KEPT_HEADERS]
            content_type = next((value.decode("latin-1") for name, value in headers if name == b"content-type"), "")
            answer = KeptAnswer(
                interaction_id=claim.admitted.call.interaction_id,
                status=outcome.status,
                headers=headers,
                body=outcome.content,
                is_stream=content_type.startswith("text/event-stream")
                or (request.streams and request.streams_as == "array"),
                provider=target.credential.provider if target else "",
                model=(target.model if target else None) or claim.admitted.model or "",
                expires_s=self._clock.monotonic() + _REMEMBERED_S,
            )
            if len(outcome.content) == outcome.reply_bytes:
                self._newest.keep(_remembered_as(claim.admitted, claim.name), answer)
            self._in_background(
                keys.update(
                    claim.name,
                    {
                        "state": "done",
                        "status": answer.status,
                        "content_type": content_type,
                        "is_stream": answer.is_stream,
                        "reply_bytes": outcome.reply_bytes,
                        "provider": answer.provider,
                        "model": answer.model,
                    },
                )
            )
        elif outcome.end in _CAN_BE_SENT_AGAIN or outcome.end == "completed":
            self._in_background(keys.delete_many({"_id": claim.name}))
        else:
            self._in_background(keys.update(claim.name, {"state": "unknown"}))

    async def close(self) -> None:
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _earlier(self, keys: UsedKeys, name: str) -> UsedKey | None:
        try:
            return await keys.get(name)
        except NotFound:
            return None

    async def _answer_of(self, used: UsedKey, scope: TenantScope, name: bytes) -> KeptAnswer:
        newest = self._newest.find(name)
        if newest is not None:
            return newest
        if used.state == "unknown" or (used.state == "running" and used.lease_until <= self._clock.now()):
            raise OutcomeUnknown(used.interaction_id)
        if used.state == "running":
            raise RequestInProgress
        try:
            body = await self._contents.of(scope, used.interaction_id, "outcome")
        except ContentErased as error:
            raise OutcomeUnknown(used.interaction_id) from error
        if body is None:
            raise RequestInProgress
        if len(body) != used.reply_bytes:
            raise OutcomeUnknown(used.interaction_id)
        return KeptAnswer(
            interaction_id=used.interaction_id,
            status=used.status,
            headers=[(b"content-type", used.content_type.encode("latin-1"))] if used.content_type else [],
            body=body,
            is_stream=used.is_stream,
            provider=used.provider,
            model=used.model,
        )

    def _body_digest(self, admitted: Admitted) -> str:
        """Keyed, because a plain digest of a short prompt would give the prompt away to whoever guesses it."""
        call = admitted.call
        said = "\n".join((call.dialect.name, call.method, call.path, call.query)).encode() + b"\n" + call.body
        return hmac.new(self._digest_key, said, hashlib.sha256).hexdigest()

    def _digest(self, *parts: str) -> str:
        return hmac.new(self._digest_key, "\n".join(parts).encode(), hashlib.sha256).hexdigest()

    def _scope(self, admitted: Admitted) -> TenantScope:
        known = self._callers.known(admitted.caller.tenant_id)
        if known is None:
            raise Unavailable("The organisation's data cannot be read right now.")
        return known[0]

    def _in_background(self, work: Awaitable[object]) -> None:
        async def run() -> None:
            try:
                await work
            except Unavailable as error:
                # The key stays taken until its lease ends: better refused than done twice.
                log.warning("idempotency_key_not_settled", code=error.code)

        task = asyncio.get_running_loop().create_task(run())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


def _remembered_as(admitted: Admitted, name: str) -> bytes:
    """With the tenant's revision: after an erasure, which makes a higher one, no process gives a kept answer again."""
    return f"{admitted.snapshot.revision} {name}".encode()
