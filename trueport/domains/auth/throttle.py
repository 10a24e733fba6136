"""Slowing down who guesses passwords, without locking out who knows theirs. In process memory."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Final

from trueport.kit.clock import Clock
from trueport.kit.errors import TrueportError

_MOST_SUBJECTS: Final = 20_000
_LONGEST_DELAY_S: Final = 900.0
_FORGET_AFTER_S: Final = 3_600.0


class TooManyAttempts(TrueportError):
    """Sign-in failed too often of late; `retry-after` says when to try again."""

    code: ClassVar[str] = "too_many_attempts"
    status: ClassVar[int] = 429

    def __init__(self, wait_s: float) -> None:
        super().__init__("Too many failed attempts. Wait a moment before the next one.")
        self.retry_after_s = max(1, int(wait_s + 0.999))


@dataclass(slots=True)
class _Record:
    failures: int
    last_at_s: float


class Throttle:
    """Failures per subject. After `free` of them in a row each further attempt waits twice as long as the one before.

    Bounded: the subject that failed longest ago is forgotten first. A subject without a failure for an hour, or with
    a success, starts anew.
    """

    def __init__(self, clock: Clock, *, free: int, first_delay_s: float = 1.0) -> None:
        self._clock = clock
        self._free = free
        self._first_delay_s = first_delay_s
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def check(self, subject: str) -> None:
        """Raises TooManyAttempts while the subject has to wait."""
        wait_s = self._wait_s(subject)
        if wait_s > 0:
            raise TooManyAttempts(wait_s)

    def failed(self, subject: str) -> None:
        now = self._clock.monotonic()
        record = self._records.pop(subject, None)
        if record is None or now - record.last_at_s > _FORGET_AFTER_S:
            record = _Record(0, now)
        self._records[subject] = _Record(record.failures + 1, now)
        if len(self._records) > _MOST_SUBJECTS:
            self._records.popitem(last=False)

    def succeeded(self, subject: str) -> None:
        self._records.pop(subject, None)

    def take_back(self, subject: str) -> None:
        """Uncount one failure, leaving the others."""
        record = self._records.get(subject)
        if record is not None:
            record.failures -= 1

    def _wait_s(self, subject: str) -> float:
        record = self._records.get(subject)
        if record is None or record.failures < self._free:
            return 0.0
        delay_s = min(self._first_delay_s * 2.0 ** min(record.failures - self._free, 20), _LONGEST_DELAY_S)
        return record.last_at_s + delay_s - self._clock.monotonic()


class SignInThrottle:
    """Three views of one failure: this account from this address, this address, this account.

    The first is tight. The others are loose, so that one address cannot try every account and many addresses cannot
    try one account for ever; a stranger can make the owner of an account wait, but from the hundredth failure only.
    """

    def __init__(self, clock: Clock) -> None:
        self._pair = Throttle(clock, free=5)
        self._address = Throttle(clock, free=50)
        self._account = Throttle(clock, free=100)

    def check(self, account: str, address: str) -> None:
        self._pair.check(f"{account} {address}")
        self._address.check(address)
        self._account.check(account)

    def failed(self, account: str, address: str) -> None:
        self._pair.failed(f"{account} {address}")
        self._address.failed(address)
        self._account.failed(account)

    def succeeded(self, account: str, address: str) -> None:
        """Also undoes what `failed` counted for this attempt; other failures of the address stay."""
        self._pair.succeeded(f"{account} {address}")
        self._account.succeeded(account)
        self._address.take_back(address)
