"""The simulator's own endpoints under `/_simulator`: its books, what passed last, what it is
to do by default, and the tokens it issues."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import msgspec

from trueport.simulator.errors import error_reply
from trueport.simulator.http import Request
from trueport.simulator.reply import Reply
from trueport.simulator.script import DirectiveError, count
from trueport.simulator.tokens import Plan

if TYPE_CHECKING:
    from trueport.simulator.server import Simulator

PREFIX: Final = "/_simulator"
_DEFAULT_LIMIT: Final = 1000
_LARGEST_LIMIT: Final = 10_000


def answer(simulator: "Simulator", request: Request) -> Reply:
    """The reply to a request whose path starts with PREFIX."""
    endpoint = _ENDPOINTS.get((request.method, request.path.removeprefix(PREFIX)))
    if endpoint is None:
        return error_reply(404, "The simulator has /ledger, /last, /reset, /script, /tokens and /health.")
    return endpoint(simulator, request)


def _health(simulator: "Simulator", request: Request) -> Reply:  # noqa: ARG001 - one signature for all
    return _json({"status": "ok"})


def _reset(simulator: "Simulator", request: Request) -> Reply:  # noqa: ARG001
    simulator.reset()
    return _json({"status": "reset"})


def _ledger(simulator: "Simulator", request: Request) -> Reply:
    try:
        after = count(_parameter(request, "after") or "0")
        limit = min(count(_parameter(request, "limit") or str(_DEFAULT_LIMIT)), _LARGEST_LIMIT)
    except DirectiveError as error:
        return error_reply(400, str(error))
    entries = [entry.as_json() for entry in simulator.ledger.after(after, limit)]
    return _json({"entries": entries, "totals": simulator.ledger.totals})


def _last(simulator: "Simulator", request: Request) -> Reply:
    exchange = simulator.recent.last(_parameter(request, "interaction"))
    return _json(exchange.as_json()) if exchange else error_reply(404, "No such request is kept.")


def _obey(simulator: "Simulator", request: Request) -> Reply:
    try:
        simulator.obey(request.body.decode("utf-8", "replace"))
    except DirectiveError as error:
        return error_reply(400, str(error))
    return _json({"status": "obeyed"})


def _count_tokens(simulator: "Simulator", request: Request) -> Reply:  # noqa: ARG001
    return _json(simulator.tokens.as_json())


def _revoke_tokens(simulator: "Simulator", request: Request) -> Reply:  # noqa: ARG001
    simulator.tokens.revoke()
    return _json({"status": "revoked"})


def _plan_tokens(simulator: "Simulator", request: Request) -> Reply:
    try:
        simulator.tokens.plan = msgspec.json.decode(request.body, type=Plan)
    except msgspec.DecodeError as error:
        return error_reply(400, str(error))
    return _json({"status": "planned"})


def _parameter(request: Request, name: str) -> str | None:
    return parse_qs(request.query).get(name, [None])[-1]


def _json(value: object) -> Reply:
    return Reply(body=msgspec.json.encode(value))


_ENDPOINTS: Final[Mapping[tuple[str, str], Callable[["Simulator", Request], Reply]]] = {
    ("GET", "/health"): _health,
    ("GET", "/ledger"): _ledger,
    ("DELETE", "/ledger"): _reset,
    ("POST", "/reset"): _reset,
    ("GET", "/last"): _last,
    ("PUT", "/script"): _obey,
    ("POST", "/script"): _obey,
    ("GET", "/tokens"): _count_tokens,
    ("PUT", "/tokens"): _plan_tokens,
    ("DELETE", "/tokens"): _revoke_tokens,
}
