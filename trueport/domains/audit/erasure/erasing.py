"""Erasing a person: the keys of what they said are destroyed, and the trail says so and stays whole.

An erasure goes through its states one after the other, and each step may be done again: whatever process ends in
between, the job in another one goes on from the state that was stored.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from trueport.audit.notes import sign_note
from trueport.domains.audit.erasure.holding import Holding
from trueport.domains.audit.erasure.keys import Person, SubjectKeys, subject_of
from trueport.domains.audit.erasure.models import Erasure, Hold
from trueport.domains.audit.erasure.overwriting import Overwriting
from trueport.domains.audit.erasure.repository import Erasures, SubjectKeyRows, UnfinishedErasures
from trueport.domains.audit.keys import LogKeys, origin_of
from trueport.domains.auth.api import work_scope
from trueport.kit.clock import rfc3339
from trueport.kit.errors import Conflict, NotFound, Unavailable
from trueport.kit.ids import KeyId, new_id
from trueport.kit.logging import get_logger
from trueport.kit.tenancy import PlatformScope, TenantScope
from trueport.storage.revisions import bump_revision
from trueport.storage.scoped import Page
from trueport.web.domain import Job, Resources
from trueport.web.trail import Trail

log = get_logger(__name__)

LEASE: Final = timedelta(seconds=60)
EVERY_S: Final = 5.0


class LegalHold(Conflict):
    """What is to be erased is under a legal hold. The erasure waits and is done once the hold is released."""

    code = "legal_hold"

    def __init__(self, erasure_id: str, hold_ids: Sequence[str]) -> None:
        super().__init__(
            "A legal hold forbids this erasure. It waits, and is done when the hold is released.",
            erasure_id=erasure_id,
            hold_ids=list(hold_ids),
        )


class CertificateNotReady(NotFound):
    """The erasure is not done, so nothing certifies it."""

    code = "certificate_not_ready"

    def __init__(self) -> None:
        super().__init__("This erasure is not done yet: ask for its certificate later.")


class Erasing:
    """The erasures of one tenant."""

    def __init__(self, resources: Resources, scope: TenantScope) -> None:
        self._resources = resources
        self._scope = scope
        self._clock = resources.clock
        self._erasures = Erasures(resources.database, scope)
        self._keys = SubjectKeyRows(resources.database, scope)
        self._holding = Holding(resources.database, scope, resources.clock)
        self._log_keys = LogKeys(resources.database, resources.settings.keys, resources.clock)

    async def subject(self, *, user: str | None = None, key_id: str | None = None) -> str:
        """The pseudonym of a user tag, or of an API key's calls without one. Raises a kit Unavailable."""
        own_key = await SubjectKeys(self._resources).tenant_key(self._scope.tenant_id)
        return subject_of(own_key, Person(self._scope.tenant_id, KeyId(key_id or ""), user).name)

    async def ask(self, subject: str, requester: str, legal_basis: str) -> Erasure:
        """Note that somebody wants this; `finish`, or the job, does it."""
        now = self._clock.now()
        return await self._erasures.insert(
            Erasure(
                id=new_id("era"),
                tenant_id=self._scope.tenant_id,
                created_at=now,
                subject=subject,
                requester=requester,
                legal_basis=legal_basis,
                lease_until=now,
            )
        )

    async def get(self, erasure_id: str) -> Erasure:
        """Raises NotFound."""
        return await self._erasures.get(erasure_id)

    async def page(self, *, limit: int, after: str | None) -> Page[Erasure]:
        """Newest first."""
        return await self._erasures.page(limit=limit, after=after)

    async def certificate(self, erasure_id: str) -> str:
        """The signed note. Raises NotFound, CertificateNotReady."""
        found = await self.get(erasure_id)
        if found.certificate is None:
            raise CertificateNotReady
        return found.certificate

    async def finish(self, trail: Trail, erasure_id: str) -> Erasure:
        """Take the erasure from whatever state it is in to `done`.

        An erasure that another process is working on is given back as it is. Raises LegalHold, after which it is
        `held`, and a kit Unavailable, after which it goes on from where it is.
        """
        now = self._clock.now()
        erasure = await self._erasures.lease(erasure_id, now, now + LEASE)
        if erasure is None or erasure.state == "done":
            return erasure or await self.get(erasure_id)
        try:
            if erasure.state != "recorded":
                holds = await self._holding.of_subject(erasure.subject)
                if holds:
                    await self._hold_back(trail, erasure, holds)
                    raise LegalHold(erasure.id, [hold.id for hold in holds])
                erasure = await self._recorded(trail, erasure)
            return await self._destroyed(erasure)
        finally:
            # Not a lease to wait for: whoever asks next, or the job, may go on at once.
            with suppress(Unavailable):
                await self._erasures.update(erasure_id, {"lease_until": now})

    async def _hold_back(self, trail: Trail, erasure: Erasure, holds: Sequence[Hold]) -> None:
        if erasure.state == "held":
            return
        await trail.record(
            self._scope.tenant_id,
            "erasure",
            {**_said(erasure), "action": "refuse", "holds": [hold.id for hold in holds]},
        )
        await self._erasures.update(erasure.id, {"state": "held"})

    async def _recorded(self, trail: Trail, erasure: Erasure) -> Erasure:
        """The record first: a key is destroyed only when the trail says so."""
        kids = [key.id for key in await self._keys.of_subject(erasure.subject)]
        record = await trail.record(
            self._scope.tenant_id, "erasure", {**_said(erasure), "action": "erase", "kids": kids}
        )
        changed = await self._erasures.update(erasure.id, {"state": "recorded", "kids": kids, "record": record})
        return changed or await self.get(erasure.id)

    async def _destroyed(self, erasure: Erasure) -> Erasure:
        await self._keys.destroy(erasure.kids)
        # With a higher revision no process uses a key, or gives an answer, that it has kept.
        await bump_revision(self._resources.database, self._scope.tenant_id)
        done_at = self._clock.now()
        overwritten = await Overwriting(self._resources, self._scope).run(erasure, self._stay)
        erasure = erasure.model_copy(update={"done_at": done_at, "overwritten": overwritten})
        note = await sign_note(certificate_text(erasure), await self._log_keys.signers(self._scope.tenant_id))
        changed = await self._erasures.update(
            erasure.id, {"state": "done", "done_at": done_at, "overwritten": overwritten, "certificate": str(note)}
        )
        log.info("subject_erased", tenant_id=self._scope.tenant_id, erasure=erasure.id, keys=len(erasure.kids))
        return changed or await self.get(erasure.id)

    async def _stay(self, erasure: Erasure) -> None:
        """Keep the lease through long work."""
        await self._erasures.update(erasure.id, {"lease_until": self._clock.now() + LEASE})


def certificate_text(erasure: Erasure) -> str:
    """What a certificate says: one line of JSON, the text of a note that the log's keys sign."""
    said = {
        "certificate": "trueport-erasure/v1",
        "log": origin_of(erasure.tenant_id),
        "tenant": erasure.tenant_id,
        **_said(erasure),
        "asked_at": rfc3339(erasure.created_at),
        "done_at": None if erasure.done_at is None else rfc3339(erasure.done_at),
        "destroyed_keys": erasure.kids,
        "overwritten_contents": erasure.overwritten,
        "record": erasure.record,
        "verify": "Check this note with the public keys of the log. `trueport audit verify` on an export of the trail "
        "shows that it is whole; it holds the record named here, whose kids are the keys destroyed. No content "
        "whose kid is among them can be opened.",
    }
    return json.dumps(said, sort_keys=True) + "\n"


def _said(erasure: Erasure) -> dict[str, object]:
    return {
        "erasure": erasure.id,
        "subject": erasure.subject,
        "requester": erasure.requester,
        "legal_basis": erasure.legal_basis,
    }


async def finish_erasures(resources: Resources) -> None:
    """Go on with what was begun elsewhere, asked for at the command line, or held until now."""
    trail = resources.parts.get(Trail)
    if not isinstance(trail, Trail):
        # This process keeps no journal; one that does will do it.
        return
    unfinished = UnfinishedErasures(resources.database, PlatformScope("audit", "unfinished erasures"))
    for erasure in await unfinished.oldest():
        try:
            await Erasing(resources, work_scope(erasure.tenant_id)).finish(trail, erasure.id)
        except LegalHold:
            continue
        except Unavailable as error:
            log.warning("erasure_not_finished", erasure=erasure.id, code=error.code)


job = Job("finish erasures", EVERY_S, finish_erasures)
