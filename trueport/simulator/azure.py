"""Azure OpenAI: OpenAI's handlers behind deployments, API versions and a content filter that always comments."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qs, unquote

import msgspec

from trueport.simulator import openai
from trueport.simulator.calls import Answer, Call, Handler, Route, scripted
from trueport.simulator.dialect import Dialect, bearer_key
from trueport.simulator.errors import OPENAI, RESPONSES, error_reply
from trueport.simulator.http import Request
from trueport.simulator.reply import Event, Letterhead, Reply
from trueport.simulator.streams import with_line_ends

_LETTERHEAD: Final = Letterhead(
    "apim-request-id",
    "server: trueport-simulator\r\n"
    "x-ms-region: Simulated\r\n"
    "x-ms-deployment-name: simulated\r\n"
    "azureml-model-session: simulated\r\n"
    "x-ms-client-request-id: Not-Set\r\n"
    "x-content-type-options: nosniff\r\n"
    "strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n"
    "x-ratelimit-limit-requests: 10000\r\n"
    "x-ratelimit-limit-tokens: 2000000\r\n"
    "x-ratelimit-remaining-requests: 9999\r\n"
    "x-ratelimit-remaining-tokens: 1999000\r\n",
)
_DEPLOYED: Final = (
    "chat/completions",
    "completions",
    "embeddings",
    "images/generations",
    "images/edits",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
)
_VERSIONED: Final = ("responses", "files", "batches", "models")
_CATEGORIES: Final = ("hate", "self_harm", "sexual", "violence")
_ACCESS_DENIED: Final = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
    "active subscription and use a correct regional API endpoint for your resource."
)
_NO_DEPLOYMENT: Final = (
    "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, "
    "please wait a moment and try again."
)
_FILTERED: Final = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify "
    "your prompt and retry. To learn more about our content filtering policies please read our documentation: "
    "https://go.microsoft.com/fwlink/?linkid=2198766"
)

_SAFE: Final = msgspec.json.encode({name: {"filtered": False, "severity": "safe"} for name in _CATEGORIES})
_PROMPT_SAFE: Final = b'[{"prompt_index":0,"content_filter_results":%b}]' % _SAFE
_PROMPT_EVENT: Final = Event(
    b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":%b}\n\n' % _PROMPT_SAFE
)


def gateway_error(status: int, code: str, message: str) -> Reply:
    """An error of the machinery before the models, which knows no types."""
    return Reply(status=status, body=msgspec.json.encode({"error": {"code": code, "message": message}}))


def _error(
    status: int,
    message: str | None = None,
    *,
    param: str | None = None,
    code: str | None = None,
    retry_after: str | None = None,
) -> Reply:
    if status == 401:
        return gateway_error(401, "401", message or _ACCESS_DENIED)
    if status == 429:
        wait = retry_after if retry_after is not None and retry_after.isdigit() else "7"
        text = (
            f"Requests to the simulated operation have exceeded the call rate limit. Please retry after {wait} seconds."
        )
        return gateway_error(429, "429", message or text)
    return error_reply(status, message, param=param, code=code)


def _key(request: Request) -> str | None:
    return request.headers.get("api-key") or bearer_key(request)


def _unauthorised(request: Request, key: str | None) -> Reply:  # noqa: ARG001 - one answer to all
    return gateway_error(401, "401", _ACCESS_DENIED)


def _azure(spoken: Dialect) -> Dialect:
    """Azure's variety of one of OpenAI's two ways of streaming."""
    return replace(spoken, name="azure", letterhead=_LETTERHEAD, key=_key, unauthorised=_unauthorised, error=_error)


AZURE: Final = _azure(OPENAI)
_AZURE_RESPONSES: Final = _azure(RESPONSES)


def route(request: Request) -> Route:
    """What answers a request whose path begins with `/openai/`."""
    parts = request.path.strip("/").split("/")[1:]
    has_version = "api-version" in parse_qs(request.query)
    match parts:
        case ["deployments", deployment, *rest] if "/".join(rest) in _DEPLOYED and has_version:
            return _spoken(request, "/".join(rest), unquote(deployment))
        case ["v1", *rest]:
            return _spoken(request, "/".join(rest), None)
        case [first, *_] if first in _VERSIONED and has_version:
            return _spoken(request, "/".join(parts), None)
    return Route(AZURE, _not_found)


def _not_found(call: Call) -> Answer:
    return scripted(call, gateway_error(404, "404", "Resource not found"))


def _spoken(request: Request, plain: str, deployment: str | None) -> Route:
    """OpenAI's route for `plain`, in Azure's words."""
    found = openai.route(request.method, plain)
    dialect = _AZURE_RESPONSES if found.dialect is RESPONSES else AZURE

    def answer(call: Call) -> Answer:
        inner = call._replace(request=_as_openai(call.request, plain, deployment), model=deployment)
        return _in_azures_words(found.handler, inner, deployment)

    return Route(dialect, answer)


def _as_openai(request: Request, plain: str, deployment: str | None) -> Request:
    """The request as OpenAI would get it: the deployment becomes the model, the last member of that name."""
    body = request.body.rstrip()
    if deployment is not None and body.startswith(b"{") and body.endswith(b"}"):
        comma = b"" if body[1:-1].strip() == b"" else b","
        body = b'%b%b"model":%b}' % (body[:-1], comma, msgspec.json.encode(deployment))
        return request._replace(path=f"/v1/{plain}", body=body)
    return request._replace(path=f"/v1/{plain}")


def _in_azures_words(handler: Handler, call: Call, deployment: str | None) -> Answer:
    given = handler(call)
    if (deployment or given.model or "").startswith("missing-"):
        return given._replace(reply=gateway_error(404, "DeploymentNotFound", _NO_DEPLOYMENT))
    if given.script.filtered is not None and given.reply.status == 400:
        return given._replace(reply=_filtered(given.script.filtered))
    if call.request.path.endswith("/completions") and given.reply.status == 200:
        return given._replace(reply=_annotated(given.reply, given.script.extra))
    return given


def _filtered(category: str) -> Reply:
    """The refusal of a prompt because of this category."""
    found: dict[str, object] = {
        name: {"filtered": name == category, "severity": "high" if name == category else "safe"} for name in _CATEGORIES
    }
    is_jailbreak = category == "jailbreak"
    found["jailbreak"] = {"filtered": is_jailbreak, "detected": is_jailbreak}
    error = {
        "message": _FILTERED,
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": found},
    }
    return Reply(status=400, body=msgspec.json.encode({"error": error}))


def _annotated(reply: Reply, extra: frozenset[str]) -> Reply:
    """A completion with the filter's findings on the prompt and on every choice."""
    if reply.events is not None:
        return replace(reply, events=_annotated_events(reply.events, extra))
    body = _with_findings(reply.body)
    return replace(reply, body=b'%b,"prompt_filter_results":%b}' % (body[:-1], _PROMPT_SAFE))


def _annotated_events(events: Iterable[Event], extra: frozenset[str]) -> Iterator[Event]:
    yield from with_line_ends(iter((_PROMPT_EVENT,)), extra)
    for event in events:
        yield event._replace(data=_with_findings(event.data))


def _with_findings(data: bytes) -> bytes:
    # Inside a text the quotes would be escaped, so this finds the member of a choice and nothing else.
    return data.replace(b'"logprobs":null', b'"content_filter_results":%b,"logprobs":null' % _SAFE)
