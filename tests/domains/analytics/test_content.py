"""What was said in an interaction is shown masked to readers of the log, and in clear for a recorded reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.analytics import Trail as Writer
from tests.support.web import House, problem
from trueport.detection.types import Side
from trueport.domains.analytics.api import ContentUnreadable, ContentViewer, MongoSink, Said
from trueport.domains.auth.models import Tenant, User
from trueport.kit.tenancy import TenantScope
from trueport.storage.documents import open_store
from trueport.web.trail import Trail

LOGS = "/trueportai-services/api/v1/analytics/logs"
PROMPT = "Mail ann@example.com, née 北京!"


@dataclass
class Kept:
    """A prompt that was kept, and an answer whose keys are gone."""

    opened: list[Side] = field(default_factory=list)

    async def texts(self, scope: TenantScope, outcome: Mapping[str, Any], side: Side) -> Sequence[Said]:  # noqa: ARG002
        self.opened.append(side)
        if side == "output":
            raise ContentUnreadable("content_erased")
        return [Said("messages.0.content", "user", PROMPT)]


@dataclass
class Office:
    """A tenant with one interaction, and whoever opens content."""

    house: House
    owner: User
    tenant: Tenant
    interaction: str
    kept: Kept

    async def ask(self, method: str, what: str, body: object = None, by: User | None = None) -> Any:
        headers = await self.house.as_member(by or self.owner, self.tenant)
        return await self.house.client.request(method, f"{LOGS}/{self.interaction}/{what}", headers=headers, json=body)


@pytest.fixture
async def office(house: House) -> Office:
    owner = await house.person()
    tenant = await house.tenant(owner, "acme")
    _, outcome = Writer().call(tenant.id, house.clock.now())
    settings = house.resources.settings
    await MongoSink(house.resources.database, open_store(settings.storage_url, settings.data_dir)).store([outcome])
    kept = Kept()
    house.resources.parts[ContentViewer] = kept
    return Office(house, owner, tenant, str(outcome.record["rid"]), kept)


@pytest.mark.parametrize(("method", "what"), [("GET", "content"), ("POST", "reveal")])
async def test_anonymous_is_refused(office: Office, method: str, what: str) -> None:
    path = f"{LOGS}/{office.interaction}/{what}"

    problem(await office.house.client.request(method, path, json={"reason": "case 17"}), 401, "unauthenticated")


@pytest.mark.parametrize(("method", "what", "body"), [("GET", "content", None), ("POST", "reveal", {"reason": "x"})])
async def test_a_foreign_interaction_is_not_found_and_nothing_is_opened(
    office: Office, method: str, what: str, body: object
) -> None:
    rival = await office.house.person()
    foreign = await office.house.tenant(rival, "rival")
    before = len(office.house.records(foreign.id))

    headers = await office.house.as_member(rival, foreign)
    path = f"{LOGS}/{office.interaction}/{what}"
    answer = await office.house.client.request(method, path, headers=headers, json=body)

    problem(answer, 404, "not_found")
    assert office.kept.opened == []
    assert len(office.house.records(foreign.id)) == before


async def test_whoever_may_read_the_log_sees_the_shape_and_no_word(office: Office) -> None:
    member = await office.house.join(office.tenant, "member")

    shown = (await office.ask("GET", "content", by=member)).json()

    assert shown["is_masked"] is True
    assert shown["sides"][0]["texts"] == [
        {"path": "messages.0.content", "role": "user", "text": "xxxx xxx@xxxxxxx.xxx, xxx xx!"}
    ]
    assert (shown["sides"][1]["state"], shown["sides"][1]["texts"]) == ("content_erased", [])


async def test_words_are_shown_for_a_reason_that_is_recorded(office: Office) -> None:
    shown = (await office.ask("POST", "reveal", {"reason": "case 17"})).json()

    assert [text["text"] for text in shown["sides"][0]["texts"]] == [PROMPT]
    record = office.house.records(office.tenant.id)[-1]
    assert (record["kind"], record["action"], record["reason"]) == ("access", "content_revealed", "case 17")
    assert (record["by"], record["object_id"]) == (office.owner.id, office.interaction)


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "  "}, {"reason": None}])
async def test_without_a_reason_nothing_is_opened(office: Office, body: object) -> None:
    answer = await office.ask("POST", "reveal", body)

    assert answer.status_code == 400
    assert office.kept.opened == []


async def test_who_may_only_read_the_log_sees_no_words(office: Office) -> None:
    member = await office.house.join(office.tenant, "member")

    problem(await office.ask("POST", "reveal", {"reason": "x"}, by=member), 403, "permission_missing")
    assert office.kept.opened == []


async def test_what_cannot_be_recorded_is_not_shown(office: Office) -> None:
    del office.house.resources.parts[Trail]

    problem(await office.ask("POST", "reveal", {"reason": "x"}), 503, "audit_unavailable")
    assert office.kept.opened == []


async def test_a_process_that_opens_nothing_says_so(office: Office) -> None:
    del office.house.resources.parts[ContentViewer]

    answer = await office.ask("GET", "content")

    assert answer.status_code == 503
    assert "gateway" in answer.json()["detail"]
