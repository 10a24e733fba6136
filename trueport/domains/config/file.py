"""A tenant's configuration as a YAML file: read, checked as a whole, written."""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import yaml
from yaml.composer import ComposerError

from trueport.detection.policy import problems_of
from trueport.gateway.egress import EgressPolicy, UrlRefused, parse_upstream_url
from trueport.gateway.limits.base import MOST_BUDGET_NANO_USD
from trueport.gateway.pricing import load_price_book
from trueport.gateway.providers.compatible import QUIRK_NAMES
from trueport.kit.errors import InvalidRequest
from trueport.kit.money import nano_usd, usd
from trueport.kit.secret import Secret

_LONGEST_FILE: Final = 1 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
DIALECTS: Final = ("openai", "anthropic", "google", "azure")


class SecretSource(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Where a secret is read from when the file is applied: exactly one of the two."""

    env: str | None = None
    file: str | None = None

    @property
    def text(self) -> str:
        return f"env:{self.env}" if self.env else f"file:{self.file}"


class CredentialSpec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An account at a provider."""

    provider: str
    base_url: str
    secret: SecretSource | None = None
    region: str | None = None
    deployments: dict[str, str] = {}
    api_version: str | None = None
    quirks: list[str] = []


class TargetSpec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One way to serve a route.

    Targets are tried in their order. Neighbours that both state a `weight` share one place in it; `priority`, stated
    by all targets of a route or by none, says the places itself.
    """

    credential: str
    model: str | None = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] | None = None
    weight: Annotated[int, msgspec.Meta(ge=1, le=1_000)] | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=1_000)] | None = None
    retries: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0


class MatchSpec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which requests a route takes."""

    model: str | None = None
    dialect: str | None = None


class RouteSpec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A route. `choose` says how targets of one priority share calls; `cache_s` how long an answer may be repeated."""

    match: MatchSpec
    targets: Annotated[list[TargetSpec], msgspec.Meta(min_length=1, max_length=32)]
    choose: Literal["weight", "latency"] = "weight"
    cache_s: Annotated[int, msgspec.Meta(ge=0, le=2_592_000)] = 0


class BoundsSpec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Bounds on one user tag or one model; 0 is off."""

    requests_per_minute: Count = 0
    tokens_per_minute: Count = 0
    concurrency: Count = 0


class LimitsSpec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Bounds on all keys of the tenant together, on each user tag, and on models by pattern; 0 is off."""

    requests_per_minute: Count = 0
    tokens_per_minute: Count = 0
    concurrency: Count = 0
    per_user: BoundsSpec = msgspec.field(default_factory=BoundsSpec)
    models: dict[str, BoundsSpec] = {}


class BudgetSpec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How much may be spent in a calendar day or month (UTC). `limit_usd` is decimal text: no float rounds it."""

    period: Literal["day", "month"]
    limit_usd: str
    name: str | None = None
    action: Literal["block", "alert"] = "block"
    alert_at: Annotated[list[Annotated[float, msgspec.Meta(gt=0, le=10)]], msgspec.Meta(max_length=16)] = []
    per: Literal["tenant", "key", "user", "model"] = "tenant"
    key: str | None = None
    user: str | None = None
    model: str | None = None

    @property
    def title(self) -> str:
        """Its name, or one made of what it says."""
        narrowed = [part for part in (self.key, self.user, self.model) if part is not None]
        return self.name or " ".join((self.period, "per", self.per, *narrowed))


class TenantFile(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The whole file."""

    version: int
    tenant: str | None = None
    credentials: dict[str, CredentialSpec] = {}
    aliases: dict[str, str] = {}
    routes: Annotated[list[RouteSpec], msgspec.Meta(max_length=1_000)] = []
    regions: list[str] = []
    limits: LimitsSpec = msgspec.field(default_factory=LimitsSpec)
    policies: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=500)] = []
    budgets: Annotated[list[BudgetSpec], msgspec.Meta(max_length=200)] = []
    prices: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=1_000)] = []
    moderations: Literal["provider", "local"] = "provider"


_BOOL: Final = "tag:yaml.org,2002:bool"


class _PlainLoader(yaml.SafeLoader):
    """YAML without anchors, aliases, tags and repeated names: a few lines of the first unfold into more than fits into
    memory, and of two entries with one name the first would vanish unseen. Of YAML 1.1's words for true and false
    only these two: a policy has a member `on`, and NO is a country."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the member of the base class
        letter: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL or letter in "tTfF"]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # untyped in the stubs
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None or getattr(event, "tag", None) is not None:
            raise ComposerError(None, None, "anchors, aliases and tags are not read", event.start_mark)
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ComposerError(None, None, f"the name {key.value!r} is there twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return node


class InvalidConfiguration(InvalidRequest):
    """The file cannot be applied. Every problem found is in `errors`; nothing was changed."""

    code = "invalid_configuration"
    status = 422

    def __init__(self, problems: list[str]) -> None:
        super().__init__(
            "The configuration cannot be applied: " + " ".join(f"({n}) {p}" for n, p in enumerate(problems, start=1)),
            errors=[{"field": "", "message": problem} for problem in problems],
        )
        self.problems = problems


def read_tenant_file(text: str) -> TenantFile:
    """The file's content. Raises InvalidConfiguration when it is not YAML of the right form."""
    if len(text) > _LONGEST_FILE:
        raise InvalidConfiguration(["The file is larger than 1 MiB."])
    try:
        document = _plain(text)
    except ComposerError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidConfiguration([f"The file cannot be read (line {line}): {error.problem}."]) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise InvalidConfiguration([f"The file is not YAML{where}."]) from error
    except ValueError as error:
        raise InvalidConfiguration(["The file holds a date or number that does not exist."]) from error
    except RecursionError as error:
        raise InvalidConfiguration(["The file is nested too deeply."]) from error
    try:
        return msgspec.convert(document, TenantFile)
    except msgspec.ValidationError as error:
        raise InvalidConfiguration([f"{error}."]) from error


def read_policy_list(text: str) -> list[dict[str, Any]]:
    """The policies in a tenant's file, in another YAML or JSON object with `policies`, or in a list of their own.

    They are not checked. Raises ValueError that says what is wrong.
    """
    try:
        found = _plain(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("this is neither YAML nor JSON") from error
    listed = found.get("policies") if isinstance(found, dict) else found
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ValueError("there is no list `policies` in it")
    return listed


def _plain(text: str) -> object:
    loader = _PlainLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def has_topics(file: TenantFile) -> bool:
    """Whether one of its policies is about topics, which not every detection engine can tell."""
    conditions = (policy.get("when") for policy in file.policies)
    return any(isinstance(when, dict) and "topics" in when for when in conditions)


def check_tenant_file(
    file: TenantFile, providers: Collection[str], egress: EgressPolicy, *, tells_topics: bool = True
) -> None:
    """Raise InvalidConfiguration with everything that keeps the file from being applied.

    tells_topics: whether the detection engine at work can.
    """
    problems = []
    if file.version != 1:
        problems.append(f"version {file.version} is not known; this server reads version 1.")
    for name, credential in file.credentials.items():
        problems += _credential_problems(name, credential, providers, egress)
    for number, route in enumerate(file.routes, start=1):
        problems += _route_problems(number, route, file.credentials)
    problems += _alias_problems(file.aliases)
    problems += _budget_problems(file.budgets)
    problems += _price_problems(file.prices)
    problems += problems_of(file.policies, tells_topics=tells_topics)
    if problems:
        raise InvalidConfiguration(problems)


def _route_problems(number: int, route: RouteSpec, credentials: Collection[str]) -> list[str]:
    problems = [
        f"route {number} names the credential {target.credential!r}, which the file does not define."
        for target in route.targets
        if target.credential not in credentials
    ]
    if route.match.dialect is not None and route.match.dialect not in DIALECTS:
        problems.append(f"route {number}: dialect {route.match.dialect!r} is not one of {', '.join(DIALECTS)}.")
    if len({target.priority is None for target in route.targets}) > 1:
        problems.append(f"route {number}: give a priority to all of its targets or to none.")
    return problems


def _alias_problems(aliases: Mapping[str, str]) -> list[str]:
    return [
        f"alias {alias!r} stands for {model!r}, which is an alias itself: name the model."
        for alias, model in aliases.items()
        if model in aliases
    ]


def _budget_problems(budgets: Sequence[BudgetSpec]) -> list[str]:
    problems = []
    for number, budget in enumerate(budgets, start=1):
        try:
            limit_nano_usd = nano_usd(budget.limit_usd)
        except ValueError:
            problems.append(f"budget {number}: limit_usd {budget.limit_usd!r} is not an amount such as '500.00'.")
            continue
        if not 0 < limit_nano_usd <= MOST_BUDGET_NANO_USD:
            problems.append(f"budget {number}: limit_usd must be above 0 and at most {usd(MOST_BUDGET_NANO_USD)}.")
    titles = [budget.title for budget in budgets]
    problems += [
        f"two budgets are called {title!r}: give them names."
        for title in sorted(set(titles))
        if titles.count(title) > 1
    ]
    return problems


def _price_problems(prices: Sequence[Mapping[str, Any]]) -> list[str]:
    try:
        load_price_book().with_overrides(prices)
    except ValueError as error:
        return [f"prices: {error}."]
    return []


def _credential_problems(
    name: str, credential: CredentialSpec, providers: Collection[str], egress: EgressPolicy
) -> list[str]:
    problems = []
    if _NAME.fullmatch(name) is None:
        problems.append(f"credential {name!r}: a name has up to 64 letters, digits, dots, dashes or underscores.")
    if credential.provider not in providers:
        problems.append(
            f"credential {name}: provider {credential.provider!r} is not available; known: {', '.join(providers)}."
        )
    problems += [
        f"credential {name}: quirk {quirk!r} is not known; known: {', '.join(sorted(QUIRK_NAMES))}."
        for quirk in credential.quirks
        if quirk not in QUIRK_NAMES
    ]
    try:
        parse_upstream_url(credential.base_url, egress)
    except UrlRefused as error:
        problems.append(
            f"credential {name}: {error.message} An address that is not public has to be listed in "
            "TRUEPORT_EGRESS_ALLOW."
        )
    if credential.secret is not None and (credential.secret.env is None) == (credential.secret.file is None):
        problems.append(f"credential {name}: secret takes either env or file.")
    return problems


def read_secrets(
    file: TenantFile, environ: Mapping[str, str] = os.environ, read: Callable[[Path], str] = Path.read_text
) -> dict[str, Secret]:
    """The secret of each credential that names one, from where it says. Raises InvalidConfiguration."""
    found, problems = {}, []
    for name, credential in file.credentials.items():
        source = credential.secret
        if source is None:
            continue
        try:
            text = environ[source.env] if source.env is not None else read(Path(source.file or ""))
        except KeyError:
            problems.append(f"credential {name}: the environment variable {source.env} is not set.")
            continue
        except (OSError, ValueError):
            problems.append(f"credential {name}: the file {source.file} cannot be read.")
            continue
        text = _one_line(text.strip())
        if not text or not text.isascii() or not text.isprintable():
            problems.append(f"credential {name}: its secret is empty or holds characters that no header carries.")
        found[name] = Secret(text)
    if problems:
        raise InvalidConfiguration(problems)
    return found


def _one_line(text: str) -> str:
    """A secret that is a JSON object (a service account's key, as the vendor's console gives it) without its layout."""
    if not text.startswith("{"):
        return text
    try:
        return msgspec.json.encode(msgspec.json.decode(text)).decode()
    except msgspec.DecodeError:
        return text


def write_tenant_file(file: TenantFile) -> str:
    """The file as YAML."""
    return yaml.safe_dump(msgspec.to_builtins(file), sort_keys=False, allow_unicode=True)
