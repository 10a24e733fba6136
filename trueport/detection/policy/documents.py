"""A policy as somebody writes it: its members, and everything that can be wrong with them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import re2

from trueport.detection.policy.decision import Action, Mode, UnscannableKind
from trueport.detection.types import Category, Side

_LONGEST_EXPRESSION: Final = 1_000
_EXPRESSION_MEMORY_BYTES: Final = 1 << 20
_TYPE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Keyword = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Names = Annotated[list[Name], msgspec.Meta(max_length=200)]
OnFailure = Literal["block", "rules_only", "allow"]
Placeholder = Literal["typed", "reversible"]


class Condition(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a policy looks for: findings of categories, a tenant's own expressions, or content that cannot be read.

    `types` narrows the categories to some of their types, `min_score` to findings at least that certain.
    """

    category: Category | list[Category] | None = None
    types: Annotated[list[str], msgspec.Meta(max_length=200)] = []
    min_score: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    regex: str | None = None
    keywords: Annotated[list[Keyword], msgspec.Meta(max_length=2_000)] = []
    unscannable: bool | list[UnscannableKind] = False

    @property
    def categories(self) -> frozenset[Category]:
        if self.category is None:
            return frozenset()
        return frozenset(self.category if isinstance(self.category, list) else [self.category])

    @property
    def has_expressions(self) -> bool:
        return self.regex is not None or bool(self.keywords)


class PolicyDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One policy. Empty lists of environments, keys, models (patterns), providers and users do not narrow it.

    `on_failure` says what a detector that gave no answer means: the call is blocked; it passes if at least the rules
    were read; it passes. `timeout_ms` is how long the detectors may take.
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


def problems_of(policies: Sequence[Mapping[str, Any]]) -> list[str]:
    """Everything that keeps these policies from being applied, each problem with the policy it is about."""
    problems = []
    for number, members in enumerate(policies, start=1):
        name = members.get("name")
        title = f"policies {number}" + (f" ({name!r})" if isinstance(name, str) else "")
        try:
            read_policy(members)
        except ValueError as error:
            problems.append(f"{title}: {error}.")
    names = Counter(name for members in policies if isinstance(name := members.get("name"), str))
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
    kinds = [bool(when.categories), when.has_expressions, bool(when.unscannable)]
    if sum(kinds) != 1:
        return "when takes one of: category; regex or keywords or both; unscannable"
    if when.types and not when.categories:
        return "when: types narrow a category; name one"
    wrong = [each for each in when.types if _TYPE.fullmatch(each) is None]
    if wrong:
        return f"when: the type {wrong[0]!r} is not one: types are written like EMAIL"
    if "custom" in when.categories:
        return "when: the category custom is what regex and keywords find; give those"
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
