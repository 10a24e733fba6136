"""The application: a fold over the domains that this process hosts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from litestar import Litestar
from litestar.di import NamedDependency, Provide
from litestar.handlers.base import BaseRouteHandler
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.routes import ASGIRoute, HTTPRoute, WebSocketRoute

from trueport import __version__
from trueport.domains.analytics.api import MongoSink
from trueport.kit.logging import get_logger
from trueport.kit.tasks import ended
from trueport.settings import Settings
from trueport.storage.documents import open_store
from trueport.storage.indexes import ensure_indexes
from trueport.web import health
from trueport.web.body import MOST_BODY_BYTES, JsonRequest
from trueport.web.deeds import provide_deeds
from trueport.web.domain import Domain, Job, Resources, StartupRefused
from trueport.web.envelope import Envelope
from trueport.web.guards import (
    ACCESS,
    QUERY_NAMES,
    Access,
    enforce_access,
)
from trueport.web.idempotency import Idempotency, IdempotencyRecord
from trueport.web.openapi import describe_route, openapi_config
from trueport.web.pagination import page_request
from trueport.web.problems import render
from trueport.web.trail import Trail, open_trail

log = get_logger(__name__)

OpenResources = Callable[[Settings], AbstractAsyncContextManager[Resources]]

# Where the domains of this package live; a name in TRUEPORT_DOMAINS that is in neither table hosts nothing.
BUILT_IN: Final = {
    "auth": "trueport.domains.auth",
    "config": "trueport.domains.config",
    "proxy": "trueport.domains.proxy",
    "analytics": "trueport.domains.analytics",
    "audit": "trueport.domains.audit",
}
ENTRY_POINTS: Final = "trueport.domains"


def installed_domains(names: Sequence[str]) -> list[Domain]:
    """The domains of these names, from this package and from the entry point group `trueport.domains`.

    Raises StartupRefused when a package brings a domain under a name that is taken.
    """
    foreign = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    clashes = sorted(foreign.keys() & BUILT_IN.keys())
    if clashes:
        raise StartupRefused([f"domain {name} is installed twice" for name in clashes])
    found: list[Domain] = []
    for name in names:
        if name in BUILT_IN:
            found.append(import_module(BUILT_IN[name]).domain)
        elif name in foreign:
            found.append(foreign[name].load())
    return found


def create_app(
    settings: Settings, domains: Sequence[Domain] | None = None, *, open_resources: OpenResources | None = None
) -> Litestar:
    """The application that hosts those of `domains` (default: all installed) that the settings name.

    `open_resources` opens what the process needs when the application starts. Without it the caller sets
    `app.state.resources` before that.

    Raises StartupRefused when a route says not who may call it, or names a permission no hosted domain knows.
    """
    hosted = [
        domain
        for domain in (installed_domains(settings.domains) if domains is None else domains)
        if domain.name in settings.domains
    ]
    app = Litestar(
        route_handlers=[*health.handlers, *(controller for domain in hosted for controller in domain.controllers)],
        dependencies={
            "resources": Provide(_resources, sync_to_thread=False),
            "page": Provide(page_request),
            "idempotency": Provide(_idempotency, sync_to_thread=False),
            "deeds": Provide(provide_deeds, sync_to_thread=False),
            **{name: provide for domain in hosted for name, provide in domain.dependencies.items()},
        },
        guards=[enforce_access],
        exception_handlers={Exception: render},
        lifespan=[partial(_lifespan, settings=settings, hosted=hosted, open_resources=open_resources)],
        request_class=JsonRequest,
        request_max_body_size=MOST_BODY_BYTES,
        openapi_config=openapi_config(__version__),
        # Errors are logged once, by the exception handler, without what the request held.
        logging_config=None,
        debug=False,
    )
    _settle_routes(app, permissions=frozenset().union(*(domain.permissions for domain in hosted)))
    app.asgi_handler = Envelope(app.asgi_handler, settings)
    return app


def _resources(request: JsonRequest) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


def _idempotency(resources: NamedDependency[Resources]) -> Idempotency:
    return Idempotency(resources)


def route_handlers(app: Litestar) -> list[tuple[str, BaseRouteHandler]]:
    """Every handler with its path template; those that Litestar adds to answer OPTIONS are left out."""
    found: list[tuple[str, BaseRouteHandler]] = []
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            found += [(route.path, handler) for handler in route.route_handlers if not _is_automatic(handler)]
        elif isinstance(route, ASGIRoute | WebSocketRoute):
            found.append((route.path, route.route_handler))
    return found


def _is_automatic(handler: HTTPRouteHandler) -> bool:
    return handler.fn.__module__ == HTTPRoute.__module__


def _settle_routes(app: Litestar, permissions: frozenset[str]) -> None:
    """Check each route's access class, and note beside it what the guard and the API description derive from it."""
    problems = []
    for path, handler in route_handlers(app):
        access = handler.opt.get(ACCESS)
        name = f"{path} ({handler})"
        if not isinstance(access, Access):
            problems.append(f"{name} does not say who may call it: give it access=public(), tenant(…) or another")
        elif access.kind == "tenant" and access.permission not in permissions:
            problems.append(f"{name} asks for {access.permission}, which no hosted domain declares")
        elif isinstance(handler, HTTPRouteHandler):
            describe_route(path, handler, access)
    if problems:
        raise StartupRefused(problems)
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler, expects in route.route_handler_map.values():
                if handler.resolve_include_in_schema():
                    handler.opt[QUERY_NAMES] = frozenset(p.field_alias for p in expects.expected_query_params)


@asynccontextmanager
async def _lifespan(
    app: Litestar, settings: Settings, hosted: Sequence[Domain], open_resources: OpenResources | None
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        if open_resources is not None:
            app.state.resources = await stack.enter_async_context(open_resources(settings))
        resources: Resources = app.state.resources
        await ensure_indexes(
            resources.database, [IdempotencyRecord, *(model for domain in hosted for model in domain.documents)]
        )
        for hook in (hook for domain in hosted for hook in domain.lifespan):
            await stack.enter_async_context(hook(resources))
        if Trail not in resources.parts:
            # No gateway here that has brought its journal along.
            resources.parts[Trail] = await stack.enter_async_context(
                open_trail(settings, resources.clock, partial(_sink, resources), ships_meanwhile=True)
            )
        for listener in (listener for domain in hosted for listener in domain.listeners):
            resources.events.listen(listener.kind, partial(listener.react, resources))
        suppliers = [domain.authenticator for domain in hosted if domain.authenticator is not None]
        if len(suppliers) > 1:
            raise StartupRefused(["more than one hosted domain wants to authenticate people"])
        app.state.authenticator = suppliers[0](resources) if suppliers else None
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(_repeat(job, resources)) for domain in hosted for job in domain.jobs]
            yield
            await ended(running)
        for job in (job for domain in hosted for job in domain.jobs):
            await _end(job, resources)


def _sink(resources: Resources) -> MongoSink:
    store = open_store(resources.settings.storage_url, resources.settings.data_dir)
    return MongoSink(resources.database, store, events=resources.events)


async def _end(job: Job, resources: Resources) -> None:
    if job.at_end is None:
        return
    try:
        await job.at_end(resources)
    except Exception as error:  # noqa: BLE001 - the process stops all the same
        log.error("job_failed", job=job.name, error_type=type(error).__name__)


async def _repeat(job: Job, resources: Resources) -> None:
    while True:
        await asyncio.sleep(job.every_s)
        try:
            await job.run(resources)
        except Exception as error:  # noqa: BLE001 - a failed run is logged; the next one may succeed
            log.error("job_failed", job=job.name, error_type=type(error).__name__)
