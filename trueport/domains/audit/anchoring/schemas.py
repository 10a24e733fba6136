"""Answers about the places that checkpoints are sent to."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from trueport.domains.audit.anchoring.models import AnchorState, Push
from trueport.kit.clock import rfc3339


class AnchorShown(msgspec.Struct, kw_only=True):
    """A place and how far it is: it has the checkpoint over `size` records, `behind` fewer than the newest is about.

    `problem` is a code while its last attempt has failed: `fork` and `rolled_back` mean that the place knows another
    history than this log's.
    """

    id: str
    kind: str
    place: str
    size: int
    behind: int
    reached_at: str | None
    problem: str | None
    failures: int
    failing_since: str | None
    next_at: str


class CreatePush(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A webhook that gets the newest checkpoint, every `every_s` seconds at most."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    url: Annotated[str, Meta(min_length=1, max_length=2_048)]
    every_s: Annotated[int, Meta(ge=60, le=86_400)] = 3_600


class PushShown(msgspec.Struct, kw_only=True):
    """A webhook. How far it is stands among the anchors, under the same id."""

    id: str
    name: str
    url: str
    every_s: int
    created_at: str
    created_by: str


class PushMade(PushShown, kw_only=True):
    """A new webhook, and the secret of its signatures, which is shown this once."""

    secret: str


def show_push(push: Push) -> PushShown:
    return PushShown(
        id=push.id,
        name=push.name,
        url=push.url,
        every_s=push.every_s,
        created_at=rfc3339(push.created_at),
        created_by=push.created_by,
    )


def show_anchor(state: AnchorState, newest: int) -> AnchorShown:
    return AnchorShown(
        id=state.id.partition("|")[2],
        kind=state.kind,
        place=state.place,
        size=state.size,
        behind=max(0, newest - state.size),
        reached_at=_shown(state.reached_at),
        problem=state.problem,
        failures=state.failures,
        failing_since=_shown(state.failing_since),
        next_at=rfc3339(state.due_at),
    )


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
