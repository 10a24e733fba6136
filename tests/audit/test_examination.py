"""The questions of an examiner, put to archives that are honest and to archives that are not."""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.support import archives
from tests.support.archives import (
    ORIGIN,
    SIGNER,
    TAMPERINGS,
    Archive,
    archive_of,
    honest,
    public_keys,
    tampered,
    thief_goes_on_with_an_ended_key,
)
from tests.support.large_archives import EXAMINED, large
from trueport.audit.canonical import canonical, leaf_hash, parse
from trueport.audit.examination import Answer, Examination, KeySpan, examine, read_spans, told, write_spans
from trueport.audit.verifier import Unreadable, Witness

SMALL = 600


def answers(archive: Archive, *, outside: bool = True, spans: Sequence[KeySpan] = ()) -> dict[str, Answer]:
    return {answer.question: answer for answer in examined(archive, outside=outside, spans=spans).answers}


def examined(archive: Archive, *, outside: bool = True, spans: Sequence[KeySpan] = ()) -> Examination:
    earlier, receipts = (archive.earlier, archive.receipts) if outside else ((), ())
    witnesses = [Witness.parse(text) for text in archive.witnesses]
    return examine(archive, public_keys(), earlier=earlier, receipts=receipts, witnesses=witnesses, spans=spans)


def place_before_another(archive: Archive, start: int) -> int:
    """The first place from `start` on whose writer wrote again later in the archive."""
    writers = [parse(record.canonical)["writer"] for record in archive.records]
    return next(at for at in range(start, len(writers)) if writers[at] in writers[at + 1 :])


@pytest.mark.parametrize("seed", range(20))
def test_an_honest_archive_gives_reassuring_answers_as_far_as_it_is_signed(seed: int) -> None:
    archive = honest(seed)

    found = examined(archive)

    assert found.is_fine
    assert [answer.verdict for answer in found.answers] == ["no", "no", "no", "kept", "known"]
    assert found.fixed == found.fixed_outside == len(archive.records)
    assert all(answer.proofs and answer.limits for answer in found.answers)


@pytest.mark.parametrize("number", range(len(TAMPERINGS)), ids=lambda number: TAMPERINGS[number].__name__)
def test_no_tampering_leaves_all_answers_reassuring(number: int) -> None:
    tried = 0
    for seed in range(number, len(TAMPERINGS) * 8, len(TAMPERINGS)):
        case = tampered(seed)
        if case is not None:
            tried += 1
            assert not examined(case[1]).is_fine, f"seed {seed}"
    assert tried >= 2


def test_a_changed_record_is_named_with_its_place_and_both_hashes() -> None:
    archive = large(SMALL)
    at = place_before_another(archive, 300)
    records = list(archive.records)
    before = leaf_hash(records[at].canonical).hex()
    records[at] = replace(records[at], canonical=canonical({**parse(records[at].canonical), "status": 201}))

    found = answers(archives._rewritten(archive, records, archive.bounds))

    proof = found["modified"].proofs[0]
    assert found["modified"].verdict == "yes"
    assert proof.position == at
    assert proof.hash == leaf_hash(records[at].canonical).hex()
    assert before in proof.shows
    below = max(bound for bound in archive.bounds if bound <= at)
    assert found["modified"].facts["fixed_by_signature"] == below
    assert found["deleted"].verdict == found["inserted"].verdict == found["amended"].verdict == "undecided"


def test_a_deleted_record_is_named_by_the_hole_in_its_writers_chain() -> None:
    archive = large(SMALL)
    at = place_before_another(archive, 300)
    gone = parse(archive.records[at].canonical)
    records = [record for place, record in enumerate(archive.records) if place != at]
    bounds = [bound - (bound > at) for bound in archive.bounds]

    found = answers(archives._rewritten(archive, records, bounds))["deleted"]

    assert found.verdict == "yes"
    assert any(proof.place == f"{gone['writer']} {gone['wseq']}" and "missing" in proof.shows for proof in found.proofs)


def test_a_record_put_in_at_a_taken_place_of_a_chain_is_named() -> None:
    archive = large(SMALL)
    forged = canonical({**parse(archive.records[100].canonical), "rid": "int_forged"})
    records = [*archive.records[:300], replace(archive.records[100], canonical=forged), *archive.records[300:]]

    found = answers(archives._rewritten(archive, records, [*archive.bounds[:-1], len(records)]))["inserted"]

    assert found.verdict == "yes"
    assert any(proof.position == 300 and "second record" in proof.shows for proof in found.proofs)


def test_what_was_done_without_a_trace_of_the_way_is_undecided_and_never_no() -> None:
    archive = honest(3)
    only_roots = archives.changes_a_checkpoint(archive, random.Random(1))

    found = answers(only_roots, outside=False)

    assert [found[question].verdict for question in ("deleted", "inserted", "amended")] == ["undecided"] * 3
    assert not any(answer.sentence.startswith("No:") for answer in found.values())


def test_without_a_checkpoint_from_outside_the_answer_says_what_it_rests_on() -> None:
    found = answers(honest(3), outside=False)["modified"]

    assert found.verdict == "no"
    assert "rests on the signing key" in found.sentence


def test_a_history_written_anew_with_the_key_shows_the_keys_misuse() -> None:
    archive = large(SMALL)
    records = list(archive.records)
    records[100] = replace(records[100], canonical=canonical({**parse(records[100].canonical), "status": 201}))
    objects, _ = archive_of(records, archive.bounds)
    rewritten = replace(archive, objects=objects)

    found = answers(rewritten)

    assert found["keys"].verdict == "doubtful"
    assert "two histories" in found["keys"].sentence
    assert found["keys"].facts["fixed_by_signature"] == max(bound for bound in archive.bounds if bound <= 100)


def test_a_call_that_ended_twice_keeps_both_ends() -> None:
    writer = archives._Writer("host.0.ab")
    records = [
        writer.write("intent", "int_1", 1_000_000),
        writer.write("abandoned", "int_1", 2_000_000),
        writer.write("outcome", "int_1", 3_000_000),
    ]
    objects, notes = archive_of(records, [3])

    found = answers(Archive(objects, tuple(records), (3,), tuple(notes), ()))["amended"]

    assert found.verdict == "kept"
    assert [(proof.place, proof.position) for proof in found.proofs] == [
        ("int_1#intent", 0),
        ("int_1#abandoned", 1),
        ("int_1#outcome", 2),
    ]


def test_a_key_that_signed_after_its_end_is_doubtful() -> None:
    archive = honest(3)
    key_id = SIGNER.verifier_key.key_id.hex()
    made, ends = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)

    late = answers(archive, spans=[KeySpan(key_id, made, ends)])["keys"]
    fine = answers(archive, spans=read_spans(write_spans([KeySpan(key_id, made)])))["keys"]

    assert late.verdict == "doubtful"
    assert fine.verdict == "known"
    assert fine.facts["signing_keys"][0]["made_at"] == "2026-01-01T00:00:00.000Z"
    assert fine.facts["signing_keys"][0]["last_size"] == len(archive.records)


@pytest.mark.parametrize(
    "text", ["", "{}x", '[{"key_id": "a"}]', '[{"key_id": "a", "made_at": 1, "retires_at": null}]']
)
def test_a_history_of_keys_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        read_spans(text)


def test_a_record_that_came_late_is_listed_and_not_judged() -> None:
    one, two = archives._Writer("host.0.ab"), archives._Writer("host.1.ab")
    records = [
        one.write("outcome", "int_1", 90_000_000_000),
        two.write("outcome", "int_2", 80_000_000_000),
    ]
    objects, notes = archive_of(records, [2])

    found = answers(Archive(objects, tuple(records), (2,), tuple(notes), ()))["inserted"]

    assert found.verdict == "no"
    assert found.facts["came_late"] == [{"position": 1, "behind_s": 10_000}]


def test_what_is_told_to_a_person_has_each_question_its_proof_and_its_limits() -> None:
    text = told(examined(honest(3)))

    assert text.startswith(ORIGIN)
    assert len(re.findall(r"^Was |^When |^Who ", text, re.MULTILINE)) == 5
    assert text.count("does not show: ") >= 5
    assert text.count("proof: ") >= 5


@pytest.mark.slow
def test_fifty_thousand_records_are_examined_and_one_changed_is_found_among_them() -> None:
    archive = large()
    at = place_before_another(archive, 31_415)
    records = list(archive.records)
    records[at] = replace(records[at], canonical=canonical({**parse(records[at].canonical), "status": 201}))

    clean, changed = examined(archive), answers(archives._rewritten(archive, records, archive.bounds))

    assert clean.is_fine
    assert clean.records >= EXAMINED
    assert changed["modified"].proofs[0].position == at


def test_what_an_ended_key_went_on_to_sign_makes_the_keys_doubtful() -> None:
    number = TAMPERINGS.index(thief_goes_on_with_an_ended_key)
    cases = [tampered(seed) for seed in range(number, len(TAMPERINGS) * 25, len(TAMPERINGS))]
    found = [answers(case[1])["keys"] for case in cases if case is not None]

    assert len(found) >= 3
    assert {answer.verdict for answer in found} == {"doubtful"}
