"""Which dialect a path speaks, and who answers it."""

import re
from typing import Final

from trueport.simulator import azure, openai
from trueport.simulator.anthropic import routes as anthropic
from trueport.simulator.calls import Answer, Call, Route
from trueport.simulator.dialect import EXPIRED_TOKEN, WRONG_KEY
from trueport.simulator.errors import Refused
from trueport.simulator.faults import Asked, bent_reply
from trueport.simulator.google import routes as google
from trueport.simulator.http import Request
from trueport.simulator.script import NO_SCRIPT, DirectiveError

# What answers the paths that most calls are for, found without a second look.
_COMMON: Final = {
    (method, f"/v1/{path}"): openai.route(method, path) for method, path in openai.ROUTES if path != "models"
}
_GOOGLE: Final = re.compile(
    r"/v1(?:beta\d*|alpha)(?:/|$)|/v\d\w*/projects/|.*/models/[^/]+:"
    r"(?:generateContent|streamGenerateContent|countTokens|embedContent|batchEmbedContents|predict)$"
)


def route(request: Request) -> Route:
    """The dialect that the path speaks (its headers decide where two share one), and who answers it."""
    common = _COMMON.get((request.method, request.path))
    return common or _by_base(request) or _by_name(request)


def _by_base(request: Request) -> Route | None:
    """The route of a path whose beginning tells the provider."""
    path = request.path
    if path.startswith("/openai/"):
        return azure.route(request)
    if path.startswith("/anthropic/"):
        return anthropic.route(request.method, path.removeprefix("/anthropic"))
    if path.startswith("/google/"):
        return google.route(request, path.removeprefix("/google"))
    return None


def _by_name(request: Request) -> Route:
    """The route of a path that names what is wanted, with `/v1` or without."""
    plain = request.path.removeprefix("/v1").strip("/")
    first = plain.partition("/")[0]
    headers = request.headers
    if _GOOGLE.match(request.path) or (first == "models" and "x-goog-api-key" in headers):
        return google.route(request, request.path)
    if first == "messages" or (first == "models" and "anthropic-version" in headers):
        return anthropic.route(request.method, request.path)
    return openai.route(request.method, plain)


def answer(call: Call, chosen: Route) -> Answer:
    """The answer to a call; what is wrong with the request is said in the reply and never raised."""
    script = call.base
    dialect = chosen.dialect
    try:
        key = call.key
        if key is None or key == WRONG_KEY or EXPIRED_TOKEN in key or call.tokens.is_revoked(key):
            script = call.script()
            raise Refused(dialect.unauthorised(call.request, key))
        given = chosen.handler(call)
    except Refused as refusal:
        given = Answer(refusal.reply, script)
    except DirectiveError as error:
        message = f"Simulator directive: {error}."
        reply = dialect.error(400, message, param="x-simulator", code="invalid_directive")
        given = Answer(reply, NO_SCRIPT)
    if given.script.faults:
        asked = Asked(call.request, dialect, call.request_id)
        given = given._replace(reply=bent_reply(given.reply, given.script.faults, asked))
    if dialect.signed is not None:
        given = given._replace(reply=dialect.signed(given.reply, call.request_id))
    return given
