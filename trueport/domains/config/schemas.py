"""The bodies of this domain's HTTP surface."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from trueport.detection.policy import PolicyDocument
from trueport.detection.policy.decision import Action, Mode
from trueport.detection.policy.documents import Condition, Name, Names, OnFailure, Placeholder
from trueport.detection.types import Side
from trueport.domains.config.policies import StoredPolicy

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

    def changes(self) -> dict[str, Any]:  # values of several types, by member
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: msgspec.to_builtins(value) for name, value in values.items() if value is not UNSET}


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


def show_policy(policy: StoredPolicy) -> PolicyShown:
    members = {name: getattr(policy.document, name) for name in PolicyDocument.__struct_fields__}
    return PolicyShown(id=policy.id, version=policy.version, **members)
