"""The routes of Anthropic's dialect."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import msgspec

from trueport.simulator.anthropic import batches, messages
from trueport.simulator.anthropic.errors import ANTHROPIC, error_reply
from trueport.simulator.anthropic.requests import CountRequest, MessageRequest, check_messages, decode
from trueport.simulator.calls import Answer, Call, Handler, Route, json_reply, scripted
from trueport.simulator.errors import Refused
from trueport.simulator.reply import Reply

_MESSAGE: Final = msgspec.json.Decoder(MessageRequest)
_COUNT: Final = msgspec.json.Decoder(CountRequest)
_VERSION: Final = re.compile(r"20\d\d-[01]\d-[0-3]\d")

MODELS: Final = ("sim-model", "sim-small", "claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5")


def route(method: str, path: str) -> Route:
    """What answers `method` on `path`, with `/v1` or without."""
    plain = path.removeprefix("/v1").strip("/")
    handler = _ROUTES.get((method, plain))
    if handler is None and method == "GET" and plain.startswith("models/"):
        handler = _one_model
    if handler is None and plain.startswith("messages/batches/"):
        handler = batches.handler_of(method, plain)
    return Route(ANTHROPIC, _versioned(handler or _unknown))


def _versioned(handler: Handler) -> Handler:
    """The handler behind the check that a request says which version of the API it means."""

    def checked(call: Call) -> Answer:
        version = call.request.headers.get("anthropic-version")
        if version is None:
            raise Refused(error_reply(400, "anthropic-version: header is required"))
        if not _VERSION.fullmatch(version):
            raise Refused(error_reply(400, f'anthropic-version: "{version}" is not a valid version.'))
        return handler(call)

    return checked


def _message(call: Call) -> Answer:
    asked = decode(call.request.body, _MESSAGE)
    script = call.script(list(asked.texts()), asked.model)
    asked.check()
    missing = _missing(asked.model)
    reply = missing or messages.answer(asked, script, call.body_digest, call.store.has_seen)
    return Answer(reply, script, asked.model)


def _count(call: Call) -> Answer:
    asked = decode(call.request.body, _COUNT)
    script = call.script(list(asked.texts()), asked.model)
    check_messages(asked)
    told = {"input_tokens": script.usage.get("prompt", asked.tokens())}
    return Answer(_missing(asked.model) or json_reply(told), script, asked.model)


def _models(call: Call) -> Answer:
    listed = [_model(name) for name in MODELS]
    told = {"data": listed, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
    return scripted(call, json_reply(told))


def _one_model(call: Call) -> Answer:
    name = unquote(call.request.path.partition("models/")[2])
    return scripted(call, _missing(name) or json_reply(_model(name)))


def _model(name: str) -> dict[str, object]:
    return {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}


def _missing(model: str) -> Reply | None:
    return error_reply(404, f"model: {model}") if model.startswith("missing-") else None


def _unknown(call: Call) -> Answer:
    return scripted(call, error_reply(404))


_ROUTES: Final[Mapping[tuple[str, str], Handler]] = {
    ("POST", "messages"): _message,
    ("POST", "messages/count_tokens"): _count,
    ("POST", "messages/batches"): batches.create,
    ("GET", "messages/batches"): batches.list_all,
    ("GET", "models"): _models,
}
