"""Requests and answers about erasures and holds."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from trueport.domains.audit.archive_holds import HeldInArchive
from trueport.domains.audit.erasure.models import Erasure, ErasureState, Hold, HoldState
from trueport.kit.clock import rfc3339

Text = Annotated[str, Meta(min_length=1, max_length=500)]
Subject = Annotated[str, Meta(pattern="^sub_[0-9a-f]{40}$")]
Moment = Annotated[datetime, Meta(tz=True)]
InteractionId = Annotated[str, Meta(pattern="^int_[0-9a-v]{26}$")]


class AskErasure(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Whom to erase: the `user` as the application names them, the calls of a `key_id` that named nobody, or a
    `subject`. `legal_basis` is for the record, such as "GDPR art. 17(1)(b)"."""

    legal_basis: Text
    user: Text | None = None
    key_id: Text | None = None
    subject: Subject | None = None


class ErasureShown(msgspec.Struct, kw_only=True):
    """An erasure. `record` names its record in the trail, `keys` the keys that are destroyed once it is `done`."""

    id: str
    subject: str
    requester: str
    legal_basis: str
    state: ErasureState
    keys: list[str]
    record: str | None
    created_at: str
    done_at: str | None


class CreateHold(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A hold on what meets every condition given; without one, on everything. Times are RFC 3339, `until` excluded."""

    reason: Text
    user: Text | None = None
    subject: Subject | None = None
    key_id: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    interaction_ids: Annotated[list[InteractionId], Meta(max_length=500)] = []


class HoldShown(msgspec.Struct, kw_only=True):
    """A hold. It is in force until a second person has agreed to its release. `archive` is told of a single one."""

    id: str
    reason: str
    created_by: str
    created_at: str
    subject: str | None
    key_id: str | None
    since: str | None
    until: str | None
    interaction_ids: list[str]
    state: HoldState
    release_asked_by: str | None
    released_by: str | None
    released_at: str | None
    archive: HeldInArchive | None = None


def show_erasure(stored: Erasure) -> ErasureShown:
    return ErasureShown(
        id=stored.id,
        subject=stored.subject,
        requester=stored.requester,
        legal_basis=stored.legal_basis,
        state=stored.state,
        keys=stored.kids,
        record=stored.record,
        created_at=rfc3339(stored.created_at),
        done_at=None if stored.done_at is None else rfc3339(stored.done_at),
    )


def show_hold(stored: Hold) -> HoldShown:
    return HoldShown(
        id=stored.id,
        reason=stored.reason,
        created_by=stored.created_by,
        created_at=rfc3339(stored.created_at),
        subject=stored.subject,
        key_id=stored.key_id,
        since=None if stored.since is None else rfc3339(stored.since),
        until=None if stored.until is None else rfc3339(stored.until),
        interaction_ids=stored.interaction_ids,
        state=stored.state,
        release_asked_by=stored.release_asked_by,
        released_by=stored.released_by,
        released_at=None if stored.released_at is None else rfc3339(stored.released_at),
    )
