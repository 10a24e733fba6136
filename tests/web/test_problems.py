"""Every error is a problem with one form, and says nothing it should not."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import httpx
import msgspec
import pytest
from litestar import get, post
from litestar.params import FromPath, JSONBody

from tests.support.web import House, open_house, problem, settings_of
from trueport.kit.errors import NotFound, Unavailable
from trueport.storage.mongo import Database
from trueport.web import body
from trueport.web.domain import Domain
from trueport.web.guards import public


class Flower(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=10)]
    petals: Annotated[int, msgspec.Meta(ge=1)]
    colours: list[str] = []


@post("/flowers", access=public())
async def plant(data: JSONBody[Flower]) -> Flower:
    return data


@get("/boom", access=public())
async def boom() -> None:
    raise RuntimeError("the password is tulip")


@get("/away", access=public())
async def away() -> None:
    raise Unavailable("The greenhouse is closed.")


@get("/number/{number:int}", access=public())
async def number(number: FromPath[int]) -> int:
    raise NotFound("There is no such number.", looked_for=number, status=200, title="overwritten")


@pytest.fixture
async def garden(tmp_path: Path, database: Database) -> AsyncIterator[House]:
    domain = Domain("auth", controllers=(plant, boom, away, number))
    async with open_house(settings_of(tmp_path), database, [domain]) as opened:
        yield opened


async def test_an_unknown_path_and_a_wrong_method_are_problems(garden: House) -> None:
    problem(await garden.client.get("/nowhere"), 404, "not_found")
    refused = await garden.client.delete("/flowers")
    problem(refused, 405, "method_not_allowed")
    assert "POST" in refused.headers["allow"]
    problem(await garden.client.options("/flowers"), 405, "method_not_allowed")


async def test_each_wrong_field_is_named(garden: House) -> None:
    sent = {"name": "far too long a name", "petals": "5", "colours": ["red", 7], "smell": "sweet"}

    members = problem(await garden.client.post("/flowers", json=sent), 400, "validation_failed")

    assert [error["field"] for error in members["errors"]] == ["smell", "name", "petals", "colours[1]"]
    assert all(error["message"] for error in members["errors"])


async def test_a_missing_field_and_a_missing_body_are_named(garden: House) -> None:
    without_name = problem(await garden.client.post("/flowers", json={"petals": 5}), 400, "validation_failed")
    assert without_name["errors"] == [{"field": "name", "message": "is required"}]

    without_body = problem(await garden.client.post("/flowers"), 400, "validation_failed")
    assert without_body["errors"] == [{"field": "", "message": "a JSON body is required"}]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"null", "invalid_json"),
        (b'{"name": NaN}', "invalid_json"),
        (b'{"name": "\xff"}', "invalid_json"),
        (b'{"name": "\\ud800"}', "invalid_json"),
        (b'{"petals": ' + b"9" * 5_000 + b"}", "invalid_json"),
        (b'{"name": "a", "n\\u0061me": "b"}', "duplicate_key"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "json_too_deep"),
        (b"[" * 100_000, "json_too_deep"),
    ],
)
async def test_a_body_with_no_single_meaning_is_refused(garden: House, content: bytes, code: str) -> None:
    problem(await garden.client.post("/flowers", content=content), 400, code)


async def test_a_body_is_read_up_to_its_limit_and_not_a_byte_further(garden: House) -> None:
    start, end = b'{"name": "rose", "petals": 5, "colours": ["', b'"]}'
    fill = body.MOST_BODY_BYTES - len(start) - len(end)

    exact = await garden.client.post("/flowers", content=start + b"r" * fill + end)
    over = await garden.client.post("/flowers", content=start + b"r" * (fill + 1) + end)

    assert exact.status_code == 201
    problem(over, 413, "body_too_large")


async def test_a_body_without_a_stated_length_is_cut_off_too(garden: House) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 10_000

    problem(await garden.client.post("/flowers", content=endless()), 413, "body_too_large")


async def test_compressed_bodies_are_refused(garden: House) -> None:
    answer = await garden.client.post("/flowers", content=b"x", headers={"content-encoding": "gzip"})

    problem(answer, 415, "unsupported_encoding")


async def test_a_body_that_does_not_arrive_is_given_up(garden: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_BODY_DEADLINE_S", 0.01)

    async def stalled() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    problem(await garden.client.post("/flowers", content=stalled()), 408, "body_timeout")


async def test_an_unforeseen_failure_tells_the_request_id_only_and_is_logged_once(
    garden: House, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = await garden.client.get("/boom", headers={"x-request-id": "mine-1"})

    members = problem(answer, 500, "internal_error")
    assert members["request_id"] == "mine-1"
    assert "tulip" not in answer.text
    assert "RuntimeError" not in answer.text
    failures = [record for record in caplog.records if record.msg == "request_failed"]
    assert len(failures) == 1
    assert "tulip" not in caplog.text


async def test_what_is_away_says_when_to_come_again(garden: House) -> None:
    answer = await garden.client.get("/away")

    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_extra_members_do_not_replace_the_standard_ones(garden: House) -> None:
    members = problem(await garden.client.get("/number/7"), 404, "not_found")

    assert members["looked_for"] == 7
    assert members["title"] == "Not found"


@pytest.mark.parametrize("sent", ["mine", "a" * 128, "0b8f:x/y.z-_+=@1"])
async def test_a_sane_request_id_of_the_client_is_kept(garden: House, sent: str) -> None:
    answer = await garden.client.get("/healthz", headers={"x-request-id": sent})

    assert answer.headers.get_list("x-request-id") == [sent]


@pytest.mark.parametrize("sent", ["", "a" * 129, "a b", "<b>", "é", 'a"b'])
async def test_any_other_request_id_is_replaced(garden: House, sent: str) -> None:
    answer = await garden.client.get("/healthz", headers=httpx.Headers([(b"x-request-id", sent.encode())]))

    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/boom"])
async def test_safe_headers_are_on_every_reply(garden: House, path: str) -> None:
    headers = (await garden.client.get(path)).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
