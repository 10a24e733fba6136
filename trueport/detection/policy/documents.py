"""A policy as somebody writes it: its members, and everything that can be wrong with them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import re2

from trueport.detection.countries import COUNTRIES
from trueport.detection.policy.decision import Action, Mode, UnscannableKind
from trueport.detection.policy.presets import UnknownPreset, unfolded
from trueport.detection.types import Category, Side

_LONGEST_EXPRESSION: Final = 1_000
_EXPRESSION_MEMORY_BYTES: Final = 1 << 20
_TYPE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")

DEFAULT_MIN_SCORE: Final = 0.5
NO_TOPICS: Final = (
    "topics need a detection engine with a model, and this server reads with rules alone: set TRUEPORT_DETECTION_URL "
    "to onnx:"
)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Keyword = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Names = Annotated[list[Name], msgspec.Meta(max_length=200)]
OnFailure = Literal["block", "rules_only", "allow"]
Placeholder = Literal["typed", "reversible"]
When = Literal["during", "after"]
Band = Literal["flag", "block"]
Example = Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]


class Topic(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a text is about, shown by texts that are. Without a `threshold` the examples themselves give one."""

    name: Annotated[str, msgspec.Meta(pattern="^[A-Za-z][A-Za-z0-9 _-]{0,39}\\Z")]
    examples: Annotated[list[Example], msgspec.Meta(min_length=5, max_length=20)]
    threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None

    @property
    def type(self) -> str:
        """As findings carry it, such as TOPIC_LEGAL_ADVICE."""
        return "TOPIC_" + re.sub("[ -]", "_", self.name).upper()


class Condition(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a policy looks for: findings of categories, a tenant's own expressions, topics, or content that cannot be
    read.

    `types` narrows the categories to some of their types, `countries` (ISO 3166) what belongs to a country to these
    countries. `min_score` is how certain a finding has to be, or `band` by name, which each model has its own number
    for.
    """

    category: Category | list[Category] | None = None
    types: Annotated[list[str], msgspec.Meta(max_length=200)] = []
    countries: Annotated[list[str], msgspec.Meta(max_length=50)] = []
    min_score: Annotated[float, msgspec.Meta(ge=0, le=1)] = DEFAULT_MIN_SCORE
    band: Band | None = None
    regex: str | None = None
    keywords: Annotated[list[Keyword], msgspec.Meta(max_length=2_000)] = []
    topics: Annotated[list[Topic], msgspec.Meta(max_length=20)] = []
    unscannable: bool | list[UnscannableKind] = False

    @property
    def categories(self) -> frozenset[Category]:
        """What detectors have to look for; `custom` is where they give the embedding that topics are told by."""
        if self.category is None:
            return frozenset({"custom"}) if self.topics else frozenset()
        return frozenset(self.category if isinstance(self.category, list) else [self.category])

    @property
    def has_expressions(self) -> bool:
        return self.regex is not None or bool(self.keywords)


class PolicyDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One policy. Empty lists of environments, keys, models (patterns), providers and users do not narrow it.

    `on_failure` says what a detector that gave no answer means: the call is blocked; it passes if at least the rules
    were read; it passes. `timeout_ms` is how long the detectors may take. `scan: after` has the recorded content read
    once the call is over, which it then neither delays nor changes.
    """

    name: Name
    when: Condition
    action: Action
    on: Annotated[list[Side], msgspec.Meta(min_length=1, max_length=2)] = msgspec.field(
        default_factory=lambda: ["input", "output"]
    )
    mode: Mode = "enforce"
    priority: Annotated[int, msgspec.Meta(ge=-1_000, le=1_000)] = 0
    environments: list[Literal["prod", "staging", "dev"]] = []
    keys: Names = []
    models: Names = []
    providers: Names = []
    users: Names = []
    on_failure: OnFailure = "block"
    timeout_ms: Annotated[int, msgspec.Meta(ge=10, le=60_000)] = 2_000
    placeholder: Placeholder = "typed"
    scan: When = "during"


def read_policy(members: Mapping[str, Any]) -> PolicyDocument:
    """The policy of these plain members. Raises ValueError that says what is wrong, in the words of the document."""
    try:
        document = msgspec.convert(members, PolicyDocument)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("`$", "`policy")) from error
    problem = _problem(document)
    if problem is not None:
        raise ValueError(problem)
    return document


def problems_of(policies: Sequence[Mapping[str, Any]], *, tells_topics: bool = True) -> list[str]:
    """Everything that keeps these policies from being applied, each problem with the policy it is about.

    An entry may name a preset instead of being a policy. tells_topics: whether the engine that will ask them can.
    """
    problems = []
    names: Counter[str] = Counter()
    for number, entry in enumerate(policies, start=1):
        try:
            found = unfolded(entry)
        except UnknownPreset as error:
            problems.append(f"policies {number}: {error}.")
            continue
        for members in found:
            name = members.get("name")
            title = f"policies {number}" + (f" ({name!r})" if isinstance(name, str) else "")
            names.update([name] if isinstance(name, str) else [])
            try:
                document = read_policy(members)
            except ValueError as error:
                problems.append(f"{title}: {error}.")
                continue
            if document.when.topics and not tells_topics:
                problems.append(f"{title}: {NO_TOPICS}.")
    problems += [
        f"two policies are called {name!r}: give them names of their own." for name in names if names[name] > 1
    ]
    return problems


def compile_expression(expression: str) -> "re2._Regexp[str]":
    """The expression, which takes time linear in the text. Raises ValueError."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _EXPRESSION_MEMORY_BYTES
    try:
        compiled = re2.compile(expression, options)
    except re2.error as error:
        raise ValueError("regex is not an RE2 expression, or too large: look-around and back references do not exist "
                         "there (https://github.com/google/re2/wiki/Syntax)") from error  # fmt: skip
    if compiled.search("") is not None:
        raise ValueError("regex matches the empty text, and so every text")
    return compiled


def _problem(document: PolicyDocument) -> str | None:  # noqa: PLR0911 - a table of cases
    when = document.when
    problem = _problem_of_kind(when) or _problem_of_narrowing(when) or _problem_of_topics(document)
    if problem is not None:
        return problem
    if document.scan == "after" and document.action != "flag":
        return "what is read after the call can only be flagged: it has happened"
    if when.unscannable and document.action == "redact":
        return "content that cannot be read cannot be redacted: use block, flag or allow"
    if document.placeholder == "reversible" and (document.action != "redact" or "input" not in document.on):
        return "a reversible placeholder is for a policy that redacts input"
    if when.regex is not None:
        if len(when.regex) > _LONGEST_EXPRESSION:
            return f"when: regex is longer than {_LONGEST_EXPRESSION} characters"
        try:
            compile_expression(when.regex)
        except ValueError as error:
            return f"when: {error}"
    return None


def _problem_of_kind(when: Condition) -> str | None:
    kinds = [when.category is not None, when.has_expressions, bool(when.topics), bool(when.unscannable)]
    if sum(kinds) != 1 or when.category == []:
        return "when takes one of: category; regex or keywords or both; topics; unscannable"
    if when.category is not None and "custom" in when.categories:
        return "when: the category custom is what regex and keywords find, and topics; give those"
    return None


def _problem_of_narrowing(when: Condition) -> str | None:
    if when.types and when.category is None:
        return "when: types narrow a category; name one"
    if when.countries and when.category is None:
        return "when: countries narrow a category; name one"
    wrong = [each for each in when.types if _TYPE.fullmatch(each) is None]
    if wrong:
        return f"when: the type {wrong[0]!r} is not one: types are written like EMAIL"
    foreign = [each for each in when.countries if each.upper() not in COUNTRIES]
    if foreign:
        return f"when: the country {foreign[0]!r} has no rules of its own; known are {', '.join(sorted(COUNTRIES))}"
    if when.band is not None and (when.category is None or when.min_score != DEFAULT_MIN_SCORE):
        return "when: band takes the place of min_score, for a category"
    return None


def _problem_of_topics(document: PolicyDocument) -> str | None:
    topics = document.when.topics
    if topics and document.action == "redact":
        return "a topic is what a whole text is about: use block, flag or allow"
    if len({topic.type for topic in topics}) < len(topics):
        return "when: two topics have the same name"
    if any(len(set(topic.examples)) < len(topic.examples) for topic in topics):
        return "when: a topic has an example twice"
    return None
