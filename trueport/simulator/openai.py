"""The routes of the OpenAI dialect."""

from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from typing import Final
from urllib.parse import unquote

import msgspec

from trueport.simulator import audio, batches, chat, completions, embeddings, files, images
from trueport.simulator.answers import CREATED
from trueport.simulator.calls import Answer, Call, Handler, Route, json_reply
from trueport.simulator.errors import OPENAI, RESPONSES, Refused, error_reply, filtered, missing_model
from trueport.simulator.reply import Reply
from trueport.simulator.requests import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ModerationRequest,
    decode,
    inputs,
)
from trueport.simulator.responses import routes as responses
from trueport.simulator.script import DirectiveError, Script

_CHAT: Final = msgspec.json.Decoder(ChatRequest)
_COMPLETION: Final = msgspec.json.Decoder(CompletionRequest)
_EMBEDDING: Final = msgspec.json.Decoder(EmbeddingRequest)
_MODERATION: Final = msgspec.json.Decoder(ModerationRequest)

MODELS: Final = ("sim-model", "sim-small", "sim-embedding", "gpt-4o", "gpt-4o-mini", "text-embedding-3-small")

# Paths under these that nothing else answers get an echo, so that a relay's pass-through can be seen from outside.
_ECHOED: Final = frozenset(
    {"responses", "images", "audio", "files", "batches", "fine_tuning", "uploads", "vector_stores", "echo"}
)
_CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


def route(method: str, plain: str) -> Route:
    """What answers `method` on `plain`, a path without `/v1`, and in which of OpenAI's two ways of streaming."""
    handler = ROUTES.get((method, plain)) or _below(method, plain)
    return Route(RESPONSES if plain.startswith("responses") else OPENAI, handler)


def _below(method: str, plain: str) -> Handler:
    """What answers on a path with an id in it."""
    match method, plain.split("/"):
        case "GET", ["models", *_]:
            return _one_model
        case _, ["responses", _, *_]:
            found = responses.handler_of(method, plain)
        case _, ["files", _, *_]:
            found = files.handler_of(method, plain)
        case _, ["batches", _, *_]:
            found = batches.handler_of(method, plain, _work)
        case _:
            found = None
    return found or (_echo if plain.partition("/")[0] in _ECHOED else _unknown)


def _work(call: Call, url: str, body: bytes) -> Reply:
    """The reply to one line of a batch."""
    inner = call._replace(
        request=call.request._replace(method="POST", path=url, body=body, headers={}),
        body_digest=sha256(body).hexdigest(),
    )
    try:
        return route("POST", url.removeprefix("/v1").strip("/")).handler(inner).reply
    except Refused as refusal:
        return refusal.reply
    except DirectiveError as error:
        return error_reply(400, f"Simulator directive: {error}.", code="invalid_directive")


def _chat(call: Call) -> Answer:
    asked = decode(call.request.body, _CHAT)
    script = call.script(list(asked.texts()), asked.model)
    chat.check(asked)
    reply = _unless_refused(asked.model, script) or chat.answer(asked, script, call.body_digest)
    return Answer(reply, script, asked.model)


def _completion(call: Call) -> Answer:
    asked = decode(call.request.body, _COMPLETION)
    prompts = inputs(asked.prompt, "prompt")
    script = call.script(prompts, asked.model)
    reply = _unless_refused(asked.model, script) or completions.answer(asked, prompts, script, call.body_digest)
    return Answer(reply, script, asked.model)


def _embedding(call: Call) -> Answer:
    asked = decode(call.request.body, _EMBEDDING)
    texts = inputs(asked.input, "input")
    script = call.script(texts, asked.model)
    return Answer(_unless_missing(asked.model) or embeddings.answer(asked, texts, script), script, asked.model)


def _moderation(call: Call) -> Answer:
    asked = decode(call.request.body, _MODERATION)
    number = len(asked.input) if isinstance(asked.input, list) and isinstance(asked.input[0], str) else 1
    result = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.0001),
        "category_applied_input_types": {category: ["text"] for category in _CATEGORIES},
    }
    body = {"id": f"modr-{call.body_digest[:24]}", "model": asked.model, "results": [result] * number}
    return Answer(json_reply(body), call.script((), asked.model), asked.model)


def _models(call: Call) -> Answer:
    return Answer(json_reply({"object": "list", "data": [_model(name) for name in MODELS]}), call.script())


def _one_model(call: Call) -> Answer:
    name = unquote(call.request.path.partition("models/")[2])
    return Answer(_unless_missing(name) or json_reply(_model(name)), call.script())


def _echo(call: Call) -> Answer:
    """What was received, without the body itself: a pass-through can be checked and nothing leaks."""
    request = call.request
    told = {
        "object": "echo",
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "content_type": request.headers.get("content-type"),
        "body_bytes": len(request.body),
        "body_sha256": call.body_digest,
    }
    return Answer(json_reply(told), call.script())


def _unknown(call: Call) -> Answer:
    message = f"Invalid URL ({call.request.method} {call.request.path})"
    return Answer(error_reply(404, message, code="unknown_url"), call.script())


def _unless_refused(model: str, script: Script) -> Reply | None:
    """The refusal of an unknown model, or the content filter's."""
    return _unless_missing(model) or (filtered() if script.filtered is not None else None)


def _unless_missing(model: str) -> Reply | None:
    return missing_model(model) if model.startswith("missing-") else None


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "trueport-simulator"}


ROUTES: Final[Mapping[tuple[str, str], Handler]] = {
    ("POST", "chat/completions"): _chat,
    ("POST", "completions"): _completion,
    ("POST", "embeddings"): _embedding,
    ("POST", "moderations"): _moderation,
    ("GET", "models"): _models,
    ("POST", "responses"): responses.create,
    ("POST", "responses/input_tokens"): responses.count,
    ("POST", "files"): files.create,
    ("GET", "files"): files.list_all,
    ("POST", "batches"): batches.create,
    ("GET", "batches"): partial(batches.list_all, work=_work),
    ("POST", "images/generations"): images.generate,
    ("POST", "images/edits"): images.edit,
    ("POST", "audio/speech"): audio.speak,
    ("POST", "audio/transcriptions"): audio.transcribe,
    ("POST", "audio/translations"): audio.translate,
}
