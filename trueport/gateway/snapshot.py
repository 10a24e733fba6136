"""A tenant's configuration, compiled and frozen: what the hot path reads instead of a database."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from typing import TYPE_CHECKING, Literal

from yarl import URL

from trueport.kit.ids import CredentialId, TenantId
from trueport.kit.secret import Secret

if TYPE_CHECKING:
    from trueport.detection.policy import PolicySet
    from trueport.gateway.pricing import PriceBook


@dataclass(frozen=True, slots=True)
class Credential:
    """A tenant's account at a provider, its secret decrypted. `base_url` has passed the egress policy once.

    `deployments` maps model names to an Azure account's deployments, `api_version` is the one it is called with.
    `quirks` name the ways in which an OpenAI-shaped provider differs (providers/compatible.py).
    """

    id: CredentialId
    name: str
    provider: str
    base_url: URL
    secret: Secret | None
    region: str | None = None
    deployments: Mapping[str, str] = field(default_factory=dict)
    api_version: str | None = None
    quirks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Target:
    """One way to serve a model. `model` replaces the requested one; None keeps it.

    Targets of one `priority` share its calls by `weight`, or the fastest gets them (`by_latency`). `retries` is how
    often the same target is tried again.
    """

    credential: Credential
    model: str | None = None
    timeout_s: float | None = None
    weight: int = 1
    priority: int = 0
    by_latency: bool = False
    retries: int = 0

    @property
    def id(self) -> str:
        return f"{self.credential.name}/{self.model or '*'}"


@dataclass(frozen=True, slots=True)
class Route:
    """Targets for requests of a dialect (None: any) and a model pattern (None: any).

    `cache_s`: how long an answer may be given again to the same request; 0 never.
    """

    targets: tuple[Target, ...]
    model_glob: str | None = None
    dialect: str | None = None
    cache_s: int = 0

    def matches(self, dialect: str, model: str | None) -> bool:
        if self.dialect is not None and self.dialect != dialect:
            return False
        return self.model_glob is None or (model is not None and ModelPattern.of(self.model_glob).matches(model))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Calls and tokens for a minute, calls at the same time; 0 is off."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrency: int = 0

    @property
    def are_on(self) -> bool:
        return bool(self.requests_per_minute or self.tokens_per_minute or self.concurrency)


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """Bounds on a tenant: on all its keys together, on each user tag, and on each model by pattern."""

    tenant: Bounds = Bounds()
    user: Bounds = Bounds()
    models: tuple[tuple[str, Bounds], ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """How much may be spent in a day or a month (UTC), by the whole tenant or by each key, user tag or model of it.

    `key`, `user` and `model` (a pattern) narrow the rule to some calls; None is all.
    """

    name: str
    period: Literal["day", "month"]
    limit_nano_usd: int
    blocks: bool = True
    alert_at: tuple[float, ...] = ()
    per: Literal["tenant", "key", "user", "model"] = "tenant"
    key: str | None = None
    user: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class TenantSnapshot:
    """Everything a call needs to know about its tenant. `revision` grows with each change.

    `policies` None is without any; `aliases` are model names that stand for others; `regions` those the tenant's data
    may go to, empty for all; `prices` the book with the tenant's own prices before everybody's, None without any.
    `moderates_itself`: the moderation operation is answered by our own detectors and asks no provider.
    """

    tenant_id: TenantId
    slug: str
    revision: int
    routes: tuple[Route, ...]
    credentials: Mapping[str, Credential]
    limits: TenantLimits
    policy_version: int = 0
    policies: "PolicySet | None" = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    regions: frozenset[str] = frozenset()
    budgets: tuple[BudgetRule, ...] = ()
    prices: "PriceBook | None" = None
    moderates_itself: bool = False


_patterns: dict[str, "ModelPattern"] = {}


@dataclass(frozen=True, slots=True)
class ModelPattern:
    """A glob over model names, as in `gpt-4o*`; upper and lower case are told apart."""

    expression: re.Pattern[str]

    @classmethod
    def of(cls, glob: str) -> "ModelPattern":
        """The compiled pattern. Globs come from configuration, so the table of them stays small."""
        found = _patterns.get(glob)
        if found is None:
            if len(_patterns) > 10_000:
                _patterns.clear()
            found = _patterns[glob] = cls(re.compile(translate(glob)))
        return found

    def matches(self, model: str) -> bool:
        return self.expression.match(model) is not None
