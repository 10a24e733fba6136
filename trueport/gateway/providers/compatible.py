"""Everything shaped like OpenAI: other hosts, and the ways in which each differs, as data.

A difference is a quirk with a name. Which quirks a host has is in `PRESETS`; an account may add some, take a whole
preset by name (`vllm`, which can run on any host), or name `as_openai` to have none of its host's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from yarl import URL

from trueport.gateway.call import Request, Wire
from trueport.gateway.providers.address import base_path, below, checked_query, operation_path
from trueport.gateway.providers.credential import key_of
from trueport.gateway.providers.members import edited
from trueport.gateway.snapshot import Credential

Members = Mapping[str, object]

_ADAPTED: Final = frozenset({"chat/completions", "completions", "embeddings"})
_NOT_PASSED: Final = frozenset({"api-version"})

# Members that a provider refuses rather than ignores, by the quirk that takes them out.
DROPS: Final[Mapping[str, tuple[str, ...]]] = {
    "no_stream_options": ("stream_options",),
    "no_store": ("store",),
    "no_metadata": ("metadata",),
    "no_user": ("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    "no_service_tier": ("service_tier",),
    "no_parallel_tool_calls": ("parallel_tool_calls",),
    "no_reasoning_effort": ("reasoning_effort", "verbosity"),
    "no_logprobs": ("logprobs", "top_logprobs", "logit_bias"),
    "no_prediction": ("prediction",),
}
# Members that have another name, by the quirk: OpenAI's name, then the provider's.
RENAMES: Final[Mapping[str, tuple[str, str]]] = {
    "max_tokens": ("max_completion_tokens", "max_tokens"),
    "random_seed": ("seed", "random_seed"),
}
# Headers that carry the key, for providers that want it in another than `Authorization: Bearer`.
KEY_HEADERS: Final[Mapping[str, str]] = {
    "key_in_api_key": "api-key",
    "key_in_x_api_key": "x-api-key",
}
AS_OPENAI: Final = "as_openai"


def _without_developer(members: Members) -> Members:
    """`developer` messages as `system` messages, which they are called elsewhere."""
    messages = members.get("messages")
    if not isinstance(messages, list) or not any(map(_is_from_developer, messages)):
        return {}
    return {"messages": [{**turn, "role": "system"} if _is_from_developer(turn) else turn for turn in messages]}


def _is_from_developer(message: object) -> bool:
    return isinstance(message, dict) and message.get("role") == "developer"


def _without_names(members: Members) -> Members:
    """Messages without the `name` of who speaks. That of a function's result says which function, and stays."""
    messages = members.get("messages")
    if not isinstance(messages, list) or not any(map(_is_named, messages)):
        return {}
    return {"messages": [_without_name(turn) if _is_named(turn) else turn for turn in messages]}


def _is_named(message: object) -> bool:
    return isinstance(message, dict) and "name" in message and message.get("role") != "function"


def _without_name(message: Members) -> Members:
    return {member: value for member, value in message.items() if member != "name"}


def _without_schema(members: Members) -> Members:
    """JSON without the schema it should follow."""
    wanted = members.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        return {"response_format": {"type": "json_object"}}
    return {}


# Values that have to be others, by the quirk: the members to change, of the members there are.
REWRITES: Final[Mapping[str, Callable[[Members], Members]]] = {
    "no_developer_role": _without_developer,
    "no_message_name": _without_names,
    "json_object": _without_schema,
}


@dataclass(frozen=True, slots=True)
class Preset:
    """A provider: its hosts, the path of its OpenAI-shaped API, and its quirks.

    `root` is used where a base URL names the host alone. Hosts that begin with a dot stand for all below them.
    """

    hosts: tuple[str, ...] = ()
    root: str = ""
    quirks: frozenset[str] = frozenset()
    port: int | None = None


def _preset(*quirks: str, hosts: tuple[str, ...] = (), root: str = "/v1", port: int | None = None) -> Preset:
    return Preset(hosts, root, frozenset(quirks), port)


# Looked up in the providers' own references: Mistral's and DeepSeek's, xAI's and Cerebras' roles, Groq's members. The
# others are known from use; an account's `quirks` mend what is wrong. What a provider ignores anyway is not listed.
PRESETS: Final[Mapping[str, Preset]] = {
    "mistral": _preset(
        *("max_tokens", "random_seed", "no_stream_options", "no_developer_role", "no_store", "no_user"),
        *("no_service_tier", "no_logprobs"),
        hosts=("api.mistral.ai", "codestral.mistral.ai"),
    ),
    "groq": _preset(
        *("no_developer_role", "no_message_name", "no_store", "no_metadata", "no_logprobs"),
        hosts=("api.groq.com",),
        root="/openai/v1",
    ),
    "openrouter": _preset(hosts=("openrouter.ai",), root="/api/v1"),
    "together": _preset(
        *("max_tokens", "no_developer_role", "no_store", "no_metadata"), hosts=("api.together.xyz", "api.together.ai")
    ),
    "deepseek": _preset(
        *("max_tokens", "no_developer_role", "json_object", "no_store", "no_metadata", "no_parallel_tool_calls"),
        hosts=("api.deepseek.com",),
    ),
    "fireworks": _preset(
        *("max_tokens", "no_developer_role", "no_store"), hosts=("api.fireworks.ai",), root="/inference/v1"
    ),
    "xai": _preset(*("no_developer_role", "no_store", "no_metadata"), hosts=("api.x.ai", ".api.x.ai")),
    "cerebras": _preset(*("no_developer_role", "no_store", "no_metadata"), hosts=("api.cerebras.ai",)),
    "perplexity": _preset(
        *("max_tokens", "no_developer_role", "no_stream_options", "no_store", "no_metadata", "no_parallel_tool_calls"),
        hosts=("api.perplexity.ai",),
        root="",
    ),
    "cohere": _preset(
        *("max_tokens", "no_store", "no_metadata", "no_user", "no_service_tier", "no_parallel_tool_calls"),
        hosts=("api.cohere.ai", "api.cohere.com"),
        root="/compatibility/v1",
    ),
    "nvidia": _preset(*("max_tokens", "no_developer_role", "no_store"), hosts=("integrate.api.nvidia.com",)),
    "deepinfra": _preset(
        *("max_tokens", "no_developer_role", "no_store"), hosts=("api.deepinfra.com",), root="/v1/openai"
    ),
    "huggingface": _preset(*("max_tokens", "no_developer_role", "no_store"), hosts=("router.huggingface.co",)),
    "vllm": _preset(*("no_developer_role", "no_store", "no_metadata"), root=""),
    "ollama": _preset(*("max_tokens", "no_developer_role", "no_store", "no_metadata"), port=11_434),
}
QUIRK_NAMES: Final = frozenset({*DROPS, *RENAMES, *KEY_HEADERS, *REWRITES, *PRESETS, AS_OPENAI})
"""What `credential.quirks` may hold; other names mean nothing."""


class CompatibleProvider:
    """`openai_compatible`: OpenAI's wire, as far as the provider at hand goes along."""

    name = "openai_compatible"
    wire: Wire = "openai"
    default_headers: tuple[tuple[str, str], ...] = ()

    def adapted(self, credential: Credential, request: Request) -> Request:
        if request.members is None or request.operation not in _ADAPTED:
            return request
        quirks = quirks_of(credential)
        return _with_quirks(request, request.members, quirks) if quirks else request

    def url(self, credential: Credential, request: Request) -> URL:
        base = credential.base_url
        preset = preset_at(base)
        root = base_path(base) or (preset.root if preset else "")
        return below(base, f"{root}/{operation_path(request.operation)}", checked_query(request.query, _NOT_PASSED))

    async def headers(self, credential: Credential, request: Request) -> tuple[tuple[str, str], ...]:  # noqa: ARG002 - for all requests alike
        key = key_of(credential)
        if key is None:
            return ()
        named = [KEY_HEADERS[quirk] for quirk in sorted(quirks_of(credential)) if quirk in KEY_HEADERS]
        return ((named[0], key),) if named else (("authorization", f"Bearer {key}"),)

    def refused(self, credential: Credential) -> None:
        """A key is what it is; there is nothing to forget."""


def preset_at(base: URL) -> Preset | None:
    """The provider that a base URL leads to, None for an unknown one."""
    host = base.host or ""
    for preset in PRESETS.values():
        if preset.port is not None and base.explicit_port == preset.port:
            return preset
        if any(host.endswith(name) if name[0] == "." else host == name for name in preset.hosts):
            return preset
    return None


def quirks_of(credential: Credential) -> frozenset[str]:
    """The quirks in force for an account: its own, those of presets it names, and those of its host."""
    own = credential.quirks
    named = [PRESETS[name].quirks for name in own if name in PRESETS]
    at_host = None if AS_OPENAI in own else preset_at(credential.base_url)
    return own.union(*named, at_host.quirks if at_host else ())


def _with_quirks(request: Request, members: Members, quirks: Iterable[str]) -> Request:
    """The request with every quirk applied; the very same one where none of them finds anything."""
    changed: dict[str, object] = {}
    dropped: set[str] = set()
    for quirk in sorted(quirks):  # in an order, so that the same request always becomes the same bytes
        if quirk in DROPS:
            dropped.update(DROPS[quirk])
        elif quirk in RENAMES:
            ours, theirs = RENAMES[quirk]
            if ours in members:
                # Where both are there, OpenAI's newer name is the one it goes by.
                dropped.add(ours)
                changed[theirs] = members[ours]
        elif quirk in REWRITES:
            changed.update(REWRITES[quirk]({**members, **changed}))
    if not changed and not dropped & members.keys():
        return request
    return edited(request, changed=changed, dropped=dropped)
