"""OpenAI's API as Azure's clients speak it: the deployment stands in the path, the version in the query.

Source: https://learn.microsoft.com/azure/ai-services/openai/reference. Below the path everything is OpenAI's.
"""

import re
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from trueport.gateway.call import Request
from trueport.gateway.dialects.body import is_json, json_members
from trueport.gateway.dialects.openai import OpenAIDialect
from trueport.gateway.json_gate import splice_members
from trueport.gateway.multipart import is_form, read_form, text_of, with_text
from trueport.kit.errors import NotFound

_OF_A_DEPLOYMENT: Final = frozenset(
    {
        *("chat/completions", "completions", "embeddings"),
        *("audio/speech", "audio/transcriptions", "audio/translations"),
        *("images/generations", "images/edits", "images/variations"),
    }
)
# Not a deployment's at Azure, but work for a model all the same when a base URL names the deployment.
_FOR_A_MODEL: Final = _OF_A_DEPLOYMENT | {"responses", "responses/input_tokens", "responses/compact", "moderations"}
# What stands directly below `openai/`; no resource is called by these names.
_COLLECTIONS: Final = frozenset(
    {
        *(
            "responses",
            "files",
            "batches",
            "models",
            "uploads",
            "fine_tuning",
            "vector_stores",
            "assistants",
            "threads",
        ),
        *("conversations", "containers", "evals", "videos", "moderations", "realtime"),
    }
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")


@dataclass(frozen=True, slots=True)
class AzurePath:
    """What a path says: the resource, the deployment (None where the body names the model), the operation."""

    account: str | None
    deployment: str | None
    operation: str


class AzureDialect(OpenAIDialect):
    """The dialect of `/azure/…`, and of `/openai/…` for a client whose endpoint is the gateway itself.

    `read` takes a path in any of these forms, `{resource}/` in front of each being optional but for the first:
    `{resource}/{deployment}/{operation}`, `openai/deployments/{deployment}/{operation}`, the same without `openai/`,
    `openai/v1/{operation}` and `openai/{operation}`. A missing `api-version` is no error.
    """

    name = "azure"

    def read(self, method: str, path: str, query: str, content_type: str, body: bytes) -> Request:
        found = read_path(path)
        deployment = found.deployment
        if deployment is not None and body and found.operation.lower() in _FOR_A_MODEL:
            # At Azure the body's model does not count; elsewhere it alone does. So that no check of the one lets the
            # other pass, the two are the same from here on.
            body = _with_body_model(content_type, body, deployment)
        request = super().read(method, found.operation, query, content_type, body)
        if deployment is not None and found.operation in _FOR_A_MODEL:
            request = replace(request, model=deployment)
        return replace(request, account=found.account)


def read_path(path: str) -> AzurePath:
    """The parts of a path below the dialect's root. Raises NotFound."""
    parts = path.split("/")
    account = None
    if parts[0] not in ("openai", "deployments") and not _is_bare_operation(parts):
        account, parts = _name(parts[0]), parts[1:]
        if parts[0:1] not in (["openai"], ["deployments"]):
            return AzurePath(account, *_deployment_and_operation(parts))
    if parts[0] == "openai":
        parts = parts[1:]
        if parts[0:1] == ["v1"]:
            return AzurePath(account, None, _operation(parts[1:]))
    if parts[0:1] == ["deployments"]:
        return AzurePath(account, *_deployment_and_operation(parts[1:]))
    if parts[0:1] and parts[0] in _COLLECTIONS:
        return AzurePath(account, None, _operation(parts))
    raise NotFound("Resource not found")


def _is_bare_operation(parts: list[str]) -> bool:
    """Whether the path begins with an operation, and not with a resource that has an operation's name."""
    return parts[0] in _COLLECTIONS and "/".join(parts[2:]) not in _OF_A_DEPLOYMENT


def _deployment_and_operation(parts: list[str]) -> tuple[str, str]:
    """Of `{deployment}/{operation}`. What an SDK adds by itself to a base URL with a deployment in it is undone."""
    if len(parts) < 2:
        raise NotFound("Resource not found")
    deployment, rest = _name(parts[0]), parts[1:]
    if rest[0] == "openai":
        rest = rest[1:]
    if rest[0:1] == ["v1"]:
        rest = rest[1:]
    if rest[0:1] == ["deployments"] and len(rest) > 2:
        deployment, rest = _name(rest[1]), rest[2:]
    return deployment, _operation(rest)


def _operation(parts: list[str]) -> str:
    if not parts or not all(parts):
        raise NotFound("Resource not found")
    return "/".join(parts)


def _name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise NotFound("Resource not found")
    return text


def _with_body_model(content_type: str, body: bytes, model: str) -> bytes:
    if is_json(content_type):
        members = json_members(content_type, body)
        return body if members.get("model") == model else splice_members(body, members, {"model": model})
    if is_form(content_type):
        fields = read_form(content_type, body)
        field = fields.get("model")
        if field is not None and text_of(body, fields, "model") != model:
            return with_text(body, field, model)
    return body
