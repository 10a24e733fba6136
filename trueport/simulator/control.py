"""The simulator's own endpoints under `/_simulator`: its books, what passed last, and what it is to do by default."""

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import msgspec

from trueport.simulator.errors import error_reply
from trueport.simulator.http import Request
from trueport.simulator.reply import Reply
from trueport.simulator.script import DirectiveError, count

if TYPE_CHECKING:
    from trueport.simulator.server import Simulator

PREFIX: Final = "/_simulator"
_DEFAULT_LIMIT: Final = 1000
_LARGEST_LIMIT: Final = 10_000


def answer(simulator: "Simulator", request: Request) -> Reply:
    """The reply to a request whose path starts with PREFIX."""
    match request.method, request.path.removeprefix(PREFIX):
        case "GET", "/health":
            return _json({"status": "ok"})
        case "GET", "/ledger":
            return _ledger(simulator, request)
        case ("DELETE", "/ledger") | ("POST", "/reset"):
            simulator.reset()
            return _json({"status": "reset"})
        case "GET", "/last":
            return _last(simulator, request)
        case "PUT" | "POST", "/script":
            return _obey(simulator, request)
        case _:
            return error_reply(404, "The simulator has /ledger, /last, /reset, /script and /health.")


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


def _parameter(request: Request, name: str) -> str | None:
    return parse_qs(request.query).get(name, [None])[-1]


def _json(value: object) -> Reply:
    return Reply(body=msgspec.json.encode(value))
