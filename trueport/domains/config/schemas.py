"""The bodies of this domain's HTTP surface."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from trueport.detection.policy import PolicyDocument
from trueport.detection.policy.decision import Action, Mode, UnscannableKind
from trueport.detection.policy.documents import (
    Band,
    Condition,
    Keyword,
    Name,
    Names,
    OnFailure,
    Placeholder,
    Topic,
    When,
)
from trueport.detection.types import Category, Side
from trueport.domains.config.policies import PolicyVersion, StoredPolicy

Environments = list[Literal["prod", "staging", "dev"]]


class ChangePolicy(msgspec.Struct, forbid_unknown_fields=True):
    """What is absent stays as it is."""

    name: Name | UnsetType = UNSET
    when: Condition | UnsetType = UNSET
    action: Action | UnsetType = UNSET
    on: Annotated[list[Side], Meta(min_length=1, max_length=2)] | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=-1_000, le=1_000)] | UnsetType = UNSET
    environments: Environments | UnsetType = UNSET
    keys: Names | UnsetType = UNSET
    models: Names | UnsetType = UNSET
    providers: Names | UnsetType = UNSET
    users: Names | UnsetType = UNSET
    on_failure: OnFailure | UnsetType = UNSET
    timeout_ms: Annotated[int, Meta(ge=10, le=60_000)] | UnsetType = UNSET
    placeholder: Placeholder | UnsetType = UNSET
    scan: When | UnsetType = UNSET

    def changes(self) -> dict[str, Any]:  # values of several types, by member
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: msgspec.to_builtins(value) for name, value in values.items() if value is not UNSET}


class ChangeCondition(msgspec.Struct, forbid_unknown_fields=True):
    """What is absent stays as the preset has it."""

    category: Category | list[Category] | UnsetType = UNSET
    types: Annotated[list[str], Meta(max_length=200)] | UnsetType = UNSET
    countries: Annotated[list[str], Meta(max_length=50)] | UnsetType = UNSET
    min_score: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    band: Band | UnsetType = UNSET
    regex: str | UnsetType = UNSET
    keywords: Annotated[list[Keyword], Meta(max_length=2_000)] | UnsetType = UNSET
    topics: Annotated[list[Topic], Meta(max_length=20)] | UnsetType = UNSET
    unscannable: bool | list[UnscannableKind] | UnsetType = UNSET


class FromPreset(ChangePolicy, forbid_unknown_fields=True):
    """Members that come before the preset's own; of `when` each counts by itself. `name` is what they are called by."""

    when: ChangeCondition | UnsetType = UNSET  # type: ignore[assignment]  # each member may be absent


class PolicyShown(msgspec.Struct, kw_only=True):
    """One policy. `version` counts its changes, from 1."""

    id: str
    version: int
    name: str
    on: list[Side]
    when: Condition
    action: Action
    mode: Mode
    priority: int
    environments: Environments
    keys: list[str]
    models: list[str]
    providers: list[str]
    users: list[str]
    on_failure: OnFailure
    timeout_ms: int
    placeholder: Placeholder
    scan: When


class PresetShown(msgspec.Struct):
    """A named set of policies to begin with, as they are without changes."""

    name: str
    description: str
    policies: list[dict[str, Any]]


class PresetTaken(msgspec.Struct):
    """The policies that a preset has become; `id` is its name."""

    id: str
    policies: list[PolicyShown]


class VersionShown(msgspec.Struct, kw_only=True):
    """One version of all policies, and what was done to which of them, by name."""

    version: int
    created_at: datetime
    changed_by: str
    count: int
    added: list[str]
    changed: list[str]
    removed: list[str]


class WholeVersionShown(VersionShown, kw_only=True):
    """A version with the policies it has."""

    policies: list[PolicyShown]


def show_version(version: PolicyVersion) -> VersionShown:
    return VersionShown(**_version_members(version))


def show_whole_version(version: PolicyVersion) -> WholeVersionShown:
    return WholeVersionShown(**_version_members(version), policies=[show_policy(one) for one in version.policies])


def _version_members(version: PolicyVersion) -> dict[str, Any]:  # values of several types, by member
    return {
        "version": version.version,
        "created_at": version.created_at,
        "changed_by": version.changed_by,
        "count": len(version.policies),
        "added": list(version.added),
        "changed": list(version.changed),
        "removed": list(version.removed),
    }


def show_policy(policy: StoredPolicy) -> PolicyShown:
    members = {name: getattr(policy.document, name) for name in PolicyDocument.__struct_fields__}
    return PolicyShown(id=policy.id, version=policy.version, **members)
