"""The providers there are: those built in, in one visible table, and those that other packages bring."""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Final

from yarl import URL

from trueport.gateway.call import Wire
from trueport.gateway.egress import EgressPolicy
from trueport.gateway.providers.anthropic import AnthropicProvider
from trueport.gateway.providers.azure import AzureProvider
from trueport.gateway.providers.base import Provider
from trueport.gateway.providers.compatible import CompatibleProvider
from trueport.gateway.providers.google import GoogleProvider
from trueport.gateway.providers.openai import OpenAIProvider
from trueport.gateway.providers.tokens import TokenSource
from trueport.gateway.upstream import Upstream
from trueport.kit.clock import Clock

ENTRY_POINTS: Final = "trueport.providers"

WIRE_OF: Final[Mapping[str, Wire]] = {
    "openai": "openai",
    "openai_compatible": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "azure": "openai",
    "simulator": "openai",
}
PROVIDER_NAMES: Final = tuple(WIRE_OF)

# Hosts that only the vendor itself answers at, an asterisk for any run of letters, digits, dashes and dots. What a
# customer can put in front (a gateway product, a model server) is not among them.
DEFAULT_HOSTS: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("api.openai.com", "*.api.openai.com"),
    "anthropic": ("api.anthropic.com",),
    "google": ("generativelanguage.googleapis.com", "aiplatform.googleapis.com", "*-aiplatform.googleapis.com"),
    "azure": (
        *("*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com"),
        *("*.openai.azure.us", "*.openai.azure.cn"),
    ),
}

Factory = Callable[[Upstream, Clock], Provider]
"""What an entry point names: makes the provider once, when the process starts."""


class ProviderNameTaken(ValueError):
    """Two providers have the same name; which one a credential means is not to be guessed."""


def providers(upstream: Upstream, clock: Clock, policy: EgressPolicy | None = None) -> dict[str, Provider]:
    """Every provider by name.

    `policy` says which token endpoints beyond the vendors' own are listed. Raises ProviderNameTaken.
    """
    policy = policy or EgressPolicy()
    tokens = TokenSource(upstream, clock)
    made: list[Provider] = [
        OpenAIProvider(),
        CompatibleProvider(),
        AnthropicProvider(),
        GoogleProvider(tokens, clock, policy),
        AzureProvider(tokens, policy),
        # Speaks OpenAI's wire at whatever address it was started on.
        OpenAIProvider("simulator"),
    ]
    for entry in entry_points(group=ENTRY_POINTS):
        factory: Factory = entry.load()
        made.append(factory(upstream, clock))
    return _by_name(made)


def _by_name(made: list[Provider]) -> dict[str, Provider]:
    found: dict[str, Provider] = {}
    for provider in made:
        if provider.name in found:
            raise ProviderNameTaken(f"two providers are called {provider.name!r}: {', '.join(sorted(found))}")
        found[provider.name] = provider
    return found


def is_vendors_own(provider: str, base_url: URL) -> bool:
    """Whether nobody but the vendor answers at `base_url`, so that its faults say something about all its customers."""
    if base_url.scheme != "https" or base_url.port != 443:
        return False
    host = base_url.host or ""
    return any(_is_like(host, pattern) for pattern in DEFAULT_HOSTS.get(provider, ()))


def _is_like(host: str, pattern: str) -> bool:
    if not pattern.startswith("*"):
        return host == pattern
    return host.endswith(pattern[1:]) and len(host) >= len(pattern)
