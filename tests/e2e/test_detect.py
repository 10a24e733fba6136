"""Detection as a service and local moderations on a real server: answered here, limited, recorded, kept nowhere."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, Final

import openai
import pytest
from openai import OpenAI

from tests.support.detectors import ATTACK, BENIGN, INSULT, TINY
from tests.support.installation import Installation, installation
from tests.support.money import Access, calls_upstream, furnish, row_of
from trueport.detection.types import CATEGORIES

DETECT: Final = "/trueportai-services/api/v1/detect"
PRIVATE: Final = "write to bob@x.example soon"
POLICIES: Final[list[dict[str, Any]]] = [
    {"name": "addresses", "on": ["input"], "when": {"category": "pii", "types": ["EMAIL"]}, "action": "redact"},
    {"name": "aurora", "on": ["output"], "when": {"keywords": ["aurora"]}, "action": "block"},
    {"name": "trial", "on": ["input"], "when": {"keywords": ["aurora"]}, "action": "block", "mode": "shadow"},
]


class House:
    def __init__(self, place: Installation, tenants: Mapping[str, Access]) -> None:
        self.place = place
        self.tenants = tenants

    def post(self, body: Any, *, slug: str = "acme", key: str = "main", headers: Any = None) -> tuple[int, Any, Any]:
        given = {"authorization": f"Bearer {self.tenants[slug].keys[key][1]}"} if headers is None else headers
        return posted(self.place, body, given)

    def read(self, text: Any, **members: Any) -> Any:
        status, found, _ = self.post({"input": text, **members})
        assert status == 200, found
        return found

    def sdk(self, slug: str = "local", key: str = "main") -> OpenAI:
        return OpenAI(base_url=f"{self.place.url}/v1", api_key=self.tenants[slug].keys[key][1], max_retries=0)


async def stored(house: House, collection: str) -> list[dict[str, Any]]:
    return await asyncio.to_thread(house.place.documents, collection)


def posted(place: Installation, body: Any, headers: Mapping[str, str]) -> tuple[int, Any, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{place.url}{DETECT}", data=data, headers={"content-type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.loads(reply.read()), reply.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), error.headers


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with installation(tmp_path_factory.mktemp("detect") / "data", TRUEPORT_DETECTION_URL=f"onnx:{TINY}") as place:
        place.set_up("first")
        tenants = furnish(
            place,
            {"acme": {"policies": POLICIES}, "bare": {}, "local": {"moderations": "local"}},
            {"slow": {"requests_per_minute": 2}},
        )
        place.serve()
        yield House(place, tenants)


# --- who may ask ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer sk-tp-none"}, {"x-api-key": "sk-tp-none"}, {"authorization": "Bearer x"}]
)
def test_anonymous_is_refused(house: House, headers: dict[str, str]) -> None:
    status, found, _ = house.post({"input": BENIGN}, headers=headers)

    assert status == 401
    assert found["status"] == 401
    assert "data" not in found


def test_a_person_reads_with_a_scoped_token_and_is_told_the_same(house: House) -> None:
    token = house.place.scoped_token("owner@first.example")

    status, found, headers = house.post({"input": PRIVATE}, headers={"authorization": f"Bearer {token}"})

    assert status == 200
    assert found["data"] == house.read(PRIVATE)["data"]
    assert headers["x-trueport-interaction"] == found["id"]


def test_a_persons_mistakes_are_told_like_an_applications(house: House) -> None:
    token = house.place.scoped_token("owner@first.example")

    by_person = house.post({"input": []}, headers={"authorization": f"Bearer {token}"})
    by_key = house.post({"input": []})

    assert by_person[0] == by_key[0] == 422
    assert by_person[1]["detail"] == by_key[1]["detail"]


def test_the_policies_of_another_tenant_decide_nothing(house: House) -> None:
    status, found, _ = house.post({"input": PRIVATE, "policies": True}, slug="bare")

    assert status == 200
    assert found["data"][0]["decision"] == {"action": "allow", "code": None, "hits": []}


# --- what is told --------------------------------------------------------------------------------------------


def test_every_category_has_a_score_in_the_unit_range(house: House) -> None:
    [read] = house.read(f"{ATTACK} the {INSULT}")["data"]

    assert set(read["scores"]) == set(CATEGORIES) - {"custom"}
    assert all(0 <= score <= 1 for score in read["scores"].values())
    assert read["scores"]["toxicity"] > 0.5
    assert read["failures"] == []


def test_findings_count_code_points_and_hold_no_text(house: House) -> None:
    text = "\N{GRINNING FACE}\N{GRINNING FACE} write to bob@x.example"

    found = house.read(text, categories=["pii"])

    [finding] = found["data"][0]["findings"]
    assert (finding["category"], finding["type"]) == ("pii", "EMAIL")
    assert text[finding["start"] : finding["end"]] == "bob@x.example"
    assert "bob@x.example" not in json.dumps(found)


def test_only_the_categories_asked_for_are_told(house: House) -> None:
    [read] = house.read(f"{PRIVATE} {INSULT}", categories=["secrets"])["data"]

    assert set(read["scores"]) == {"secrets"}
    assert read["findings"] == []


def test_several_texts_are_answered_in_their_order(house: House) -> None:
    found = house.read([BENIGN, {"text": PRIVATE, "role": "tool_result"}, BENIGN], categories=["pii"])

    assert [len(read["findings"]) for read in found["data"]] == [0, 1, 0]


def test_the_tenants_policies_decide_when_asked(house: House) -> None:
    [read] = house.read(PRIVATE, policies=True)["data"]

    assert read["decision"]["action"] == "redact"
    assert [hit["policy"] for hit in read["decision"]["hits"]] == ["addresses"]
    assert "decision" not in house.read(PRIVATE)["data"][0]


@pytest.mark.parametrize(("role", "action", "mode"), [("assistant", "block", "enforce"), ("user", "allow", "shadow")])
def test_a_text_is_decided_about_on_the_side_that_its_role_stands_on(
    house: House, role: str, action: str, mode: str
) -> None:
    found = house.read([{"text": "project aurora", "role": role}], policies=True, categories=["secrets"])

    decision = found["data"][0]["decision"]
    assert decision["action"] == action
    assert [hit["mode"] for hit in decision["hits"]] == [mode]


# --- bounds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"input": []}, "input"),
        ({"input": ["x"] * 257}, "input"),
        ({"input": 7}, "input"),
        ({"input": [{"text": "x", "role": "king"}]}, "input[0].role"),
        ({"input": "x", "categories": ["weather"]}, "categories[0]"),
        ({"input": "x", "categories": ["custom"]}, "categories"),
        ({"input": "x", "other": 1}, "body"),
    ],
)
def test_a_body_of_another_form_is_refused_by_field(house: House, body: dict[str, Any], field: str) -> None:
    status, found, _ = house.post(body)

    assert (status, found["code"]) == (422, "validation_failed")
    assert [error["field"] for error in found["errors"]] == [field]


def test_a_refusal_repeats_nothing_of_the_body(house: House) -> None:
    _, found, _ = house.post({"input": [{"text": "x", "role": "bob@x.example"}]})

    assert "bob@x.example" not in json.dumps(found)


def test_a_body_beyond_a_megabyte_is_too_large(house: House) -> None:
    token = house.place.scoped_token("owner@first.example")
    body = {"input": "a" * (1 << 20)}

    for headers in (None, {"authorization": f"Bearer {token}"}):
        status, found, _ = house.post(body, headers=headers)
        assert (status, found["code"], found["limit_bytes"]) == (413, "body_too_large", 1 << 20)


def test_a_key_has_its_limit_here_too(house: House) -> None:
    answers = [house.post({"input": BENIGN}, key="slow") for _ in range(3)]

    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert answers[-1][2]["retry-after"]


# --- what is kept --------------------------------------------------------------------------------------------


async def test_a_reading_is_recorded_at_no_cost_and_without_its_text(house: House) -> None:
    found = house.read(PRIVATE)

    row = await row_of(house.place, found["id"])
    records = [record for record in await stored(house, "audit_records") if record["rid"] == found["id"]]
    intent = json.loads(next(record["canonical"] for record in records if record["kind"] == "intent"))
    assert (row["end"], row["dialect"], row["operation"], row["cost_nano_usd"]) == (
        "completed",
        "trueport",
        "detect",
        0,
    )
    assert row["input_tokens"] > 0
    assert [record["content"] for record in records] == [None, None]
    assert (intent["content"], len(intent["content_mac"]["pt_mac"])) == (None, 64)
    assert all(b"bob@x.example" not in record["canonical"] for record in records)


async def test_a_reading_makes_no_violation(house: House) -> None:
    found = house.read(PRIVATE, policies=True)

    await row_of(house.place, found["id"])
    assert [one for one in await stored(house, "violations") if one["interaction_id"] == found["id"]] == []


# --- moderations ---------------------------------------------------------------------------------------------


def test_the_sdk_gets_moderations_that_no_provider_made(house: House) -> None:
    asked_before = calls_upstream(house.place)

    found = house.sdk().moderations.create(input=[BENIGN, f"you {INSULT}"], model="omni-moderation-latest")

    assert [result.flagged for result in found.results] == [False, True]
    assert found.results[1].categories.harassment
    assert found.results[1].category_scores.harassment > 0.5
    assert found.results[1].category_applied_input_types.harassment == ["text"]
    assert found.id.startswith("modr-")
    assert "onnx:" in found.model
    assert calls_upstream(house.place) == asked_before


def test_what_is_not_read_is_false_with_no_score_and_no_input_type(house: House) -> None:
    result = house.sdk().moderations.create(input=f"you {INSULT}").results[0]

    assert not result.categories.violence
    assert result.category_scores.sexual == 0
    assert result.category_applied_input_types.self_harm == []


def test_our_own_categories_stand_beside_openais(house: House) -> None:
    result = house.sdk().moderations.create(input=PRIVATE).results[0].model_dump()

    assert result["trueport"]["categories"]["pii"]
    assert not result["flagged"]
    assert result["trueport"]["unread"] == []


def test_the_parts_of_one_content_are_one_result(house: House) -> None:
    parts: Any = [{"type": "text", "text": BENIGN}, {"type": "text", "text": INSULT}]

    found = house.sdk().moderations.create(input=parts)

    assert [result.flagged for result in found.results] == [True]


def test_a_picture_is_refused_rather_than_passed_unseen(house: House) -> None:
    parts: Any = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]

    with pytest.raises(openai.BadRequestError):
        house.sdk().moderations.create(input=parts)


def test_without_the_choice_the_provider_is_asked(house: House) -> None:
    found = house.sdk("bare").moderations.create(input=INSULT, model="omni-moderation-latest")

    assert not found.id.startswith("modr-int_")


def test_a_moderation_needs_a_key_and_counts_against_its_limit(house: House) -> None:
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=f"{house.place.url}/v1", api_key="sk-tp-none", max_retries=0).moderations.create(input="x")
    sdk = house.sdk(key="slow")
    for _ in range(2):
        sdk.moderations.create(input=BENIGN)
    with pytest.raises(openai.RateLimitError):
        sdk.moderations.create(input=BENIGN)


async def test_a_moderation_is_recorded_at_no_cost(house: House) -> None:
    raw = house.sdk().moderations.with_raw_response.create(input=BENIGN)

    row = await row_of(house.place, raw.headers["x-trueport-interaction"])
    assert (row["end"], row["operation"], row["cost_nano_usd"]) == ("completed", "moderations", 0)
    assert row.get("charged_nano_usd", 0) == 0
    assert row["provider"] is None


# --- detectors that are away ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with installation(tmp_path_factory.mktemp("rules") / "data") as place:
        tenants = furnish(place, {"acme": {"moderations": "local"}})
        place.serve()
        yield House(place, tenants)


def test_what_nobody_could_read_is_told_and_has_no_score(rules: House) -> None:
    [read] = rules.read(PRIVATE)["data"]

    assert "toxicity" not in read["scores"]
    assert "pii" in read["scores"]
    [failure] = read["failures"]
    assert (failure["detector"], failure["code"]) == ("engine", "unavailable")
    assert "toxicity" in failure["categories"]


def test_nothing_read_at_all_is_an_error(rules: House) -> None:
    status, found, headers = rules.post({"input": PRIVATE, "categories": ["toxicity"]})

    assert (status, found["code"]) == (503, "detector_unavailable")
    assert headers["retry-after"]


def test_a_moderation_that_cannot_be_made_is_an_error(rules: House) -> None:
    with pytest.raises(openai.InternalServerError) as refused:
        rules.sdk("acme").moderations.create(input=BENIGN)

    assert refused.value.status_code == 503
    assert refused.value.code == "detector_unavailable"
