"""Calls in every dialect, prices for every provider, and both sides' books of them; for tests of what calls cost."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Any, Final

from tests.support.chaos_load import ledger
from tests.support.installation import PATIENCE_S, Installation
from tests.support.simulator import RawReply, connected
from trueport.cli.session import configuration_of, tenant_named, with_resources
from trueport.domains.auth.api import KeyOptions, NewUser, create_key, create_tenant, create_user, operator_scope
from trueport.domains.config.api import check_tenant_file, read_secrets, read_tenant_file
from trueport.domains.proxy.wiring import egress_policy
from trueport.gateway.providers.registry import PROVIDER_NAMES
from trueport.kit.ids import UserId
from trueport.settings import load_settings
from trueport.web.deeds import operator_deeds
from trueport.web.domain import Resources

Row = Mapping[str, Any]

# Dollars for a million tokens (a thousand searches). No two are alike, so that a mix-up cannot stay unseen.
PRICES: Final[Mapping[str, Mapping[str, str]]] = {
    "openai": {
        **{"input": "2.51", "cached": "0.613", "cache_write": "3.07", "output": "10.03", "reasoning": "11.17"},
        **{"audio_minute": "0.0061"},
    },
    "anthropic": {
        **{"input": "3.01", "cached": "0.307", "cache_write": "3.79", "cache_write_1h": "6.07", "output": "15.13"},
        **{"reasoning": "16.19", "web_search": "10.09"},
    },
    "google": {"input": "1.27", "cached": "0.313", "output": "9.91", "reasoning": "8.87"},
    "azure": {"input": "2.83", "cached": "1.409", "cache_write": "3.11", "output": "11.03", "reasoning": "12.07"},
}

ROUTES: Final = (
    {"match": {"model": "claude-*"}, "targets": [{"credential": "anthropic"}]},
    {"match": {"model": "gemini-*"}, "targets": [{"credential": "google"}]},
    {"match": {"model": "az-*"}, "targets": [{"credential": "azure"}]},
    {"match": {"model": "*"}, "targets": [{"credential": "sim"}]},
)

MODELS: Final[Mapping[str, str]] = {
    "openai": "sim-model",
    "anthropic": "claude-next",
    "google": "gemini-2.5-flash",
    "azure": "az-gpt",
}
"""The model to ask for so that this provider serves."""


def prices() -> list[dict[str, str]]:
    """The `prices` of a tenant's file."""
    return [{"provider": provider, "model": "*", **amounts} for provider, amounts in PRICES.items()]


def credentials(place: Installation) -> dict[str, dict[str, Any]]:
    """An account of every provider at the simulator."""
    secret = {"env": "SIM_KEY"}
    return {
        "sim": {"provider": "openai", "base_url": f"{place.simulator.url}/v1", "secret": secret},
        **{
            name: {"provider": name, "base_url": place.simulator.url, "secret": secret}
            for name in ("anthropic", "google", "azure")
        },
    }


def cost_nano_usd(provider: str, used: Mapping[str, int]) -> int:
    """What the prices above make of the books' numbers, in exact fractions; `used` has the members of an Entry."""
    amounts = {name: Fraction(text) for name, text in PRICES[provider].items()}
    read, written = amounts["input"], amounts["output"]
    write = amounts.get("cache_write", read)
    write_1h = used.get("cache_write_1h_tokens", 0)
    write_5m = used.get("cache_write_tokens", 0) - write_1h
    cached, reasoning = used.get("cached_tokens", 0), used.get("reasoning_tokens", 0)
    fresh = used["prompt_tokens"] - cached - write_5m - write_1h
    dollars = (
        fresh * read
        + cached * amounts.get("cached", read)
        + write_5m * write
        + write_1h * amounts.get("cache_write_1h", write)
        + (used["completion_tokens"] - reasoning) * written
        + reasoning * amounts.get("reasoning", written)
    ) / 1_000_000
    dollars += used.get("web_searches", 0) * amounts.get("web_search", Fraction(0)) / 1_000
    dollars += used.get("audio_ms", 0) * amounts.get("audio_minute", Fraction(0)) / 60_000
    return floor(dollars * 1_000_000_000 + Fraction(1, 2))


# --- asking ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which clients ask. `path` and `body` take the model and the prompt."""

    name: str
    dialect: str
    streams: bool
    path: Callable[[str], str]
    body: Callable[[str, str], dict[str, Any]]
    providers: tuple[str, ...] = ("openai", "anthropic", "google", "azure")
    end_mark: bytes = b""

    @property
    def is_embedding(self) -> bool:
        return "embed" in self.name


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _contents(prompt: str) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": [{"text": prompt}]}]


def _to(path: str) -> Callable[[str], str]:
    return lambda model: path.format(model=model)


def _chat(model: str, prompt: str) -> dict[str, Any]:
    return {"model": model, "messages": _messages(prompt), "max_completion_tokens": 400}


def _message(model: str, prompt: str) -> dict[str, Any]:
    return {"model": model, "max_tokens": 400, "messages": _messages(prompt)}


def _generate(_: str, prompt: str) -> dict[str, Any]:
    return {"contents": _contents(prompt), "generationConfig": {"maxOutputTokens": 400}}


_AZURE: Final = "/openai/deployments/{model}/chat/completions?api-version=2024-10-21"
_GOOGLE: Final = "/google/v1beta/models/{model}:"
_DONE: Final = b"data: [DONE]"
_STREAM: Final = {"stream": True}

FORMS: Final[Mapping[str, Form]] = {
    form.name: form
    for form in (
        Form("chat", "openai", False, _to("/openai/v1/chat/completions"), _chat),
        Form(
            "chat stream", "openai", True, _to("/v1/chat/completions"), lambda m, p: _chat(m, p) | _STREAM,
            end_mark=_DONE,
        ),
        Form("responses", "openai", False, _to("/openai/v1/responses"), lambda m, p: {"model": m, "input": p}),
        Form(
            "responses stream", "openai", True, _to("/openai/v1/responses"),
            lambda m, p: {"model": m, "input": p, **_STREAM}, end_mark=b"response.completed",
        ),
        Form(
            "completions", "openai", False, _to("/openai/v1/completions"),
            lambda m, p: {"model": m, "prompt": p, "max_tokens": 400}, providers=("openai",),
        ),
        Form(
            "completions stream", "openai", True, _to("/openai/v1/completions"),
            lambda m, p: {"model": m, "prompt": p, "max_tokens": 400, **_STREAM}, providers=("openai",),
            end_mark=_DONE,
        ),
        Form(
            "embeddings", "openai", False, _to("/openai/v1/embeddings"),
            lambda m, p: {"model": m, "input": p, "dimensions": 8}, providers=("openai",),
        ),
        Form("messages", "anthropic", False, _to("/anthropic/v1/messages"), _message),
        Form(
            "messages stream", "anthropic", True, _to("/v1/messages"), lambda m, p: _message(m, p) | _STREAM,
            end_mark=b"message_stop",
        ),
        Form("generate", "google", False, _to(_GOOGLE + "generateContent"), _generate),
        Form(
            "generate stream", "google", True, _to(_GOOGLE + "streamGenerateContent?alt=sse"), _generate,
            end_mark=b"finishReason",
        ),
        Form(
            "generate array", "google", True, _to(_GOOGLE + "streamGenerateContent"), _generate,
            end_mark=b"finishReason",
        ),
        Form(
            "embed", "google", False, _to(_GOOGLE + "embedContent"),
            lambda _, p: {"content": {"parts": [{"text": p}]}, "outputDimensionality": 8}, providers=("google",),
        ),
        Form("azure", "azure", False, _to(_AZURE), lambda _, p: {"messages": _messages(p), "max_tokens": 400}),
        Form(
            "azure stream", "azure", True, _to(_AZURE),
            lambda _, p: {"messages": _messages(p), "max_tokens": 400, **_STREAM}, end_mark=_DONE,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Got:
    """An answer as it came over a connection of its own."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def interaction(self) -> str:
        return self.headers["x-trueport-interaction"]

    @property
    def code(self) -> str:
        """The machine code of a refusal, wherever the dialect puts it; empty for an answer that is none."""
        if self.status < 400:
            return ""
        error = json.loads(self.body)["error"]
        reasons = [detail["reason"].lower() for detail in error.get("details", ()) if "reason" in detail]
        return str(error.get("code") if isinstance(error.get("code"), str) else (reasons or [error.get("type")])[0])


def request_of(
    form: Form, model: str, prompt: str, key: str, headers: Mapping[str, str] | None = None, **members: Any
) -> bytes:
    """The HTTP request of one call, on a connection that closes behind it."""
    return raw_request(form.path(model), {**form.body(model, prompt), **members}, key, headers)


def raw_request(path: str, body: object, key: str, headers: Mapping[str, str] | None = None) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "connection: close", f"content-length: {len(data)}"]
    given = {"content-type": "application/json", "authorization": f"Bearer {key}", **(headers or {})}
    lines += [f"{name}: {value}" for name, value in given.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


async def sent(port: int, request: bytes) -> Got:
    """What the server answers, read until it ends the connection."""
    received = bytearray()
    async with asyncio.timeout(PATIENCE_S), connected(port) as (reader, writer):
        writer.write(request)
        while data := await reader.read(65536):
            received += data
    raw = RawReply(bytes(received), was_reset=False)
    pairs = (line.partition(":") for line in raw.head.decode("latin-1").split("\r\n")[1:])
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = raw.unchunked() if headers.get("transfer-encoding") == "chunked" else raw.body
    return Got(raw.status, headers, body)


async def ask(
    place: Installation, form: str, prompt: str, key: str, *, model: str | None = None,
    headers: Mapping[str, str] | None = None, **members: Any,
) -> Got:  # fmt: skip
    """One call in this form, at the provider of its own dialect unless another model is named."""
    chosen = FORMS[form]
    name = model or MODELS[chosen.dialect]
    return await sent(place.port, request_of(chosen, name, prompt, key, headers, **members))


# --- tenants -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Access:
    """A tenant's keys by name; each has an id and its text."""

    tenant_id: str
    slug: str
    keys: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.keys["main"][1]


def furnish(
    place: Installation,
    tenants: Mapping[str, Mapping[str, Any]],
    keys: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Access]:
    """Make these tenants, each configured with accounts at the simulator, routes, and its own members of the file.

    keys: options of the keys each tenant gets; one called "main", without limits, always.
    """
    settings = load_settings(place.environment)
    wanted_keys: Mapping[str, Mapping[str, Any]] = {"main": {}, **(keys or {})}

    async def work(resources: Resources) -> dict[str, Access]:
        owner = await create_user(
            resources,
            NewUser(
                email="owner@money.example", password="correct horse battery staple", first_name="", last_name="",
                is_platform_admin=True,
            ),
        )  # fmt: skip
        found, deeds = {}, operator_deeds(resources)
        for slug, members in tenants.items():
            tenant = await create_tenant(resources, UserId(owner.id), slug, slug, deeds)
            await _apply(place, resources, slug, members)
            made = {}
            for name, options in wanted_keys.items():
                given = {"name": name, "env": "prod", "requests_per_minute": 0, **options}
                key = await create_key(resources, operator_scope(tenant), KeyOptions(**given), UserId(owner.id), deeds)
                made[name] = (str(key.stored.id), key.text)
            found[slug] = Access(str(tenant.id), slug, made)
        return found

    return with_resources(settings, work)


def reconfigure(place: Installation, slug: str, members: Mapping[str, Any]) -> None:
    """Make the tenant's configuration what these members say, beside accounts and routes."""
    with_resources(load_settings(place.environment), lambda resources: _apply(place, resources, slug, members))


async def _apply(place: Installation, resources: Resources, slug: str, members: Mapping[str, Any]) -> None:
    document = {"version": 1, "credentials": credentials(place), "routes": list(ROUTES), **members}
    wanted = read_tenant_file(json.dumps(document))
    egress = egress_policy(resources.settings)
    check_tenant_file(wanted, PROVIDER_NAMES, egress)
    service = await configuration_of(resources, await tenant_named(resources, slug))
    secrets = read_secrets(wanted, place.environment)
    await service.apply(
        wanted, secrets, changed_by="test", providers=PROVIDER_NAMES, egress=egress, deeds=operator_deeds(resources)
    )


# --- books -------------------------------------------------------------------------------------------------


async def rows_of(place: Installation, interactions: Iterable[str]) -> dict[str, Row]:
    """The rows of these interactions by id, once all of them have ended there."""
    wanted = set(interactions)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            documents = await asyncio.to_thread(place.documents, "interactions")
            found: dict[str, Row] = {
                row["_id"]: row for row in documents if row["_id"] in wanted and row["end"] != "in_progress"
            }
            if found.keys() == wanted:
                return found
            await asyncio.sleep(0.2)


async def row_of(place: Installation, interaction: str) -> Row:
    return (await rows_of(place, [interaction]))[interaction]


def billed(place: Installation, key: str = "interaction") -> dict[str, Row]:
    """The provider's entries by interaction."""
    return {entry[key]: entry for entry in ledger(place.simulator)}


def calls_upstream(place: Installation) -> int:
    return len(ledger(place.simulator))
