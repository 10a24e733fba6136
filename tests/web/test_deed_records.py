"""Every route that changes something leaves a record before it does, and none that a record cannot be written for does.

The table names a request for each changing route. A new route without an entry fails the first test.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.analytics import Trail as Writer
from tests.support.web import PASSWORD, House, bearer, open_house, problem, settings_of
from tests.web.test_access_matrix import Route, routes_of
from trueport.audit.canonical import canonical
from trueport.audit.journal import SpoolUnavailable
from trueport.audit.records import DeedKind
from trueport.detection.types import Side
from trueport.domains.analytics.api import ContentViewer, MongoSink, Said
from trueport.domains.analytics.models import RETENTION, Violation
from trueport.domains.analytics.projection import violation_documents
from trueport.domains.auth.accounts import NewUser, create_user
from trueport.domains.auth.models import ApiKey, Tenant, User
from trueport.kit.ids import new_id
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import open_store
from trueport.storage.mongo import Database, Document
from trueport.storage.tripwire import PLATFORM_MARK
from trueport.web.trail import Trail

GLOBAL: Final = "/platform/api/global"
SERVICE: Final = "/platform/api/service"
API: Final = "/trueportai-services/api/v1"
CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
NEW_PASSWORD: Final = "quite another horse battery"
POLICY: Final = {"name": "no keys", "when": {"category": "secrets"}, "action": "block"}
# Nobody listens there.
PUSH: Final = {"name": "mine", "url": "http://127.0.0.1:8099/"}
FOLDER: Final = {"provider": "folder", "prefix": "ours"}
DECISION: Final = {
    "side": "input", "policy_id": "pol_1", "policy": "p", "policy_version": 1, "action": "redact", "mode": "enforce",
    "path": "m", "category": "pii", "type": "EMAIL", "start": 1, "end": 2, "score_bp": 9_700, "threshold_bp": 5_000,
    "detector": "patterns", "model": "patterns-00",
}  # fmt: skip
# These change nothing: registering is nobody's tenant's yet, and refreshing a token goes on with a session.
UNRECORDED: Final = {
    f"POST {GLOBAL}/auth/register",
    f"POST {GLOBAL}/auth/refresh",
    # Changes nothing; what opens recorded content for it leaves a record when it does.
    f"POST {API}/policies/replays",
}


class DeadTrail(Trail):
    """A journal whose disk is full."""

    def __init__(self) -> None:
        """Opens nothing."""

    async def record(self, tenant_id: str, kind: DeedKind, fields: Mapping[str, object]) -> str:  # noqa: ARG002
        raise SpoolUnavailable

    def add(self, tenant_id: str, kind: DeedKind, fields: Mapping[str, object]) -> None:  # noqa: ARG002
        raise SpoolUnavailable


class NobodySpoke:
    """Recorded content in which nothing was said."""

    async def texts(self, scope: TenantScope, outcome: Mapping[str, Any], side: Side) -> Sequence[Said]:  # noqa: ARG002
        return ()


@dataclass
class Town:
    """A tenant with an owner who signs in with a password, and whatever a request is made on."""

    house: House
    owner: User
    tenant: Tenant
    shown: list[str] = field(default_factory=list)

    async def headers(self, *, scoped: bool = True) -> dict[str, str]:
        made = await (self.house.as_member(self.owner, self.tenant) if scoped else self.house.as_person(self.owner))
        self.shown.append(made["authorization"].removeprefix("Bearer "))
        return made

    async def sent(self, method: str, path: str, body: object = None, **options: Any) -> dict[str, Any]:
        """A preparing request of the owner, which has to succeed."""
        answer = await self.house.client.request(method, path, json=body, headers=await self.headers(**options))
        assert answer.status_code < 300, answer.text
        return dict(answer.json()) if answer.content else {}

    async def key(self) -> str:
        return str((await self.sent("POST", f"{API}/keys", {"name": "canary"}))["id"])

    async def policy(self) -> str:
        return str((await self.sent("POST", f"{API}/policies", {**POLICY, "name": new_id("pol")}))["id"])

    async def member(self) -> str:
        joined = await self.house.join(self.tenant, "viewer")
        listed = await self.sent("GET", f"{SERVICE}/members")
        return next(str(each["id"]) for each in listed["data"] if each["user_id"] == joined.id)

    async def push(self) -> str:
        return str((await self.sent("POST", f"{API}/audit/pushes", PUSH))["id"])

    async def archive(self) -> str:
        await self.sent("PUT", f"{API}/audit/archive", FOLDER)
        return ""

    async def hold(self) -> str:
        return str((await self.sent("POST", f"{API}/audit/holds", {"reason": "case 17"}))["id"])

    async def interaction(self) -> str:
        self.house.resources.parts[ContentViewer] = NobodySpoke()
        _, outcome = Writer().call(self.tenant.id, self.house.clock.now())
        settings = self.house.resources.settings
        sink = MongoSink(self.house.resources.database, open_store(settings.storage_url, settings.data_dir))
        await sink.store([outcome])
        return str(outcome.record["rid"])

    async def violation(self) -> str:
        _, outcome = Writer().call(self.tenant.id, self.house.clock.now(), decisions=[DECISION])
        found = list(violation_documents(outcome.record, RETENTION))
        await self.house.resources.database[+Violation].insert_many(found)
        return str(found[0]["_id"])


@dataclass(frozen=True)
class Deed:
    """How a route is called, and what that leaves. `on` makes the thing it is done to."""

    kind: DeedKind
    action: str
    body: object = None
    on: Callable[[Town], Awaitable[str]] | None = None
    scoped: bool = True
    is_public: bool = False
    may_fail: bool = False


def deeds() -> dict[str, Deed]:
    keys, policies, members = f"{API}/keys", f"{API}/policies", f"{SERVICE}/members"
    person = {"email": "bea@people.example", "role": "viewer"}
    login = {"email": "olga@acme.example", "password": PASSWORD}
    passwords = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    period = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "reason": "a court asked"}
    return {
        f"POST {GLOBAL}/auth/login": Deed("auth", "signed_in", login, is_public=True),
        f"POST {GLOBAL}/auth/logout": Deed("auth", "signed_out", scoped=False),
        f"POST {GLOBAL}/auth/password/change": Deed("auth", "password_changed", passwords, scoped=False),
        f"POST {GLOBAL}/auth/select-tenant": Deed("auth", "tenant_entered", scoped=False),
        f"POST {GLOBAL}/tenants": Deed("admin", "tenant_created", {"name": "New", "slug": "new-one"}, scoped=False),
        f"POST {SERVICE}/switch-environment": Deed("auth", "tenant_entered", {"env": "dev"}),
        f"POST {members}": Deed("admin", "member_added", person),
        f"PATCH {members}/{{member_id:str}}": Deed("admin", "member_role_changed", {"role": "member"}, Town.member),
        f"DELETE {members}/{{member_id:str}}": Deed("admin", "member_removed", on=Town.member),
        f"POST {keys}": Deed("admin", "key_created", {"name": "ci", "allowed_models": ["gpt-*"]}),
        f"PATCH {keys}/{{key_id:str}}": Deed("admin", "key_changed", {"name": "other"}, Town.key),
        f"DELETE {keys}/{{key_id:str}}": Deed("admin", "key_deleted", on=Town.key),
        f"POST {keys}/{{key_id:str}}/disable": Deed("admin", "key_disabled", on=Town.key),
        f"POST {keys}/{{key_id:str}}/enable": Deed("admin", "key_enabled", on=Town.key),
        f"POST {keys}/{{key_id:str}}/rotate": Deed("admin", "key_rotated", {"overlap_s": 60}, Town.key),
        f"POST {policies}": Deed("policy", "policy_created", POLICY),
        f"PATCH {policies}/{{policy_id:str}}": Deed("policy", "policy_changed", {"priority": 7}, Town.policy),
        f"PUT {policies}/{{policy_id:str}}": Deed(
            "policy", "policy_changed", {**POLICY, "name": "replaced", "priority": 3}, Town.policy
        ),
        f"DELETE {policies}/{{policy_id:str}}": Deed("policy", "policy_deleted", on=Town.policy),
        f"POST {policies}/presets/{{preset:str}}": Deed("policy", "preset_taken", {}, _preset),
        f"POST {policies}/versions/{{version:str}}/restore": Deed("policy", "version_restored", on=_older_version),
        f"PATCH {API}/analytics/violations/{{violation_id:str}}": Deed(
            "admin", "case_changed", {"status": "confirmed", "note": "canary: what was said"}, Town.violation
        ),
        f"PUT {API}/audit/retention": Deed("admin", "retention_changed", {"calls_days": 500, "deeds_days": 800}),
        f"PUT {API}/audit/archive": Deed("admin", "archive_chosen", FOLDER),
        f"DELETE {API}/audit/archive": Deed("admin", "archive_left", on=Town.archive),
        f"POST {API}/audit/archive/test": Deed("admin", "archive_tested", on=Town.archive),
        f"POST {API}/audit/pushes": Deed("admin", "push_created", PUSH),
        f"DELETE {API}/audit/pushes/{{push_id:str}}": Deed("admin", "push_deleted", on=Town.push),
        f"POST {API}/analytics/logs/{{interaction_id:str}}/reveal": Deed(
            "access", "content_revealed", {"reason": "case 17"}, Town.interaction
        ),
        f"POST {API}/audit/holds": Deed("hold", "create", {"reason": "case 17"}),
        f"POST {API}/audit/holds/{{hold_id:str}}/release": Deed("hold", "ask_release", on=Town.hold),
        f"POST {API}/subjects/erasures": Deed("erasure", "erase", {"user": "ada", "legal_basis": "GDPR"}),
        f"POST {API}/audit/exports": Deed("export", "export.create", period, may_fail=True),
        f"POST {API}/audit/evidence": Deed(
            "export", "export.create", {**period, "framework": "iso-42001"}, may_fail=True
        ),
    }


async def _preset(town: Town) -> str:
    return str((await town.sent("GET", f"{API}/policies/presets"))["data"][0]["name"])


async def _older_version(town: Town) -> str:
    policy_id = await town.policy()
    await town.sent("PATCH", f"{API}/policies/{policy_id}", {"priority": 9})
    return "1"


@pytest.fixture
async def house(tmp_path: Path, database: Database) -> AsyncIterator[House]:
    """One that may send to its own machine, and archive to its own folders."""
    settings = settings_of(
        tmp_path,
        TRUEPORT_EGRESS_ALLOW="127.0.0.1/32",
        TRUEPORT_ALLOW_MUTABLE_ARCHIVE="1",
        TRUEPORT_ALLOW_FOLDER_ARCHIVES="1",
    )
    async with open_house(settings, database) as opened:
        yield opened


@pytest.fixture
async def town(house: House) -> Town:
    new = NewUser("olga@acme.example", PASSWORD, "Olga", "Owner")
    owner = await create_user(house.resources, house.tools.passwords, new)
    await house.person("bea@people.example")
    return Town(house, owner, await house.tenant(owner), [PASSWORD, NEW_PASSWORD])


def changing(house: House) -> dict[str, Route]:
    return {str(route): route for route in routes_of(house) if route.method in CHANGING}


async def ask(town: Town, name: str, deed: Deed) -> Callable[[], Awaitable[Any]]:
    """The request of a deed, with everything prepared that it needs; it leaves nothing else behind."""
    method, _, template = name.partition(" ")
    made = await deed.on(town) if deed.on is not None else ""
    path = template[: template.index("{")] + made + template[template.index("}") + 1 :] if made else template
    body = {"tenant_id": town.tenant.id} if path.endswith("select-tenant") else deed.body
    headers = {} if deed.is_public else await town.headers(scoped=deed.scoped)
    json_body = {} if body is None and method in ("POST", "PUT", "PATCH") else body
    return lambda: town.house.client.request(
        method, path, json=json_body, headers={**headers, "x-request-id": "req-from-the-test"}
    )


def test_every_changing_route_is_in_the_table(house: House) -> None:
    assert set(changing(house)) - UNRECORDED == set(deeds())


@pytest.mark.parametrize("name", deeds())
async def test_a_change_leaves_a_record_of_who_did_what_from_where(town: Town, name: str) -> None:
    deed = deeds()[name]
    send = await ask(town, name, deed)
    known = len(town.house.records())

    answer = await send()

    assert deed.may_fail or answer.status_code < 300, answer.text
    new = town.house.records()[known:]
    assert [(record["kind"], record["action"]) for record in new] == [(deed.kind, deed.action)]
    if deed.kind in ("admin", "auth", "policy"):
        assert new[0]["by"] == town.owner.id
        assert new[0]["address"] == "127.0.0.1"
        assert new[0]["request_id"] == "req-from-the-test"
        assert new[0]["object_kind"]
        assert new[0]["object_id"]
    made_elsewhere = name == f"POST {GLOBAL}/tenants"
    assert new[0]["tenant"] == (answer.json()["id"] if made_elsewhere else town.tenant.id)


@pytest.mark.parametrize("name", deeds())
async def test_what_cannot_be_recorded_is_not_done(town: Town, name: str) -> None:
    send = await ask(town, name, deeds()[name])
    town.house.resources.parts[Trail] = DeadTrail()
    before = await everything(town.house)

    answer = await send()

    problem(answer, 503, "audit_unavailable")
    assert await everything(town.house) == before


async def everything(house: House) -> dict[str, list[Document]]:
    """What the database holds, except what was only asked for: a request that waits to be recorded may be noted."""
    database = house.resources.database
    names = [name for name in await database.list_collection_names() if name != "audit_erasures"]
    return {
        name: await database[name].find({}, comment=PLATFORM_MARK).sort("_id", 1).to_list() for name in sorted(names)
    }


async def test_no_record_holds_a_secret(town: Town) -> None:
    """Whatever was shown once, typed, or is stored in its place."""
    for name, deed in deeds().items():
        if name.endswith(("password/change", "logout")):
            continue
        answer = await (await ask(town, name, deed))()
        if "json" in answer.headers.get("content-type", ""):
            shown = answer.json()
            town.shown += [shown[secret] for secret in ("key", "access_token", "refresh_token") if secret in shown]
    login = {"email": "olga@acme.example", "password": PASSWORD}
    tokens = (await town.house.client.post(f"{GLOBAL}/auth/login", json=login)).json()
    refreshed = await town.house.client.post(f"{GLOBAL}/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    reused = await town.house.client.post(f"{GLOBAL}/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert (refreshed.status_code, reused.status_code) == (200, 401)
    wrong = {**login, "password": "canary-wrong-password"}
    assert (await town.house.client.post(f"{GLOBAL}/auth/login", json=wrong)).status_code == 401
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    await town.sent("POST", f"{GLOBAL}/auth/password/change", body, scoped=False)
    await town.house.tools.later.settled()

    database = town.house.resources.database
    stored = [
        key[name]
        for key in await database[+ApiKey].find({}, comment=PLATFORM_MARK).to_list()
        for name in ("digest", "previous_digest")
    ]
    hashes = [user["password_hash"] for user in await database[+User].find({}, comment=PLATFORM_MARK).to_list()]
    planted = ["canary-wrong-password", "canary: what was said", "olga@acme.example"]
    secrets = {
        *town.shown, *filter(None, stored), *hashes, *planted, tokens["access_token"], tokens["refresh_token"],
        refreshed.json()["refresh_token"],
    } - {"none"}  # fmt: skip
    assert len(secrets) > 20
    trail = b"\n".join(map(canonical, town.house.records())).decode()
    # The search would find one: an id that is in the records is found in the same way.
    assert town.tenant.id in trail
    assert [secret for secret in secrets if secret in trail] == []


async def test_a_change_says_what_was_and_what_is_and_nothing_else(town: Town) -> None:
    key_id = await town.key()

    await town.sent("PATCH", f"{API}/keys/{key_id}", {"name": "renamed", "expires_at": "2030-01-01T00:00:00Z"})

    record = town.house.records(town.tenant.id)[-1]
    assert record["object_id"] == key_id
    assert record["before"] == {"name": "canary", "expires_at": None}
    assert record["after"] == {"name": "renamed", "expires_at": "2030-01-01T00:00:00.000Z"}


async def test_policies_are_recorded_with_their_fractions_as_text(town: Town) -> None:
    policy_id = await town.policy()
    condition = {"category": "prompt_injection", "min_score": 0.25}

    await town.sent("PATCH", f"{API}/policies/{policy_id}", {"when": condition})

    record = town.house.records(town.tenant.id)[-1]
    assert record["after"][policy_id]["when"]["min_score"] == "0.25"
    assert record["before"][policy_id]["version"] == 1
    assert record["after"][policy_id]["version"] == 2
    assert "name" not in record["after"][policy_id]


async def test_a_change_that_fails_says_so_and_names_the_record_before_it(town: Town) -> None:
    listed = await town.sent("GET", f"{SERVICE}/members")
    own_id = next(each["id"] for each in listed["data"] if each["user_id"] == town.owner.id)

    answer = await town.house.client.delete(f"{SERVICE}/members/{own_id}", headers=await town.headers())

    problem(answer, 409, "last_owner")
    asked, failed = town.house.records(town.tenant.id)[-2:]
    assert (asked["action"], failed["action"]) == ("member_removed", "member_removed")
    assert "result" not in asked
    assert (failed["result"], failed["error"]) == ("failed", "last_owner")
    assert failed["of"] == f"{asked['rid']}#admin"


async def test_what_was_refused_before_it_was_tried_leaves_nothing(town: Town) -> None:
    known = town.house.records()
    viewer = await town.house.join(town.tenant, "viewer")
    known_then = len(known) + 1

    answer = await town.house.client.post(
        f"{API}/keys", json={"name": "x"}, headers=await town.house.as_member(viewer, town.tenant)
    )

    assert answer.status_code == 403
    assert len(town.house.records()) == known_then


async def test_a_repeated_creation_is_recorded_once(town: Town) -> None:
    headers = {**(await town.headers()), "idempotency-key": "once-1"}

    for _ in range(2):
        await town.house.client.post(f"{API}/policies", json=POLICY, headers=headers)

    made = [record for record in town.house.records() if record["action"] == "policy_created"]
    assert len(made) == 1


async def test_signing_in_is_recorded_in_every_tenant_one_belongs_to(town: Town) -> None:
    second = await town.house.tenant(town.owner, "second")
    other = await town.house.tenant(await town.house.person(), "other")

    await town.house.client.post(f"{GLOBAL}/auth/login", json={"email": "olga@acme.example", "password": PASSWORD})

    signed_in = [record["tenant"] for record in town.house.records() if record["action"] == "signed_in"]
    assert sorted(signed_in) == sorted([town.tenant.id, second.id])
    assert other.id not in signed_in


async def test_a_refused_sign_in_is_recorded_where_the_account_belongs_and_an_unknown_one_nowhere(town: Town) -> None:
    known = len(town.house.records())
    for email in ("olga@acme.example", "nobody@acme.example"):
        body = {"email": email, "password": "not the password"}
        problem(await town.house.client.post(f"{GLOBAL}/auth/login", json=body), 401, "wrong_credentials")

    await town.house.tools.later.settled()

    (record,) = town.house.records()[known:]
    assert (record["kind"], record["action"], record["tenant"]) == ("auth", "sign_in_refused", town.tenant.id)
    assert record["object_id"] == town.owner.id
    assert record["by"] == "nobody"


async def test_a_refresh_token_used_twice_ends_the_session_even_where_it_cannot_be_recorded(town: Town) -> None:
    login = {"email": "olga@acme.example", "password": PASSWORD}
    tokens = (await town.house.client.post(f"{GLOBAL}/auth/login", json=login)).json()
    body = {"refresh_token": tokens["refresh_token"]}
    assert (await town.house.client.post(f"{GLOBAL}/auth/refresh", json=body)).status_code == 200
    trail = town.house.resources.parts[Trail]

    problem(await town.house.client.post(f"{GLOBAL}/auth/refresh", json=body), 401, "refresh_token_reused")
    assert town.house.records(town.tenant.id)[-1]["action"] == "refresh_token_reused"

    tokens = (await town.house.client.post(f"{GLOBAL}/auth/login", json=login)).json()
    body = {"refresh_token": tokens["refresh_token"]}
    assert (await town.house.client.post(f"{GLOBAL}/auth/refresh", json=body)).status_code == 200
    town.house.resources.parts[Trail] = DeadTrail()
    problem(await town.house.client.post(f"{GLOBAL}/auth/refresh", json=body), 401, "refresh_token_reused")
    town.house.resources.parts[Trail] = trail
    answer = await town.house.client.get(f"{GLOBAL}/tenants", headers=bearer(tokens["access_token"]))
    assert answer.status_code == 401


async def test_a_wrong_present_password_is_recorded(town: Town) -> None:
    body = {"current_password": "wrong", "new_password": NEW_PASSWORD}
    headers = await town.headers(scoped=False)

    answer = await town.house.client.post(f"{GLOBAL}/auth/password/change", json=body, headers=headers)

    problem(answer, 403, "wrong_password")
    assert town.house.records(town.tenant.id)[-1]["action"] == "password_change_refused"
