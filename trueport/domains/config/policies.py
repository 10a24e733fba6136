"""The policies of a tenant: part of its configuration, changed one by one or by its file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from trueport.detection.policy import PolicyDocument, PolicySet, compile_policy, problems_of, read_policy
from trueport.domains.config.models import Configuration
from trueport.domains.config.repository import ConfigurationRepository
from trueport.kit.clock import Clock
from trueport.kit.errors import InvalidRequest, NotFound
from trueport.kit.ids import new_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database, Duplicate
from trueport.storage.revisions import bump_revision
from trueport.storage.scoped import StaleRevision

MOST_POLICIES: Final = 500
_TRIES: Final = 5


class InvalidPolicy(InvalidRequest):
    """The policy cannot be applied; nothing was changed."""

    code = "invalid_policy"
    status = 422

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(" ".join(problems), errors=[{"field": "", "message": problem} for problem in problems])


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy, what it is called by, and how often it has been changed, from 1."""

    id: str
    version: int
    document: PolicyDocument

    def members(self) -> dict[str, Any]:
        """As Configuration keeps it."""
        return {"id": self.id, "version": self.version, "document": msgspec.to_builtins(self.document)}


def stored_policies(configuration: Configuration | None) -> list[StoredPolicy]:
    """The policies of a configuration, in the order of the file they came from."""
    entries = configuration.policies if configuration else []
    return [StoredPolicy(entry["id"], entry["version"], read_policy(entry["document"])) for entry in entries]


def with_policies(documents: Sequence[Mapping[str, Any]], current: Configuration | None) -> list[StoredPolicy]:
    """The policies of a file after those in force: one of the same name is the same policy, changed or not."""
    known = {policy.document.name: policy for policy in stored_policies(current)}
    found = []
    for members in documents:
        document = read_policy(members)
        before = known.get(document.name)
        if before is None:
            found.append(StoredPolicy(new_id("pol"), 1, document))
        else:
            is_same = before.document == document
            found.append(before if is_same else StoredPolicy(before.id, before.version + 1, document))
    return found


def next_policy_version(policies: Sequence[StoredPolicy], current: Configuration | None) -> int:
    """The version of all policies together, one more where anything about them has changed."""
    before = current.policy_version if current else 0
    return before if list(policies) == stored_policies(current) else before + 1


def policy_set(configuration: Configuration | None) -> PolicySet | None:
    """The policies as the gateway asks them, None where there are none."""
    found = stored_policies(configuration)
    if configuration is None or not found:
        return None
    compiled = tuple(compile_policy(policy.id, policy.version, policy.document) for policy in found)
    return PolicySet(compiled, configuration.policy_version)


class Policies:
    """The policies of one tenant. Each change is a new version of its configuration."""

    def __init__(self, database: Database, scope: TenantScope, clock: Clock) -> None:
        self._database = database
        self._scope = scope
        self._clock = clock
        self._configurations = ConfigurationRepository(database, scope)

    async def all(self) -> list[StoredPolicy]:
        return stored_policies(await self._configurations.current())

    async def get(self, policy_id: str) -> StoredPolicy:
        """Raises NotFound."""
        return _named(await self.all(), policy_id)

    async def create(self, document: PolicyDocument, by: str) -> StoredPolicy:
        """Raises InvalidPolicy."""
        policy = StoredPolicy(new_id("pol"), 1, document)
        await self._change(lambda policies: [*policies, policy], by)
        return policy

    async def change(self, policy_id: str, changes: Mapping[str, Any], by: str) -> StoredPolicy:
        """Replace some members of a policy. Raises NotFound, InvalidPolicy."""

        def changed(policies: list[StoredPolicy]) -> list[StoredPolicy]:
            before = _named(policies, policy_id)
            try:
                document = read_policy({**msgspec.to_builtins(before.document), **changes})
            except ValueError as error:
                raise InvalidPolicy([f"{error}."]) from error
            after = StoredPolicy(before.id, before.version + (document != before.document), document)
            return [after if policy.id == policy_id else policy for policy in policies]

        return _named(await self._change(changed, by), policy_id)

    async def delete(self, policy_id: str, by: str) -> None:
        """Raises NotFound."""

        def without(policies: list[StoredPolicy]) -> list[StoredPolicy]:
            gone = _named(policies, policy_id)
            return [policy for policy in policies if policy is not gone]

        await self._change(without, by)

    async def _change(self, change: Callable[[list[StoredPolicy]], list[StoredPolicy]], by: str) -> list[StoredPolicy]:
        """The policies after `change`, which is made again to what others left when they were quicker."""
        for _ in range(_TRIES):
            current = await self._configurations.current()
            policies = change(stored_policies(current))
            problems = problems_of([policy.members()["document"] for policy in policies])
            if len(policies) > MOST_POLICIES:
                problems.append(f"A tenant has at most {MOST_POLICIES} policies.")
            if problems:
                raise InvalidPolicy(problems)
            if next_policy_version(policies, current) == (current.policy_version if current else 0):
                return policies
            try:
                await self._configurations.insert(self._next(current, policies, by))
            except Duplicate:
                continue
            await bump_revision(self._database, self._scope.tenant_id)
            return policies
        raise StaleRevision

    def _next(self, current: Configuration | None, policies: list[StoredPolicy], by: str) -> Configuration:
        changed: dict[str, Any] = {
            "id": new_id("cfg"),
            "tenant_id": self._scope.tenant_id,
            "version": current.version + 1 if current else 1,
            "policies": [policy.members() for policy in policies],
            "policy_version": next_policy_version(policies, current),
            "changed_by": by,
            "created_at": self._clock.now(),
            "revision": 0,
        }
        return current.model_copy(update=changed) if current else Configuration(**changed)


def _named(policies: Sequence[StoredPolicy], policy_id: str) -> StoredPolicy:
    for policy in policies:
        if policy.id == policy_id:
            return policy
    raise NotFound("There is no such policy.")
