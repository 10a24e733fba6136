"""The routes of Google's dialect, at the Gemini API and at Vertex AI."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, unquote

from trueport.simulator.calls import Answer, Call, Handler, Route, json_reply, scripted
from trueport.simulator.embeddings import vector
from trueport.simulator.google import generate
from trueport.simulator.google.errors import GOOGLE, error_reply
from trueport.simulator.google.requests import (
    Members,
    content_texts,
    contents,
    decode,
    invalid,
    items,
    member,
    members,
    texts,
    tokens,
    whole_number,
)
from trueport.simulator.http import Request
from trueport.simulator.reply import Reply
from trueport.simulator.usage import Usage, corrected, count_tokens

_DIMENSIONS: Final = 3072
_MOST_DIMENSIONS: Final = 3072
_METHODS: Final = ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents")

MODELS: Final = (
    "sim-model",
    "sim-small",
    "sim-embedding",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-embedding-001",
)


def route(request: Request, path: str) -> Route:
    """What answers the request on `path`, which begins with a version or with `/models`."""
    _, between, rest = path.partition("/models")
    if not between:
        return Route(GOOGLE, _unknown)
    name, colon, verb = unquote(rest.strip("/")).rpartition(":")
    if request.method == "POST" and colon:
        handler = _VERBS.get(verb)
        return Route(GOOGLE, _unknown if handler is None else _named(handler, name))
    if request.method == "GET":
        return Route(GOOGLE, _named(_one_model, unquote(rest.strip("/"))) if rest.strip("/") else _models)
    return Route(GOOGLE, _unknown)


def _named(handler: Handler, model: str) -> Handler:
    """The handler for a request whose path names `model`, if there is such a model."""

    def known(call: Call) -> Answer:
        if model.startswith("missing-"):
            message = (
                f"models/{model} is not found for API version v1beta, or is not supported for generateContent. Call "
                "ListModels to see the list of available models and their supported methods."
            )
            return scripted(call, error_reply(404, message), model)
        return handler(call._replace(model=model))

    return known


def _generate(call: Call) -> Answer:
    return _generated(call, None)


def _stream(call: Call) -> Answer:
    is_sse = parse_qs(call.request.query).get("alt", [""])[-1] == "sse"
    return _generated(call, "sse" if is_sse else "array")


def _generated(call: Call, form: str | None) -> Answer:
    model = call.model or ""
    asked = decode(call.request.body)
    script = call.script(list(texts(asked)), model)
    contents(asked)
    return Answer(generate.answer(asked, model, script, call.body_digest, form), script, model)


def _count(call: Call) -> Answer:
    asked = decode(call.request.body)
    asked = dict(members(asked, "generateContentRequest")) or asked
    script = call.script(list(texts(asked)), call.model or "")
    contents(asked)
    total = script.usage.get("prompt", tokens(asked))
    told = {"totalTokens": total, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]}
    return Answer(json_reply(told), script, call.model)


def _embed(call: Call) -> Answer:
    asked = decode(call.request.body)
    text = _embedded(asked)
    script = call.script([text], call.model or "")
    usage = corrected(Usage(count_tokens(text)), script.usage)
    body = {"embedding": _embedding(text, asked), "usageMetadata": {"promptTokenCount": usage.prompt}}
    return Answer(_billed(body, usage), script, call.model)


def _embed_all(call: Call) -> Answer:
    asked = decode(call.request.body)
    requests = [one for one in items(asked, "requests") if isinstance(one, Mapping)]
    if not requests:
        raise invalid("* BatchEmbedContentsRequest.requests: requests is not specified\n")
    all_texts = [_embedded(one) for one in requests]
    script = call.script(all_texts, call.model or "")
    usage = corrected(Usage(sum(map(count_tokens, all_texts))), script.usage)
    vectors = [_embedding(text, one) for text, one in zip(all_texts, requests, strict=True)]
    body = {"embeddings": vectors, "usageMetadata": {"promptTokenCount": usage.prompt}}
    return Answer(_billed(body, usage), script, call.model)


def _predict(call: Call) -> Answer:
    """Embeddings as Vertex AI asks for them."""
    asked = decode(call.request.body)
    all_texts = [str(member(one, "content") or "") for one in items(asked, "instances")]
    if not all_texts:
        raise invalid("Invalid instances: expected at least one with `content`.")
    script = call.script(all_texts, call.model or "")
    counts = [count_tokens(text) for text in all_texts]
    parameters = members(asked, "parameters")
    predictions = [
        {
            "embeddings": {
                **_embedding(text, parameters),
                "statistics": {"truncated": False, "token_count": number},
            }
        }
        for text, number in zip(all_texts, counts, strict=True)
    ]
    characters = sum(map(len, all_texts))
    body = {"predictions": predictions, "metadata": {"billableCharacterCount": characters}}
    return Answer(_billed(body, corrected(Usage(sum(counts)), script.usage)), script, call.model)


def _embedded(asked: Members) -> str:
    found = list(content_texts(member(asked, "content")))
    if not found:
        raise invalid("* EmbedContentRequest.content: contents is not specified\n")
    return "\n".join(found)


def _embedding(text: str, asked: Members) -> dict[str, object]:
    size = whole_number(asked, "outputDimensionality") or whole_number(
        members(asked, "embedContentConfig"), "outputDimensionality"
    )
    dimensions = size or _DIMENSIONS
    if not 0 < dimensions <= _MOST_DIMENSIONS:
        raise invalid("* EmbedContentRequest.output_dimensionality: must be between 1 and 3072\n")
    return {"values": vector(text, dimensions).tolist()}


def _billed(value: object, usage: Usage) -> Reply:
    plain = json_reply(value)
    return Reply(body=plain.body, usage=usage)


def _models(call: Call) -> Answer:
    return scripted(call, json_reply({"models": [_model(name) for name in MODELS]}))


def _one_model(call: Call) -> Answer:
    return scripted(call, json_reply(_model(call.model or "")))


def _model(name: str) -> dict[str, object]:
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name,
        "description": "A simulated model.",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": list(_METHODS),
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
    }


def _unknown(call: Call) -> Answer:
    return scripted(call, error_reply(404))


_VERBS: Final[Mapping[str, Handler]] = {
    "generateContent": _generate,
    "streamGenerateContent": _stream,
    "countTokens": _count,
    "embedContent": _embed,
    "batchEmbedContents": _embed_all,
    "predict": _predict,
}
