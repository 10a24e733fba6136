"""When to stop asking Redis, and when to look whether it is back."""

import random
from typing import Final

from trueport.kit.clock import Clock

FAILURES_IN_A_ROW: Final = 5
WINDOW_S: Final = 10
FEWEST_IN_WINDOW: Final = 20
SHARE_OF_FAILURES: Final = 0.5
FIRST_COOLDOWN_S: Final = 1.0
LONGEST_COOLDOWN_S: Final = 30.0
SPREAD: Final = 0.2


class Fuse:
    """Blows after 5 failures in a row, or when at least half of at least 20 commands of the last 10 s failed.

    Once blown, nobody asks Redis except one background probe at a time, after 1, 2, 4 … 30 s, each varied by up to
    20 % so that the processes of a fleet do not come back in step.
    """

    def __init__(self, clock: Clock, draw: random.Random, *, first_cooldown_s: float = FIRST_COOLDOWN_S) -> None:
        self._clock = clock
        self._draw = draw
        self._first_cooldown_s = first_cooldown_s
        self._in_a_row = 0
        self._probes = 0
        # One slot a second: [the second it counts, commands that went well, commands that failed].
        self._slots = [[-1, 0, 0] for _ in range(WINDOW_S)]
        self.is_blown = False

    def succeeded(self) -> None:
        self._in_a_row = 0
        self._slot()[1] += 1

    def failed(self) -> bool:
        """Count a failure; whether this one blew the fuse."""
        self._in_a_row += 1
        self._slot()[2] += 1
        if self.is_blown or not (self._in_a_row >= FAILURES_IN_A_ROW or self._mostly_fails()):
            return False
        self.is_blown = True
        self._probes = 0
        return True

    def cooldown_s(self) -> float:
        """How long to wait before the next probe; each call names the next, longer wait."""
        wait = min(self._first_cooldown_s * 2.0**self._probes, LONGEST_COOLDOWN_S)
        self._probes = min(self._probes + 1, 10)
        return wait * self._draw.uniform(1 - SPREAD, 1 + SPREAD)

    def mend(self) -> None:
        """A probe came back: ask Redis again, with a clean sheet."""
        self.is_blown = False
        self._in_a_row = 0
        for slot in self._slots:
            slot[:] = (-1, 0, 0)

    def _slot(self) -> list[int]:
        second = int(self._clock.monotonic())
        slot = self._slots[second % WINDOW_S]
        if slot[0] != second:
            slot[:] = (second, 0, 0)
        return slot

    def _mostly_fails(self) -> bool:
        oldest = int(self._clock.monotonic()) - WINDOW_S
        recent = [slot for slot in self._slots if slot[0] > oldest]
        failures = sum(slot[2] for slot in recent)
        commands = failures + sum(slot[1] for slot in recent)
        return commands >= FEWEST_IN_WINDOW and failures >= SHARE_OF_FAILURES * commands
