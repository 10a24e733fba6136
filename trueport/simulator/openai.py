"""Which answer a request gets: the routes of the OpenAI dialect, and who may use them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote

import msgspec

from trueport.simulator import chat, completions, embeddings
from trueport.simulator.answers import CREATED
from trueport.simulator.directives import Tally, from_list, from_texts
from trueport.simulator.errors import Refused, error_reply, invalid_key, missing_model
from trueport.simulator.faults import bent_reply
from trueport.simulator.http import Request
from trueport.simulator.reply import Reply
from trueport.simulator.requests import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ModerationRequest,
    decode,
    inputs,
)
from trueport.simulator.script import NO_SCRIPT, DirectiveError, Script

_CHAT: Final = msgspec.json.Decoder(ChatRequest)
_COMPLETION: Final = msgspec.json.Decoder(CompletionRequest)
_EMBEDDING: Final = msgspec.json.Decoder(EmbeddingRequest)
_MODERATION: Final = msgspec.json.Decoder(ModerationRequest)

MODELS: Final = ("sim-model", "sim-small", "sim-embedding", "gpt-4o", "gpt-4o-mini", "text-embedding-3-small")

# Paths under these answer with an echo, so that a relay's pass-through can be seen from outside.
_ECHOED: Final = frozenset(
    {"responses", "images", "audio", "files", "batches", "fine_tuning", "uploads", "vector_stores", "echo"}
)
_CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


class Answer(NamedTuple):
    """The reply to a request, bent by its faults, and what the ledger wants to know about it."""

    reply: Reply
    script: Script
    model: str | None = None


class Call(NamedTuple):
    """A request with everything that decides its answer. `body_digest` is the body's SHA-256 in hexadecimal."""

    request: Request
    body_digest: str
    base: Script
    tally: Tally

    def script(self, texts: Iterable[str] = (), model: str = "") -> Script:
        """The directives of the server, the texts, the model name and the header, later ones winning.

        Faults that have struck as often as they were to are left out. Raises DirectiveError.
        """
        script = from_texts(texts, self.base) if b"[[" in self.request.body else self.base
        if "+" in model:
            script = from_list(model.partition("+")[2], script)
        header = self.request.headers.get("x-simulator")
        if header:
            script = from_list(header, script)
        if any(fault.has("times") for fault in script.faults):
            return self.tally.still_due(script, "\n".join(texts) or f"{self.request.path} {self.body_digest}")
        return script


Handler = Callable[[Call], Answer]


def answer(call: Call) -> Answer:
    """The answer to a call; what is wrong with the request is said in the reply and never raised."""
    script = call.base
    try:
        key = bearer_key(call.request)
        if key is None or key == "sk-invalid":
            script = call.script()
            raise Refused(invalid_key(key))
        given = _handler(call.request.method, call.request.path)(call)
    except Refused as refusal:
        given = Answer(refusal.reply, script)
    except DirectiveError as error:
        reply = error_reply(400, f"Simulator directive: {error}.", param="x-simulator", code="invalid_directive")
        return Answer(reply, NO_SCRIPT)
    if not given.script.faults:
        return given
    return given._replace(reply=bent_reply(given.reply, given.script.faults, call.request))


def bearer_key(request: Request) -> str | None:
    """The key of the Authorization header, or None."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _handler(method: str, path: str) -> Handler:
    """What answers `method` on `path`, with `/v1` or without."""
    route = path.removeprefix("/v1").strip("/")
    handler = _ROUTES.get((method, route))
    if handler is not None:
        return handler
    if method == "GET" and route.startswith("models/"):
        return _one_model
    return _echo if route.partition("/")[0] in _ECHOED else _unknown


def _chat(call: Call) -> Answer:
    asked = decode(call.request.body, _CHAT)
    script = call.script(list(asked.texts()), asked.model)
    chat.check(asked)
    return Answer(_unless_missing(asked.model) or chat.answer(asked, script, call.body_digest), script, asked.model)


def _completion(call: Call) -> Answer:
    asked = decode(call.request.body, _COMPLETION)
    prompts = inputs(asked.prompt, "prompt")
    script = call.script(prompts, asked.model)
    reply = _unless_missing(asked.model) or completions.answer(asked, prompts, script, call.body_digest)
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
    return Answer(_json(body), call.script((), asked.model), asked.model)


def _models(call: Call) -> Answer:
    return Answer(_json({"object": "list", "data": [_model(name) for name in MODELS]}), call.script())


def _one_model(call: Call) -> Answer:
    name = unquote(call.request.path.partition("models/")[2])
    return Answer(_unless_missing(name) or _json(_model(name)), call.script())


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
    return Answer(_json(told), call.script())


def _unknown(call: Call) -> Answer:
    message = f"Invalid URL ({call.request.method} {call.request.path})"
    return Answer(error_reply(404, message, code="unknown_url"), call.script())


def _unless_missing(model: str) -> Reply | None:
    return missing_model(model) if model.startswith("missing-") else None


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "trueport-simulator"}


def _json(value: object) -> Reply:
    return Reply(body=msgspec.json.encode(value))


_ROUTES: Final[Mapping[tuple[str, str], Handler]] = {
    ("POST", "chat/completions"): _chat,
    ("POST", "completions"): _completion,
    ("POST", "embeddings"): _embedding,
    ("POST", "moderations"): _moderation,
    ("GET", "models"): _models,
}
