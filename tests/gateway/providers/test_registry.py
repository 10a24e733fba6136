"""Which providers there are, and which addresses are their vendors' own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from yarl import URL

from tests.support.providers import account, asking
from trueport.gateway.egress import Egress, EgressPolicy
from trueport.gateway.providers import registry
from trueport.gateway.providers.openai import OpenAIProvider
from trueport.gateway.providers.registry import (
    DEFAULT_HOSTS,
    PROVIDER_NAMES,
    WIRE_OF,
    ProviderNameTaken,
    is_vendors_own,
    providers,
)
from trueport.gateway.upstream import Upstream
from trueport.kit.clock import Clock, ManualClock


def made() -> dict[str, Any]:
    return dict(providers(Upstream(Egress(EgressPolicy())), ManualClock()))


def test_the_table_names_every_provider_with_its_wire() -> None:
    assert {name: provider.wire for name, provider in made().items()} == dict(WIRE_OF)
    assert set(PROVIDER_NAMES) >= set(DEFAULT_HOSTS)


@dataclass
class Entry:
    """An entry point whose factory makes a provider called `name`."""

    name: str

    def load(self) -> Callable[[Upstream, Clock], OpenAIProvider]:
        def factory(upstream: Upstream, clock: Clock) -> OpenAIProvider:
            return OpenAIProvider(self.name)

        return factory


def bring(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let another package bring a provider of this name."""

    def entry_points(*, group: str) -> list[Entry]:
        return [Entry(name)] if group == "trueport.providers" else []

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_another_package_can_bring_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, "echo")

    assert made()["echo"].name == "echo"


def test_two_providers_of_one_name_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, "azure")

    with pytest.raises(ProviderNameTaken, match=r"'azure'.*anthropic, azure, google"):
        made()


@pytest.mark.parametrize(
    ("provider", "base_url"),
    [
        ("openai", "https://api.openai.com/v1"),
        ("openai", "https://eu.api.openai.com/v1"),
        ("anthropic", "https://api.anthropic.com"),
        ("google", "https://generativelanguage.googleapis.com"),
        ("google", "https://aiplatform.googleapis.com/v1"),
        ("google", "https://eu-aiplatform.googleapis.com/v1/projects/p/locations/eu/publishers/google"),
        ("azure", "https://acme.openai.azure.com"),
        ("azure", "https://acme.cognitiveservices.azure.com/openai/v1"),
        ("azure", "https://acme.services.ai.azure.com"),
    ],
)
def test_a_vendors_own_address(provider: str, base_url: str) -> None:
    assert is_vendors_own(provider, URL(base_url))


@pytest.mark.parametrize(
    ("provider", "base_url"),
    [
        ("openai", "https://api.openai.com.evil.example/v1"),
        ("openai", "https://evil-api.openai.com/v1"),
        ("openai", "http://api.openai.com/v1"),
        ("openai", "https://api.openai.com:8443/v1"),
        ("openai", "https://api.anthropic.com"),
        ("anthropic", "https://x.api.anthropic.com"),
        ("google", "https://-aiplatform.googleapis.com.evil.example"),
        ("google", "https://storage.googleapis.com"),
        ("azure", "https://openai.azure.com"),
        ("azure", "https://evilopenai.azure.com"),
        ("azure", "https://acme.azure-api.net"),
        ("openai_compatible", "https://api.mistral.ai/v1"),
        ("simulator", "https://api.openai.com/v1"),
        ("unheard", "https://api.openai.com/v1"),
    ],
)
def test_an_address_that_others_can_answer_at(provider: str, base_url: str) -> None:
    assert not is_vendors_own(provider, URL(base_url))


@pytest.mark.parametrize(
    ("provider", "headers"),
    [
        ("openai", (("authorization", "Bearer sk-1"),)),
        ("openai_compatible", (("authorization", "Bearer sk-1"),)),
        ("simulator", (("authorization", "Bearer sk-1"),)),
        ("anthropic", (("x-api-key", "sk-1"),)),
        ("google", (("x-goog-api-key", "sk-1"),)),
        ("azure", (("api-key", "sk-1"),)),
    ],
)
async def test_each_provider_takes_a_key_in_its_own_header(provider: str, headers: tuple[tuple[str, str], ...]) -> None:
    asked = made()[provider]

    assert await asked.headers(account("https://h.example.org", "sk-1"), asking()) == headers
    assert await asked.headers(account("https://h.example.org", None), asking()) == ()


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_provider_that_differs_in_nothing_changes_nothing(provider: str) -> None:
    asked, request = made()[provider], asking(body=b'{"model":"m"}')

    assert asked.adapted(account("https://h.example.org"), request) is request
    asked.refused(account("https://h.example.org"))
