"""Things that happened, told in process to whoever listens, after the write that made them true."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from trueport.kit.logging import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Base of the frozen values in each domain's events.py."""


E = TypeVar("E", bound=Event)
Listener = Callable[[Any], Awaitable[None]]


class EventBus:
    """Listeners by event type. A listener's failure is logged and neither undoes the deed nor stops the others."""

    def __init__(self) -> None:
        self._listeners: dict[type[Event], list[Listener]] = defaultdict(list)

    def listen(self, kind: type[E], listener: Callable[[E], Awaitable[None]]) -> None:
        self._listeners[kind].append(listener)

    async def tell(self, event: Event) -> None:
        for listener in self._listeners[type(event)]:
            try:
                await listener(event)
            except Exception as error:  # noqa: BLE001 - one listener must not silence the rest
                log.error("event_listener_failed", event_type=type(event).__name__, error_type=type(error).__name__)
