"""The policies of a tenant: part of its configuration, changed one by one or by its file."""

from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec

from trueport.detection.policy import (
    Bands,
    PolicyDocument,
    PolicySet,
    UnknownPreset,
    Vector,
    compile_policy,
    preset_named,
    problems_of,
    read_policy,
    unfold,
)
from trueport.detection.policy.documents import NO_TOPICS
from trueport.domains.config.models import Configuration
from trueport.domains.config.repository import ConfigurationRepository
from trueport.kit.clock import Clock
from trueport.kit.errors import InvalidRequest, NotFound, TrueportError
from trueport.kit.ids import new_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.mongo import Database, Duplicate
from trueport.storage.revisions import bump_revision
from trueport.storage.scoped import StaleRevision
from trueport.web.deeds import Deeds, Thing, differences

MOST_POLICIES: Final = 500
_TRIES: Final = 5
_OBJECT_KINDS: Final = {
    "policy_created": "policy", "policy_changed": "policy", "policy_deleted": "policy", "preset_taken": "preset",
    "version_restored": "policy_version",
}  # fmt: skip
_HIGHEST: Final = 1 << 31  # of a version; what is beyond never was one, and no store takes it


class InvalidPolicy(InvalidRequest):
    """The policy cannot be applied; nothing was changed."""

    code = "invalid_policy"
    status = 422

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(" ".join(problems), errors=[{"field": "", "message": problem} for problem in problems])


class PolicyChanged(TrueportError):
    """It is not the version that `If-Match` names."""

    code = "precondition_failed"
    status = 412

    def __init__(self) -> None:
        super().__init__("The policy was changed in the meantime: load it again.")


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
    for members in unfold(documents):
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


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """All policies as one change left them; what it did to which, by name, beside the version before."""

    version: int
    created_at: datetime
    changed_by: str
    policies: tuple[StoredPolicy, ...]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


def policy_version_of(configuration: Configuration, before: Configuration | None) -> PolicyVersion:
    """The version that a configuration brought, next to the one `before` it."""
    policies = stored_policies(configuration)
    known = {policy.id: policy for policy in stored_policies(before)}
    left = {policy.id for policy in policies}
    return PolicyVersion(
        version=configuration.policy_version,
        created_at=configuration.created_at,
        changed_by=configuration.changed_by,
        policies=tuple(policies),
        added=tuple(one.document.name for one in policies if one.id not in known),
        changed=tuple(one.document.name for one in policies if one.id in known and one != known[one.id]),
        removed=tuple(one.document.name for one in known.values() if one.id not in left),
    )


def topic_problems(policies: Sequence[PolicyDocument]) -> list[str]:
    """What keeps these policies from being applied where the engine tells no topics."""
    return [f"{document.name!r}: {NO_TOPICS}." for document in policies if document.when.topics]


def topic_examples(configuration: Configuration | None) -> list[str]:
    """Every example of every topic."""
    return [
        example
        for policy in stored_policies(configuration)
        for topic in policy.document.when.topics
        for example in topic.examples
    ]


def policy_set(
    configuration: Configuration | None, *, bands: Bands | None = None, vectors: Mapping[str, Vector] | None = None
) -> PolicySet | None:
    """The policies as the gateway asks them, None where there are none."""
    found = stored_policies(configuration)
    if configuration is None or not found:
        return None
    compiled = tuple(
        compile_policy(policy.id, policy.version, policy.document, bands=bands, vectors=vectors) for policy in found
    )
    return PolicySet(compiled, configuration.policy_version)


class Policies:
    """The policies of one tenant. Each change is a new version of its configuration.

    `tells_topics` says whether the engine at work can.
    """

    def __init__(
        self,
        database: Database,
        scope: TenantScope,
        clock: Clock,
        tells_topics: Callable[[], Awaitable[bool]],
        deeds: Deeds,
    ) -> None:
        self._deeds = deeds
        self._tells_topics = tells_topics
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
        await self._change(lambda policies: [*policies, policy], by, "policy_created", policy.id)
        return policy

    async def create_from(self, preset: str, changes: Mapping[str, Any], by: str) -> list[StoredPolicy]:
        """The policies of a preset with changes. Raises InvalidPolicy, NotFound when there is no such preset."""
        try:
            entries = preset_named(preset).unfolded(changes)
        except UnknownPreset as error:
            raise NotFound(f"There is no such preset: {error}.") from error
        problems = problems_of(entries)
        if problems:
            raise InvalidPolicy(problems)
        made = [StoredPolicy(new_id("pol"), 1, read_policy(members)) for members in entries]
        await self._change(lambda policies: [*policies, *made], by, "preset_taken", preset)
        return made

    async def change(
        self, policy_id: str, changes: Mapping[str, Any], by: str, expected: Container[int] | None = None
    ) -> StoredPolicy:
        """Replace some members of a policy, if its version is among `expected`.

        Raises NotFound, InvalidPolicy, PolicyChanged.
        """
        return await self._put(policy_id, lambda before: {**msgspec.to_builtins(before), **changes}, by, expected)

    async def put(
        self, policy_id: str, document: PolicyDocument, by: str, expected: Container[int] | None = None
    ) -> StoredPolicy:
        """Make a policy this one, if its version is among `expected`. Raises as `change` does."""
        members = msgspec.to_builtins(document)
        return await self._put(policy_id, lambda _: members, by, expected)

    async def _put(
        self,
        policy_id: str,
        members: Callable[[PolicyDocument], Mapping[str, Any]],
        by: str,
        expected: Container[int] | None,
    ) -> StoredPolicy:
        def changed(policies: list[StoredPolicy]) -> list[StoredPolicy]:
            before = _named(policies, policy_id, expected)
            try:
                document = read_policy(members(before.document))
            except ValueError as error:
                raise InvalidPolicy([f"{error}."]) from error
            after = StoredPolicy(before.id, before.version + (document != before.document), document)
            return [after if policy.id == policy_id else policy for policy in policies]

        return _named(await self._change(changed, by, "policy_changed", policy_id), policy_id)

    async def delete(self, policy_id: str, by: str, expected: Container[int] | None = None) -> None:
        """Raises NotFound, PolicyChanged."""

        def without(policies: list[StoredPolicy]) -> list[StoredPolicy]:
            gone = _named(policies, policy_id, expected)
            return [policy for policy in policies if policy is not gone]

        await self._change(without, by, "policy_deleted", policy_id)

    async def versions(self, limit: int, before: int | None = None) -> list[PolicyVersion]:
        """The last versions of all policies, newest first: at most `limit`, those below `before`."""
        current = await self._configurations.current()
        newest = current.policy_version if current else 0
        newest = newest if before is None else min(newest, before - 1)
        found = []
        after: Configuration | None = None
        # One more, to tell what the oldest of them changed.
        for number in range(newest, max(newest - limit, 0) - 1, -1):
            one = await self._configurations.first_with_policies(number)
            if after is not None:
                found.append(policy_version_of(after, one))
            after = one
        return found

    async def version(self, number: int) -> PolicyVersion:
        """Raises NotFound."""
        is_one = 0 < number <= _HIGHEST
        found = await self._configurations.first_with_policies(number) if is_one else None
        if found is None:
            raise NotFound("There is no such version of the policies.")
        return policy_version_of(found, await self._configurations.first_with_policies(number - 1))

    async def restore(self, number: int, by: str) -> PolicyVersion:
        """Make the policies what they were in a version, which makes a new one unless they are that already.

        Raises NotFound, InvalidPolicy.
        """
        wanted = (await self.version(number)).policies
        latest = {policy.id: await self._latest(policy) for policy in wanted}

        def restored(policies: list[StoredPolicy]) -> list[StoredPolicy]:
            now = {policy.id: policy for policy in policies}
            return [_again(policy, now.get(policy.id), latest[policy.id]) for policy in wanted]

        await self._change(restored, by, "version_restored", str(number))
        current = await self._configurations.current()
        return await self.version(current.policy_version if current else 0)

    async def _latest(self, policy: StoredPolicy) -> int:
        """The highest version that the policy ever had."""
        last = await self._configurations.last_with_policy(policy.id)
        return max((one.version for one in stored_policies(last) if one.id == policy.id), default=policy.version)

    async def _topic_problems(self, policies: Sequence[StoredPolicy], current: Configuration | None) -> list[str]:
        known = stored_policies(current)
        # One that was there before the engine lost its model is not in the way of what is changed beside it.
        problems = topic_problems([policy.document for policy in policies if policy not in known])
        return problems if problems and not await self._tells_topics() else []

    async def _change(
        self, change: Callable[[list[StoredPolicy]], list[StoredPolicy]], by: str, action: str, object_id: str
    ) -> list[StoredPolicy]:
        """The policies after `change`, which is made again to what others left when they were quicker."""
        for _ in range(_TRIES):
            current = await self._configurations.current()
            policies = change(stored_policies(current))
            problems = problems_of([policy.members()["document"] for policy in policies])
            if len(policies) > MOST_POLICIES:
                problems.append(f"A tenant has at most {MOST_POLICIES} policies.")
            problems += await self._topic_problems(policies, current)
            if problems:
                raise InvalidPolicy(problems)
            if next_policy_version(policies, current) == (current.policy_version if current else 0):
                return policies
            thing = Thing(_OBJECT_KINDS[action], object_id, *_told(stored_policies(current), policies))
            try:
                async with self._deeds.doing(self._scope.tenant_id, "policy", action, thing):
                    await self._configurations.insert(self._next(current, policies, by))
                    await bump_revision(self._database, self._scope.tenant_id)
            except Duplicate:
                continue
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


def _told(before: Sequence[StoredPolicy], after: Sequence[StoredPolicy]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a record says of a change: of the policies that differ, by id, the members that do."""
    was = {policy.id: policy for policy in before}
    now = {policy.id: policy for policy in after}
    told: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for policy_id in {**was, **now}:
        earlier, later = was.get(policy_id), now.get(policy_id)
        if earlier != later:
            states = differences(_members(earlier), _members(later))
            for side, state in zip(told, states, strict=True):
                if state is not None:
                    side[policy_id] = state
    return told


def _members(policy: StoredPolicy | None) -> dict[str, Any] | None:
    """Of several types, by member, as the API shows them."""
    return None if policy is None else {"version": policy.version, **policy.members()["document"]}


def _again(wanted: StoredPolicy, now: StoredPolicy | None, latest: int) -> StoredPolicy:
    """A policy with the content it had: as it is where it has it, else with a version that it never had."""
    if now is not None and now.document == wanted.document:
        return now
    return replace(wanted, version=max(latest, now.version if now else 0) + 1)


def _named(policies: Sequence[StoredPolicy], policy_id: str, expected: Container[int] | None = None) -> StoredPolicy:
    """Raises NotFound, and PolicyChanged when its version is not among `expected`."""
    for policy in policies:
        if policy.id == policy_id:
            if expected is not None and policy.version not in expected:
                raise PolicyChanged
            return policy
    raise NotFound("There is no such policy.")
