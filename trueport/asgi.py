"""The ASGI entry point: gateway paths go straight to the relay, everything else to the framework."""

import ctypes
import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from trueport.app import create_app, installed_domains
from trueport.domains.proxy.http import GatewayApp, dialect_of
from trueport.kit.logging import configure_logging
from trueport.lifespan import open_resources
from trueport.settings import Settings, load_settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_PR_SET_PDEATHSIG: Final = 1


def create(settings: Settings) -> App:
    """The whole server as one ASGI application."""
    domains = installed_domains(settings.domains)
    gateway = GatewayApp(settings.server.trusted_proxies) if "proxy" in settings.domains else None
    # The collections whose documents belong to tenants: what the tripwire watches.
    collections = frozenset(
        +model for domain in domains for model in domain.documents if "tenant_id" in model.__annotations__
    )
    framework = create_app(
        settings, domains, open_resources=partial(open_resources, gateway=gateway, tenant_collections=collections)
    )
    if gateway is None:
        return cast(App, framework)

    async def dispatch(
        scope: Scope, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        place = dialect_of(scope["path"], scope["headers"]) if scope["type"] == "http" else None
        if place is not None:
            await gateway(scope, receive, send, place)
        else:
            await cast(App, framework)(scope, receive, send)

    return dispatch


def worker() -> App:
    """What a worker process loads: settings from its environment, logs configured, tied to its parent."""
    _die_with_parent()
    # For a process that does not do what it should: SIGUSR1 writes to its log where each thread is, without values.
    faulthandler.register(signal.SIGUSR1)
    config = os.environ.get("TRUEPORT_CONFIG")
    settings = load_settings(os.environ, config_file=Path(config) if config else None)
    configure_logging(level=settings.log_level)
    _forget_dead_workers()
    # A thread that works on a long text keeps the event loop from the interpreter for so long at a time.
    sys.setswitchinterval(0.001)
    app = create(settings)
    # What start-up built lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    return app


def _forget_dead_workers() -> None:
    """Take back what killed workers counted as under way; a fresh worker starts in the place of each."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for path in Path(folder).glob("gauge_live*_*.db") if folder else ():
        pid = path.stem.rpartition("_")[2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)


def _die_with_parent() -> None:
    """A worker whose supervisor was killed must not hold the port; the journal makes its own death harmless."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
