"""What a domain brings to the application, and what the process lends it in return."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from litestar.di import Provide
from litestar.types import ControllerRouterHandler
from odmantic import Model

from trueport.kit.clock import Clock
from trueport.kit.events import Event, EventBus
from trueport.settings import Settings
from trueport.storage.mongo import Database
from trueport.web.tenancy import Authenticator

P = TypeVar("P")


class StartupRefused(Exception):
    """The application as put together must not serve. `problems` has a sentence for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ReadinessCheck:
    """Something this process needs. `probe` raises when it is away.

    Without a critical part the process is not ready (503); without another one it is `degraded` and serves.
    """

    probe: Callable[[], Awaitable[None]]
    is_critical: bool


@dataclass(frozen=True, slots=True)
class Resources:
    """What the process has opened, for the life of the application.

    Hooks may add to `readiness`, which is what /readyz looks at. `parts` holds what lifespan hooks opened for their
    own domain, by type: a thread pool, a cache, a client.
    """

    settings: Settings
    database: Database
    clock: Clock
    events: EventBus
    readiness: dict[str, ReadinessCheck] = field(default_factory=dict)
    parts: dict[type[Any], object] = field(default_factory=dict)

    def part(self, kind: type[P]) -> P:
        """The part of this type. Raises LookupError when no hook has opened it."""
        try:
            return cast(P, self.parts[kind])
        except KeyError as error:
            raise LookupError(f"no lifespan hook has opened a {kind.__name__}") from error


LifespanHook = Callable[[Resources], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Job:
    """Work to be done again and again. It runs in every process, so two runs at once must do no harm.

    at_end: done once when the process stops, after the last run, while everything is still open.
    """

    name: str
    every_s: float
    run: Callable[[Resources], Awaitable[None]]
    at_end: Callable[[Resources], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """Calls `react` after an event of type `kind`."""

    kind: type[Event]
    react: Callable[[Resources, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain, ready to be hosted.

    `permissions` are the names its access classes may use; an access class that names another one keeps the
    application from starting. One hosted domain supplies the `authenticator`.
    """

    name: str
    controllers: tuple[ControllerRouterHandler, ...] = ()
    dependencies: Mapping[str, Provide] = field(default_factory=dict)
    documents: tuple[type[Model], ...] = ()
    listeners: tuple[Listener, ...] = ()
    lifespan: tuple[LifespanHook, ...] = ()
    jobs: tuple[Job, ...] = ()
    permissions: frozenset[str] = frozenset()
    authenticator: Callable[[Resources], Authenticator] | None = None
