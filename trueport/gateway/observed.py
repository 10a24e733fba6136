"""What this process has seen of providers lately: how fast each target answers, and who asked for a pause."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from trueport.gateway.snapshot import Target
from trueport.kit.clock import Clock
from trueport.kit.ids import CredentialId

LONGEST_PAUSE_S: Final = 120.0
_CAPACITY: Final = 20_000
# How much of the average the newest answer makes up: some ten answers decide.
_WEIGHT: Final = 0.2


class Observed:
    """Kept per process: it orders targets, it never keeps one away."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latency_ms: OrderedDict[tuple[CredentialId, str | None], float] = OrderedDict()
        self._paused_until_s: OrderedDict[CredentialId, float] = OrderedDict()

    def answered(self, target: Target, first_byte_us: int) -> None:
        """`target` began to answer after so long."""
        name = (target.credential.id, target.model)
        before = self._latency_ms.get(name)
        latest = first_byte_us / 1_000
        self._latency_ms[name] = latest if before is None else before + _WEIGHT * (latest - before)
        if len(self._latency_ms) > _CAPACITY:
            self._latency_ms.popitem(last=False)

    def asked_to_wait(self, target: Target, headers: Mapping[str, str]) -> None:
        """The account's own limit is reached; its calls rest for as long as the provider says, two minutes at most."""
        pause_s = asked_pause_s(headers, self._clock.now())
        if pause_s is None:
            return
        self._paused_until_s[target.credential.id] = self._clock.monotonic() + min(pause_s, LONGEST_PAUSE_S)
        if len(self._paused_until_s) > _CAPACITY:
            self._paused_until_s.popitem(last=False)

    def is_paused(self, target: Target) -> bool:
        return self.pause_s(target) > 0

    def pause_s(self, target: Target) -> float:
        """How much longer the target's account is to be left alone; 0 when it need not be."""
        until_s = self._paused_until_s.get(target.credential.id)
        if until_s is None:
            return 0.0
        left_s = until_s - self._clock.monotonic()
        if left_s > 0:
            return left_s
        del self._paused_until_s[target.credential.id]
        return 0.0

    def latency_ms(self, target: Target) -> float | None:
        """The recent average until the first byte, None before the first answer."""
        return self._latency_ms.get((target.credential.id, target.model))


def asked_pause_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds in `retry-after-ms` or `retry-after` (seconds or an HTTP date); None without a sensible one."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            found_s = float(text) * unit_s
        except ValueError:
            found_s = _until(text, now)
        if math.isfinite(found_s) and found_s > 0:
            return found_s
    return None


def _until(text: str, now: datetime) -> float:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return math.nan
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()
