"""A tenant's configuration, compiled and frozen: what the hot path reads instead of a database."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate

from yarl import URL

from trueport.kit.crypto import DataKey
from trueport.kit.ids import CredentialId, TenantId
from trueport.kit.secret import Secret


@dataclass(frozen=True, slots=True)
class Credential:
    """A tenant's account at a provider, its secret decrypted. `base_url` has passed the egress policy once."""

    id: CredentialId
    name: str
    provider: str
    base_url: URL
    secret: Secret | None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One way to serve a model. `model` replaces the requested one; None keeps it."""

    credential: Credential
    model: str | None = None
    timeout_s: float | None = None
    weight: int = 1

    @property
    def id(self) -> str:
        return f"{self.credential.name}/{self.model or '*'}"


@dataclass(frozen=True, slots=True)
class Route:
    """Targets in the order to try them, for requests of a dialect (None: any) and a model pattern (None: any)."""

    targets: tuple[Target, ...]
    model_glob: str | None = None
    dialect: str | None = None

    def matches(self, dialect: str, model: str | None) -> bool:
        if self.dialect is not None and self.dialect != dialect:
            return False
        return self.model_glob is None or (model is not None and ModelPattern.of(self.model_glob).matches(model))


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """Bounds on all keys of a tenant together; 0 is off."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrency: int = 0


@dataclass(frozen=True, slots=True)
class TenantSnapshot:
    """Everything a call needs to know about its tenant. `revision` grows with each change."""

    tenant_id: TenantId
    slug: str
    revision: int
    routes: tuple[Route, ...]
    credentials: Mapping[str, Credential]
    limits: TenantLimits
    content_key: DataKey
    policy_version: int = 0


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
