"""An application that is put together wrongly does not start."""

from pathlib import Path
from typing import Any

import pytest
from litestar import get
from litestar.handlers import asgi

from tests.support.web import settings_of
from trueport.app import create_app, route_handlers
from trueport.web.domain import Domain, StartupRefused
from trueport.web.guards import public, tenant


def hosting(tmp_path: Path, *controllers: Any, permissions: frozenset[str] = frozenset()) -> Any:
    return create_app(settings_of(tmp_path), [Domain("auth", controllers=controllers, permissions=permissions)])


@get("/open", access=public())
async def open_route() -> None:
    """Say nothing."""


@get("/forgotten")
async def forgotten() -> None:
    """Say nothing."""


@get("/guessed", access="public")
async def guessed() -> None:
    """Say nothing."""


@get("/reading", access=tenant("stars:read"))
async def reading() -> None:
    """Say nothing."""


@asgi("/raw", copy_scope=True)
async def raw(scope: Any, receive: Any, send: Any) -> None:
    """Say nothing."""


@pytest.mark.parametrize("handler", [forgotten, guessed, raw])
def test_a_route_without_an_access_class_keeps_the_application_from_starting(tmp_path: Path, handler: Any) -> None:
    with pytest.raises(StartupRefused) as refusal:
        hosting(tmp_path, open_route, handler)

    (problem,) = refusal.value.problems
    assert "does not say who may call it" in problem


def test_every_route_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(StartupRefused) as refusal:
        hosting(tmp_path, forgotten, guessed, reading)

    assert len(refusal.value.problems) == 3


def test_a_permission_that_no_domain_declares_keeps_the_application_from_starting(tmp_path: Path) -> None:
    with pytest.raises(StartupRefused, match="stars:read"):
        hosting(tmp_path, reading)

    hosting(tmp_path, reading, permissions=frozenset({"stars:read"}))


def test_only_domains_that_the_settings_name_are_hosted(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, TRUEPORT_DOMAINS="config")

    app = create_app(settings, [Domain("auth", controllers=(open_route,))])

    assert "/open" not in {path for path, _ in route_handlers(app)}
    assert "/healthz" in {path for path, _ in route_handlers(app)}
