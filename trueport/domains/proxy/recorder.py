"""The gateway's Recorder on a journal.

The outcome repeats what the intent said, so that it describes the whole interaction alone: projections (the
interaction log, the ledger) are made from outcomes, in any order, any number of times.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Final

from trueport.audit.journal import Appended, Journal, SpoolReservation, SpoolSheds, SpoolUnavailable
from trueport.audit.sealing import seal_content
from trueport.domains.audit.api import Person, Sealer, Sealing
from trueport.domains.proxy.gaps import Gaps
from trueport.domains.proxy.user_tags import UserTags
from trueport.gateway.call import Admitted, Call, Caller, Outcome, Usage
from trueport.gateway.judging import reads_after
from trueport.gateway.snapshot import TenantSnapshot
from trueport.kit.logging import get_logger

if TYPE_CHECKING:
    from trueport.detection.policy import Hit

log = get_logger(__name__)

# Room kept for an outcome before its call may start. Longer answers are the exception; the journal's last
# five percent are there for them.
_OUTCOME_BYTES: Final = 64 << 10
_MOST_DECISIONS: Final = 100
_MOST_SCORES: Final = 100
_PATIENT_TIERS: Final = frozenset({"flex", "batch"})


_USAGE_PARTS: Final = tuple(name for name in Usage.__struct_fields__ if name not in ("input_tokens", "output_tokens"))


def content_place(tenant_id: str, interaction_id: str, kind: str) -> str:
    """What a content ciphertext is bound to, and needed to open it."""
    return f"{tenant_id}|content|{interaction_id}|{kind}"


class SpoolRecorder:
    """Writes intents and outcomes of calls. `gaps` is for a journal whose mode is `best_effort`."""

    def __init__(self, spool: Journal, tags: UserTags, keys: Sealer, gaps: Gaps | None = None) -> None:
        self._spool = spool
        self._tags = tags
        self._keys = keys
        self._gaps = gaps

    @property
    def waits_before_upstream(self) -> bool:
        return self._spool.mode == "strict_power"

    async def intent(self, admitted: Admitted) -> "SpoolRecord":
        call, snapshot = admitted.call, admitted.snapshot
        person = Person(snapshot.tenant_id, admitted.caller.key_id, admitted.user)
        sealing = await self._keys.sealing(person, snapshot.revision)
        fields = _intent_fields(admitted, self._user(admitted), sealing.subject)
        content, blobs = _content(admitted, sealing)
        reservation: SpoolReservation | None = None
        appended: Appended | None = None
        try:
            reservation = self._spool.reserve(_OUTCOME_BYTES, can_wait=_can_wait(admitted))
            appended = self._spool.append("intent", call.interaction_id, snapshot.tenant_id, fields | content, blobs)
        except SpoolUnavailable as error:
            if reservation is not None:
                self._spool.release(reservation)
                reservation = None
            if self._gaps is None or isinstance(error, SpoolSheds):
                raise
            self._gaps.miss(snapshot.tenant_id, "intent")
        # The disk works while the provider does.
        self._spool.sync_ahead()
        return SpoolRecord(
            self._spool,
            call,
            snapshot,
            sealing=sealing,
            fields=fields,
            reservation=reservation,
            appended=appended,
            scans=_wanted_after(admitted),
            gaps=self._gaps,
        )

    async def settled(self) -> None:
        await self._spool.settled()

    def _user(self, admitted: Admitted) -> str | None:
        if admitted.user is None or admitted.user_is_for_record:
            return admitted.user
        return self._tags.digest(admitted.caller.tenant_id, admitted.user)

    def refused(self, call: Call, caller: Caller, snapshot: TenantSnapshot, outcome: Outcome) -> str:
        fields = {**_caller_fields(call, caller, snapshot), **_outcome_fields(outcome), "decision": "refuse"}
        try:
            appended = self._spool.append("outcome", call.interaction_id, snapshot.tenant_id, fields)
        except SpoolUnavailable as error:
            # Nothing was sent anywhere; the client is refused either way.
            log.error("refusal_not_recorded", interaction=call.interaction_id, code=error.code)
            return ""
        return appended.leaf.hex()


class SpoolRecord:
    """An intent in the journal whose outcome is owed. With `gaps`, the call goes on where it is in none."""

    __slots__ = (
        "_appended",
        "_call",
        "_fields",
        "_gaps",
        "_reservation",
        "_scans",
        "_sealing",
        "_snapshot",
        "_spool",
    )

    def __init__(
        self,
        spool: Journal,
        call: Call,
        snapshot: TenantSnapshot,
        *,
        sealing: Sealing,
        fields: dict[str, object],
        reservation: SpoolReservation | None,
        appended: Appended | None,
        scans: Sequence[dict[str, object]] = (),
        gaps: Gaps | None = None,
    ) -> None:
        self._spool = spool
        self._call = call
        self._snapshot = snapshot
        self._sealing = sealing
        self._fields = fields
        self._reservation = reservation
        self._appended = appended
        self._scans = scans
        self._gaps = gaps

    @property
    def receipt(self) -> str:
        return self._appended.leaf.hex() if self._appended else ""

    def durable(self) -> Awaitable[None]:
        if self._gaps is not None or self._appended is None:
            return asyncio.sleep(0)
        return self._spool.durable(self._appended.position)

    def close(self, outcome: Outcome) -> None:
        call = self._call
        fields = {**self._fields, **_outcome_fields(outcome)}
        # What was refused went nowhere, and nobody has to look at it again.
        if outcome.end != "refused" and (scans := [*self._scans, *_lost_during(outcome)]):
            fields["scan"] = scans
        blobs: list[bytes] = []
        if outcome.content:
            fields["content"], blobs = _sealed(self._sealing, self._snapshot, call, "outcome", outcome.content)
        tenant_id = self._snapshot.tenant_id
        try:
            self._spool.append("outcome", call.interaction_id, tenant_id, fields, blobs)
        except SpoolUnavailable:
            if self._gaps is None:
                raise
            if self._appended is None:
                self._gaps.miss(tenant_id, "outcome")
            else:
                self._gaps.owe(call.interaction_id, tenant_id, fields)
        finally:
            if self._reservation is not None:
                self._spool.release(self._reservation)


def _can_wait(admitted: Admitted) -> bool:
    """Whether the call is of those that are turned away first: not for production, or asked for as bulk."""
    request = admitted.request
    tier = request.members.get("service_tier") if request.members else None
    is_bulk = (isinstance(tier, str) and tier in _PATIENT_TIERS) or "batches" in request.operation.split("/")
    return is_bulk or admitted.caller.environment != "prod"


def _content(admitted: Admitted, sealing: Sealing) -> tuple[dict[str, object], list[bytes]]:
    """What the intent says of the content, and the ciphertexts beside it: sealed, or but a digest that dies with
    the key it was made under."""
    key, body = sealing.key, admitted.request.body
    if not admitted.keeps_content:
        return {"content": None, "content_mac": {"kid": key.kid, "pt_mac": key.digest(body)}}, []
    content, blobs = _sealed(sealing, admitted.snapshot, admitted.call, "intent", body)
    return {"content": content}, blobs


def _sealed(
    sealing: Sealing, snapshot: TenantSnapshot, call: Call, kind: str, plaintext: bytes
) -> tuple[object, list[bytes]]:
    if not plaintext:
        return None, []
    place = content_place(snapshot.tenant_id, call.interaction_id, kind)
    description, ciphertext = seal_content(sealing.key, plaintext, place)
    return description, [ciphertext]


def _caller_fields(call: Call, caller: Caller, snapshot: TenantSnapshot) -> dict[str, object]:
    return {
        "request_id": call.request_id,
        "key_id": caller.key_id,
        "env": caller.environment,
        "dialect": call.dialect.name,
        "method": call.method,
        "operation": call.path,
        "started_at": call.started_us,
        "config_revision": snapshot.revision,
        "policy_version": snapshot.policy_version,
        "decision": "allow",
    }


def _intent_fields(admitted: Admitted, user: str | None, subject: str) -> dict[str, object]:
    request = admitted.request
    return {
        **_caller_fields(admitted.call, admitted.caller, admitted.snapshot),
        "operation": request.operation,
        "model": request.model,
        "model_counted": admitted.model_counted,
        "user": user,
        "subject": subject,
        "stream": request.streams,
        "request_bytes": len(request.body),
        "input_tokens_estimate": admitted.input_tokens_estimate,
    }


def _outcome_fields(outcome: Outcome) -> dict[str, object]:
    target, usage = outcome.served_by, outcome.usage
    return {
        "end": outcome.end,
        "status": outcome.status,
        "error": outcome.error,
        "provider": target.credential.provider if target else None,
        "credential_id": target.credential.id if target else None,
        "target": target.id if target else None,
        "model_served": outcome.model_served or (target.model if target else None),
        "attempts": [
            {"target": attempt.target.id, "status": attempt.status, "error": attempt.error, "took_us": attempt.took_us}
            for attempt in outcome.attempts
        ],
        "usage": None if usage is None else _usage_fields(usage),
        "usage_source": outcome.usage_source,
        "usage_doubtful": outcome.usage_doubtful,
        "cost_nano_usd": outcome.cost_nano_usd,
        "charged_nano_usd": outcome.charged_nano_usd,
        "price_version": outcome.price_version,
        "first_byte_us": outcome.first_byte_us,
        "reply_bytes": outcome.reply_bytes,
        "upstream_request_id": outcome.upstream_request_id,
        "repeats": outcome.repeats,
        "decision": outcome.decision,
        **(_judgement_fields(outcome) if outcome.judgements else {}),
    }


def _wanted_after(admitted: Admitted) -> list[dict[str, object]]:
    """What is to be read after the call because policies say so."""
    if not admitted.keeps_content or not admitted.targets:
        return []
    return [
        {
            "side": active.side,
            "reason": "policy",
            "policies": [policy.id for policy in active.policies],
            "categories": [],
        }
        for active in reads_after(admitted)
    ]


def _lost_during(outcome: Outcome) -> list[dict[str, object]]:
    """What is to be read once more because a detector gave no answer and the call went on all the same."""
    return [
        {
            "side": judgement.side,
            "reason": "detector_loss",
            "policies": list(judgement.policies),
            "categories": sorted(frozenset().union(*(failure.categories for failure in judgement.failures))),
        }
        for judgement in outcome.judgements
        if judgement.failures
    ]


def _judgement_fields(outcome: Outcome) -> dict[str, object]:
    """What the policies decided and why, and the scores behind it. Never a text."""
    hits = [hit for judgement in outcome.judgements for hit in judgement.hits]
    scores = [(judgement.side, scored) for judgement in outcome.judgements for scored in judgement.scores]
    # Those that came closest to a decision; the room kept for an outcome has its end.
    scores = sorted(scores, key=lambda one: -max(one[1].scores.values()))[:_MOST_SCORES]
    return {
        "decisions": [decision_fields(hit) for hit in hits[:_MOST_DECISIONS]],
        "decisions_left_out": max(0, len(hits) - _MOST_DECISIONS),
        "scores": [
            {
                "side": side,
                "path": scored.path,
                "role": scored.role,
                "scores": {category: _basis_points(score) for category, score in scored.scores.items()},
            }
            for side, scored in scores
        ],
        "detector_failures": [
            {
                "side": judgement.side,
                "detector": failure.detector,
                "code": failure.code,
                "categories": sorted(failure.categories),
            }
            for judgement in outcome.judgements
            for failure in judgement.failures
        ][:_MOST_DECISIONS],
        "readings": {
            judgement.side: {**judgement.reading, "took_us": judgement.took_us}
            for judgement in outcome.judgements
            if judgement.reading is not None
        },
        "held_ms": outcome.held_ms,
    }


def decision_fields(hit: "Hit") -> dict[str, object]:
    """A hit as records have it."""
    return {
        "side": hit.side,
        "policy_id": hit.policy_id,
        "policy": hit.policy,
        "policy_version": hit.policy_version,
        "action": hit.action,
        "mode": hit.mode,
        "path": hit.path,
        "category": hit.category,
        "type": hit.type,
        "start": hit.start,
        "end": hit.end,
        "score_bp": _basis_points(hit.score),
        "threshold_bp": _basis_points(hit.threshold),
        "detector": hit.detector,
        "model": hit.model,
    }


def _basis_points(share: float | None) -> int | None:
    """A score in the ten thousandths that records have: they hold no fractions."""
    return None if share is None else round(share * 10_000)


def _usage_fields(usage: Usage) -> dict[str, object]:
    """The two totals, and of their parts those that are there."""
    parts = {name: value for name in _USAGE_PARTS if (value := getattr(usage, name))}
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, **parts}
