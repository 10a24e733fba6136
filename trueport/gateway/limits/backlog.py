"""What finished calls still have to tell Redis, added up until the next flush."""

from collections import defaultdict
from typing import Final

from trueport.gateway.limits.base import Reservation
from trueport.gateway.limits.keys import KeyNames
from trueport.gateway.limits.resp import pack
from trueport.gateway.limits.scripts import Script

CAPACITY: Final = 50_000
_MINUTES_COUNTED: Final = 2

Label = str


class Backlog:
    """Token corrections by counter, and places to free by subject.

    Bounded: what does not fit is dropped and counted. A dropped correction leaves the higher estimate standing until
    its minute has passed, a dropped place is free when it expires; both err on the side of the limit.
    """

    def __init__(self, names: KeyNames, settle: Script) -> None:
        self._names = names
        self._settle_sha = settle.sha
        self._corrections: dict[tuple[Label, int], int] = {}
        self._places: defaultdict[Label, list[str]] = defaultdict(list)
        self._waiting_places = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._corrections) + self._waiting_places

    def settle(self, reservation: Reservation, tokens: int) -> None:
        ask = reservation.ask
        change = tokens - ask.tokens
        for limit in ask.limits:
            if not (limit.concurrency or (change and limit.tokens_per_minute)):
                continue
            label = self._names.label(ask.tenant_id, limit.scope, limit.subject)
            if limit.concurrency:
                self.free(label, ask.call_id)
            if change and limit.tokens_per_minute:
                self._correct((label, reservation.minute), change)

    def free(self, label: Label, call_id: str) -> None:
        """Give back the place of a call, whether it got one or not."""
        if len(self) >= CAPACITY:
            self.dropped += 1
            return
        self._places[label].append(call_id)
        self._waiting_places += 1

    def take(self, minute: int) -> tuple[list[bytes], dict[Label, list[str]]]:
        """Empty the backlog into commands; corrections to counters that are gone by `minute` are left out.

        The second part is the freed places again: freeing twice does no harm, so after an unknown outcome they can be
        put back. Correcting twice would, so corrections are told at most once.
        """
        commands = [
            pack("EVALSHA", self._settle_sha, 1, self._names.tokens(label, counted_in), change)
            for (label, counted_in), change in self._corrections.items()
            if change and counted_in > minute - _MINUTES_COUNTED - 1
        ]
        places = dict(self._places)
        commands += [pack("ZREM", self._names.calls(label), *calls) for label, calls in places.items()]
        self._corrections.clear()
        self._places.clear()
        self._waiting_places = 0
        return commands, places

    def put_back(self, places: dict[Label, list[str]]) -> None:
        for label, calls in places.items():
            for call in calls:
                self.free(label, call)

    def _correct(self, counter: tuple[Label, int], change: int) -> None:
        if counter not in self._corrections and len(self) >= CAPACITY:
            self.dropped += 1
            return
        self._corrections[counter] = self._corrections.get(counter, 0) + change
