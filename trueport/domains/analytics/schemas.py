"""The answers of this domain's HTTP surface, and the forms of its parameters."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from trueport.domains.analytics.cases import CaseChange
from trueport.domains.analytics.models import CaseStatus, End, Found, InteractionRow, Scan, ScanState, Violation
from trueport.domains.analytics.repository import AVERAGED
from trueport.domains.analytics.service import Stats
from trueport.gateway.call import UsageSource
from trueport.kit.clock import from_epoch_us, rfc3339, to_epoch_us
from trueport.kit.errors import InvalidRequest
from trueport.kit.money import usd
from trueport.kit.tenancy import Environment
from trueport.storage.mongo import Document

_NOT_BLANK: Final = r"[^\s]"
Label = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/-]*$")]
Note = Annotated[str, Meta(min_length=1, max_length=4_000, pattern=_NOT_BLANK)]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_STATUS: Final = re.compile(r"(?P<kind>[1-5])(?:xx|(?P<rest>[0-9]{2}))")


class AttemptShown(msgspec.Struct):
    target: str
    status: int | None
    error: str | None
    latency_ms: int | None


class InteractionShown(msgspec.Struct, kw_only=True):
    """One call. `id` is what its answer carried as `x-trueport-interaction`, `receipt` as `x-trueport-receipt`.

    `cost_usd` is the exact decimal form of `cost_nano_usd`; both are null where no price is known.
    """

    id: str
    started_at: str
    ended_at: str | None
    request_id: str | None
    receipt: str | None
    key_id: str | None
    env: Environment | None
    dialect: str | None
    method: str | None
    operation: str | None
    model: str | None
    model_counted: str | None
    model_served: str | None
    user: str | None
    repeats: str | None
    provider: str | None
    target: str | None
    stream: bool
    status: int | None
    end: End
    error: str | None
    decision: str | None
    policy_version: int | None
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    audio_input_tokens: int
    audio_output_tokens: int
    image_input_tokens: int
    image_output_tokens: int
    web_searches: int
    images: int
    audio_ms: int
    service_tier: str | None
    total_tokens: int
    usage_source: UsageSource
    usage_doubtful: bool
    cost_nano_usd: int | None
    cost_usd: str | None
    price_version: str | None
    latency_ms: int | None
    first_byte_ms: int | None
    request_bytes: int
    reply_bytes: int
    attempts: list[AttemptShown]


class Sums(msgspec.Struct, kw_only=True):
    """Sums over interactions; `requests` is the sum of the eight ends. Averages are null where nothing was measured.

    `estimated_requests` counts those whose tokens the gateway estimated, `unpriced_requests` those with tokens and
    no known price, whose cost is therefore not in the sum.
    """

    requests: int
    completed: int
    refused: int
    client_closed: int
    upstream_failed: int
    key_revoked: int
    gateway_failed: int
    abandoned: int
    in_progress: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    total_tokens: int
    estimated_requests: int
    unpriced_requests: int
    cost_nano_usd: int
    cost_usd: str
    latency_ms_avg: int | None
    first_byte_ms_avg: int | None


class GroupSums(Sums, kw_only=True):
    """The sums of one group; `key` is the beginning of the hour or day, or the name, null where there is none."""

    key: str | None


class StatsShown(msgspec.Struct, rename={"since": "from", "until": "to"}):
    """`groups` is empty without `group_by`; `has_more` when there are more groups than are shown."""

    since: str
    until: str
    totals: Sums
    groups: list[GroupSums]
    has_more: bool


def moment_of(text: str | None, param: str) -> datetime | None:
    """The moment of an RFC 3339 text with its offset, cut to milliseconds. Raises InvalidRequest."""
    if text is None:
        return None
    try:
        epoch_us = to_epoch_us(msgspec.convert(text, _Moment).astimezone(UTC))
    except (msgspec.ValidationError, OverflowError) as error:
        raise _not_a_moment(param) from error
    # Before 1970 nothing was recorded, and near the year 1 no period could be reckoned back.
    if epoch_us < 0:
        raise _not_a_moment(param)
    return from_epoch_us(epoch_us)


def status_range(text: str | None) -> tuple[int, int] | None:
    """The statuses meant by `404` or `4xx`, from the first up to, not including, the last. Raises InvalidRequest."""
    if text is None:
        return None
    found = _STATUS.fullmatch(text)
    if found is None:
        message = "status is neither a status such as 404 nor a class such as 4xx."
        raise InvalidRequest(message, errors=[{"field": "status", "message": "is not a status or class"}])
    first = int(found["kind"]) * 100
    return (first, first + 100) if found["rest"] is None else (int(text), int(text) + 1)


def _not_a_moment(param: str) -> InvalidRequest:
    message = f"{param} is not a time such as 2026-11-23T09:30:00.000Z."
    return InvalidRequest(message, errors=[{"field": param, "message": "is not an RFC 3339 time"}])


class ChangeCase(msgspec.Struct, forbid_unknown_fields=True):
    """What is absent stays; `assignee: null` takes the case from whoever had it."""

    status: CaseStatus | UnsetType = UNSET
    assignee: Annotated[str, Meta(max_length=64)] | UnsetType | None = UNSET
    labels: Annotated[list[Label], Meta(max_length=50)] | UnsetType = UNSET
    note: Note | UnsetType = UNSET

    def change(self) -> CaseChange:
        values: dict[str, Any] = {name: getattr(self, name) for name in ("status", "assignee", "labels")}
        note = None if self.note is UNSET else self.note
        return CaseChange({name: value for name, value in values.items() if value is not UNSET}, note)


class CaseEntryShown(msgspec.Struct):
    at: str
    by: str
    note: str | None
    status: CaseStatus | None


class ViolationShown(msgspec.Struct, kw_only=True):
    """One violation and its case. `start` and `end` count code points of the text at `path`."""

    id: str
    created_at: str
    interaction_id: str
    env: Environment | None
    key_id: str | None
    user: str | None
    model: str | None
    provider: str | None
    side: str
    policy_id: str | None
    policy: str
    policy_version: int | None
    action: str
    mode: str
    category: str
    type: str
    path: str
    start: int
    end: int
    score: float | None
    threshold: float | None
    detector: str | None
    detector_version: str | None
    found: Found
    found_at: str | None
    status: CaseStatus
    assignee: str | None
    labels: list[str]
    entries: list[CaseEntryShown]


def show_violation(violation: Violation) -> ViolationShown:
    shaped = {"created_at", "found_at", "entries", "score", "threshold"}
    plain = {name: getattr(violation, name) for name in ViolationShown.__struct_fields__ if name not in shaped}
    return ViolationShown(
        **plain,
        created_at=rfc3339(violation.created_at),
        found_at=None if violation.found_at is None else rfc3339(violation.found_at),
        score=_share(violation.score_bp),
        threshold=_share(violation.threshold_bp),
        entries=[CaseEntryShown(rfc3339(e.at), e.by, e.note, e.status) for e in violation.entries],
    )


class ScanShown(msgspec.Struct, kw_only=True):
    """What is or was to be read of an interaction after its end; `id` is the interaction's.

    `not_scannable`: some of the content was not kept, which `problems` says by side. `violations` counts the finds.
    """

    id: str
    created_at: str
    ended_at: str | None
    state: ScanState
    reasons: list[str]
    sides: list[str]
    categories: list[str]
    policy_version: int
    problems: list[str]
    violations: int
    tries: int


def show_scan(scan: Scan) -> ScanShown:
    def told(member: str) -> list[str]:
        return sorted({each[member] for each in scan.wanted})

    return ScanShown(
        id=scan.id,
        created_at=rfc3339(scan.created_at),
        ended_at=None if scan.ended_at is None else rfc3339(scan.ended_at),
        state=scan.state,
        reasons=told("reason"),
        sides=told("side"),
        categories=sorted({category for each in scan.wanted for category in each["categories"]}),
        policy_version=scan.policy_version,
        problems=scan.problems,
        violations=scan.violations,
        tries=scan.tries,
    )


def _share(basis_points: int | None) -> float | None:
    return None if basis_points is None else basis_points / 10_000


def show_interaction(row: InteractionRow) -> InteractionShown:
    plain = {name: getattr(row, name) for name in InteractionShown.__struct_fields__ if name not in _SHAPED}
    return InteractionShown(
        **plain,
        started_at=rfc3339(row.created_at),
        ended_at=rfc3339(row.ended_at) if row.ended_at else None,
        cost_usd=None if row.cost_nano_usd is None else usd(row.cost_nano_usd),
        attempts=[
            AttemptShown(a.target, a.status, a.error, None if a.took_us is None else a.took_us // 1_000)
            for a in row.attempts
        ],
    )


def show_stats(stats: Stats) -> StatsShown:
    return StatsShown(
        since=rfc3339(stats.since),
        until=rfc3339(stats.until),
        totals=Sums(**_members(stats.totals)),
        groups=[GroupSums(key=group["_id"], **_members(group)) for group in stats.groups],
        has_more=stats.has_more,
    )


_SHAPED: Final = frozenset({"started_at", "ended_at", "cost_usd", "attempts"})


def _members(sums: Document) -> dict[str, Any]:  # members of Sums, of several types
    averages = {f"{name}_avg": _average(sums[name], sums[f"{name}_count"]) for name in AVERAGED}
    plain = {name: sums[name] for name in Sums.__struct_fields__ if name in sums}
    return {**plain, **averages, "cost_usd": usd(sums["cost_nano_usd"])}


def _average(amount: int, count: int) -> int | None:
    return None if count == 0 else round(amount / count)
