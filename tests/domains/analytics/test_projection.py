from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.analytics import Trail
from trueport.domains.analytics.models import RETENTION, AuditRecord, ContentReference, InteractionRow
from trueport.domains.analytics.projection import audit_document, interaction_document
from trueport.domains.analytics.sink import content_objects
from trueport.storage.indexes import leading_fields
from trueport.storage.scoped import check_tenant_model

STARTED = datetime(2026, 3, 1, 10, 30, 0, 125_000, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["intent", "outcome", "abandoned", "refused"])
def test_a_row_has_exactly_the_shape_of_its_model(kind: str) -> None:
    trail = Trail()
    intent = trail.intent("ten_a", STARTED)
    record = {
        "intent": intent,
        "outcome": trail.outcome(intent),
        "abandoned": trail.abandoned(intent),
        "refused": trail.refused("ten_a", STARTED),
    }[kind]

    document = interaction_document(record.record, RETENTION)

    read = InteractionRow.model_validate_doc(document).model_dump_doc()
    defaults = {name: field.default for name, field in InteractionRow.model_fields.items() if name in read}
    assert {name: read[name] for name in document} == document
    assert {name: value for name, value in read.items() if name not in document and value != defaults[name]} == {}


def test_what_is_seldom_there_is_told_when_it_is() -> None:
    told = {"user": "ada", "repeats": "int_1"}
    usage = {"input_tokens": 9, "output_tokens": 1, "cache_write_tokens": 4, "audio_ms": 1_500, "service_tier": "flex"}
    trail = Trail()
    outcome = trail.outcome(trail.intent("ten_a", STARTED)).record
    document = interaction_document({**outcome, **told, "usage": usage}, RETENTION)

    assert document.items() >= {**told, "cache_write_tokens": 4, "audio_ms": 1_500, "service_tier": "flex"}.items()
    assert "images" not in document


def test_an_audit_document_has_exactly_the_shape_of_its_model() -> None:
    shipped = Trail().intent("ten_a", STARTED)
    reference = ContentReference(object="ten_a/content/x.bin", offset=3, length=9)

    for content in (None, {"object": "ten_a/content/x.bin", "offset": 3, "length": 9}):
        document = audit_document(shipped, content)
        read = AuditRecord.model_validate_doc(document)
        assert read.model_dump_doc() == document
        assert read.content_reference == (reference if content else None)


def test_an_outcome_tells_the_whole_interaction() -> None:
    trail = Trail()
    intent = trail.intent("ten_a", STARTED)

    document = interaction_document(trail.outcome(intent, took_ms=873).record, timedelta(days=400))

    assert document == {
        "_id": intent.record["rid"],
        "tenant_id": "ten_a",
        "revision": 0,
        "created_at": STARTED,
        "ended_at": STARTED + timedelta(milliseconds=873),
        "expires_at": STARTED + timedelta(days=400),
        "request_id": "req-1",
        "receipt": None,
        "key_id": "key_a",
        "env": "prod",
        "dialect": "openai",
        "method": "POST",
        "operation": "chat/completions",
        "model": "gpt-4o",
        "model_counted": None,
        "model_served": "gpt-4o-2024-08-06",
        "provider": "openai",
        "target": "main/gpt-4o",
        "stream": True,
        "status": 200,
        "end": "completed",
        "error": None,
        "decision": "allow",
        "policy_version": 2,
        "input_tokens": 412,
        "output_tokens": 96,
        "cached_tokens": 128,
        "reasoning_tokens": 7,
        "total_tokens": 508,
        "usage_source": "provider",
        "usage_doubtful": False,
        "cost_nano_usd": 1_842_000,
        "price_version": "2026-11",
        "latency_ms": 873,
        "first_byte_ms": 310,
        "request_bytes": 321,
        "reply_bytes": 2_048,
        "attempts": [
            {"target": "main/gpt-4o", "status": 500, "error": "upstream_error", "took_us": 20_400},
            {"target": "main/gpt-4o", "status": 200, "error": None, "took_us": 790_100},
        ],
    }


def test_an_abandoned_interaction_has_an_end_nobody_saw() -> None:
    trail = Trail()

    document = interaction_document(trail.abandoned(trail.intent("ten_a", STARTED)).record, RETENTION)

    assert (document["end"], document["ended_at"], document["latency_ms"]) == ("abandoned", None, None)
    assert (document["model"], document["key_id"], document["created_at"]) == ("gpt-4o", "key_a", STARTED)


@pytest.mark.parametrize("tokens", [-1, 1 << 49, None])
def test_a_number_of_tokens_that_nobody_can_have_used_counts_as_none(tokens: Any) -> None:
    trail = Trail()
    usage = {"input_tokens": tokens, "output_tokens": 5, "cached_tokens": 0, "reasoning_tokens": 0}

    document = interaction_document(trail.outcome(trail.intent("ten_a", STARTED), usage=usage).record, RETENTION)

    assert (document["input_tokens"], document["total_tokens"]) == (0, 5)


def test_a_clock_set_back_gives_no_negative_latency() -> None:
    trail = Trail()

    document = interaction_document(trail.outcome(trail.intent("ten_a", STARTED), took_ms=-5_000).record, RETENTION)

    assert document["latency_ms"] == 0


def test_a_model_name_of_any_length_takes_a_bounded_place_in_the_row() -> None:
    trail = Trail()

    document = interaction_document(trail.intent("ten_a", STARTED, model="m" * 100_000).record, RETENTION)

    assert document["model"] == "m" * 256


@pytest.mark.parametrize("model", [AuditRecord, InteractionRow])
def test_documents_are_stored_per_tenant(model: Any) -> None:
    check_tenant_model(model)
    assert set(leading_fields(model)) == {"tenant_id"}


def test_rows_expire_and_records_do_not() -> None:
    expiring = [i.document for i in InteractionRow.__indexes__() if hasattr(i, "document")]

    assert [(dict(index["key"]), index["expireAfterSeconds"]) for index in expiring] == [({"expires_at": 1}, 0)]
    assert not [i for i in AuditRecord.__indexes__() if hasattr(i, "document")]


def test_objects_hold_one_tenant_and_one_writer_each() -> None:
    trail, other = Trail(), Trail("host.8.18d")
    batch = [
        trail.intent("ten_a", STARTED, blobs=[b"aa", b"bbb"]),
        trail.intent("ten_b", STARTED, blobs=[b"cccc"]),
        trail.intent("ten_a", STARTED),
        other.intent("ten_a", STARTED, blobs=[b"d"]),
        trail.intent("ten_a", STARTED, blobs=[b"ee"]),
    ]

    objects = content_objects(batch)

    assert [each.data for each in objects] == [b"aabbbee", b"cccc", b"d"]
    assert [each.name.partition("/content/2026-03-01/")[0] for each in objects] == ["ten_a", "ten_b", "ten_a"]
    assert objects[0].places == {
        batch[0].id: {"object": objects[0].name, "offset": 0, "length": 5},
        batch[4].id: {"object": objects[0].name, "offset": 5, "length": 2},
    }
    assert content_objects(batch) == objects


def test_different_bytes_never_meet_under_one_name() -> None:
    trail = Trail()
    first, second, third = (trail.intent("ten_a", STARTED, blobs=[bytes([n])]) for n in range(3))

    names = {each.name for batch in ([first, third], [first, second, third]) for each in content_objects(batch)}

    assert len(names) == 2


@pytest.mark.parametrize("writer", ["-odd..host/x.1.2", "host\u00e9.1.2"])
def test_any_writer_name_gives_an_object_name_the_store_takes(writer: str) -> None:
    from trueport.storage.documents import _NAME

    (each,) = content_objects([Trail(writer).intent("ten_a", STARTED, blobs=[b"x"])])

    assert _NAME.fullmatch(each.name)
