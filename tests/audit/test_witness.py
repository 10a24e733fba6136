"""A witness signs a log's trees only while each continues the one before, whatever is sent, and does not forget."""

import asyncio
import base64
import random
from pathlib import Path

import aiohttp
import pytest

from tests.support.witnesses import NAME, SmallLog, Watching, watching
from trueport.audit.cosignatures import Cosigner, WitnessKey
from trueport.audit.notes import KeySigner, NoteBroken, Signature, parse_note
from trueport.audit.witness import Request, WitnessFolder, WitnessUnusable, answered
from trueport.kit.clock import ManualClock, SystemClock

LOG = SmallLog()


async def post(place: Watching, body: bytes) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.post(f"{place.url}/add-checkpoint", data=body) as answer:
        return answer.status, await answer.text(), answer.content_type


async def status(place: Watching, body: bytes) -> int:
    return (await post(place, body))[0]


async def test_a_tree_that_continues_the_last_one_is_cosigned_with_the_time(tmp_path: Path) -> None:
    clock = ManualClock(SystemClock().now())
    async with watching(tmp_path / "w", clock) as place:
        place.trusts(LOG.signer.verifier_key)
        for old, new in [(0, 1), (1, 7), (7, 7), (7, 300)]:
            code, body, _ = await post(place, await LOG.request(old, new))

            text = str(LOG.checkpoint(new))
            key = WitnessKey.parse(place.key)
            assert code == 200
            assert key.signed_at(text, answered(text, body.encode(), key)) == int(clock.now().timestamp())


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [(0, 9, 409), (6, 9, 409), (8, 9, 409), (9, 8, 400), (7, 5, 400)],
    ids=["from nothing", "from less", "from more", "back", "shorter"],
)
async def test_what_does_not_begin_with_the_last_cosigned_tree_is_not_signed(
    tmp_path: Path, old: int, new: int, told: int
) -> None:
    async with watching(tmp_path / "w") as place:
        place.trusts(LOG.signer.verifier_key)
        assert await status(place, await LOG.request(0, 7)) == 200

        code, body, kind = await post(place, await LOG.request(old, new))

        assert code == told
        assert told != 409 or (body, kind) == ("7\n", "text/x.tlog.size")


async def test_another_history_is_refused_and_the_proof_of_it_is_kept(tmp_path: Path) -> None:
    async with watching(tmp_path / "w") as place:
        place.trusts(LOG.signer.verifier_key)
        assert await status(place, await LOG.request(0, 7)) == 200

        same_size = await status(place, await LOG.fork(3).request(7, 7))
        longer = await status(place, await LOG.fork(3).request(7, 12))
        honest = await status(place, await LOG.request(7, 12))

    kept = [Request.parse(path.read_bytes()) for path in (tmp_path / "w/refused").iterdir()]
    assert (same_size, longer, honest) == (409, 422, 200)
    assert {str(each.note.text) for each in kept} == {str(LOG.fork(3).checkpoint(size)) for size in (7, 12)}


async def test_what_was_seen_is_not_forgotten_when_the_witness_stops(tmp_path: Path) -> None:
    async with watching(tmp_path / "w") as place:
        place.trusts(LOG.signer.verifier_key)
        assert await status(place, await LOG.request(0, 7)) == 200
    async with watching(tmp_path / "w") as place:
        assert await status(place, await LOG.fork(3).request(0, 9)) == 409
        assert await status(place, await LOG.request(7, 9)) == 200


async def test_logs_nobody_named_and_signatures_of_other_keys_get_nothing(tmp_path: Path) -> None:
    other = KeySigner(LOG.origin, bytes(32))
    async with watching(tmp_path / "w") as place:
        assert await status(place, await LOG.request(0, 7)) == 404
        place.trusts(LOG.signer.verifier_key)
        assert await status(place, await LOG.request(0, 7, [other])) == 403
        assert await status(place, await LOG.request(0, 7, [other, LOG.signer])) == 200


async def test_after_a_change_of_keys_the_witness_takes_both_once_it_was_told(tmp_path: Path) -> None:
    new = KeySigner(LOG.origin, bytes([7]) * 32)
    async with watching(tmp_path / "w") as place:
        place.trusts(LOG.signer.verifier_key)
        assert await status(place, await LOG.request(0, 3, [LOG.signer, new])) == 200
        assert await status(place, await LOG.request(3, 5, [new])) == 403
        place.trusts(new.verifier_key)
        assert await status(place, await LOG.request(3, 5, [new])) == 200


async def test_of_many_requests_at_once_one_is_the_next(tmp_path: Path) -> None:
    async with watching(tmp_path / "w") as place:
        place.trusts(LOG.signer.verifier_key)
        told = await asyncio.gather(*[status(place, await LOG.request(0, size)) for size in range(1, 17)])

        assert sorted(told) == [200] + [409] * 15


async def test_no_changed_request_is_signed(tmp_path: Path) -> None:
    draw = random.Random(5)
    whole = await LOG.request(5, 12)
    async with watching(tmp_path / "w") as place:
        place.trusts(LOG.signer.verifier_key)
        assert await status(place, await LOG.request(0, 5)) == 200
        for _ in range(150):
            data = bytearray(whole)
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            assert await status(place, bytes(data)) in {400, 403, 404, 409, 422}
        for cut in range(0, len(whole), 11):
            assert await status(place, whole[:cut]) in {400, 403, 404}
        assert await status(place, b"old 5\n" + b"A" * 70_000) == 413
        assert await status(place, whole) == 200


@pytest.mark.parametrize(
    "head",
    ["", "old", "old x", "old 01", "old -1", "new 0", "old 0\n" + "A" * 44, "old 0\nAAAA",
     "old 0\n" + "\n".join([base64.b64encode(bytes(32)).decode()] * 64)],
)  # fmt: skip
async def test_a_request_that_is_none_is_told_so(head: str) -> None:
    tail = (await LOG.request(0, 1)).partition(b"\n\n")[2]
    with pytest.raises(NoteBroken):
        Request.parse(head.encode() + b"\n\n" + tail)


def test_a_witness_whose_memory_is_gone_does_not_start(tmp_path: Path) -> None:
    WitnessFolder.create(tmp_path / "w", NAME).close()
    (tmp_path / "w/seen").rmdir()

    with pytest.raises(WitnessUnusable):
        WitnessFolder(tmp_path / "w")


def test_two_processes_do_not_share_a_witness(tmp_path: Path) -> None:
    opened = WitnessFolder.create(tmp_path / "w", NAME)

    with pytest.raises(WitnessUnusable, match="Another process"):
        WitnessFolder(tmp_path / "w")

    opened.close()
    WitnessFolder(tmp_path / "w").close()


def test_a_witness_is_not_made_over_another(tmp_path: Path) -> None:
    WitnessFolder.create(tmp_path / "w", NAME).close()
    with pytest.raises(WitnessUnusable, match="already"):
        WitnessFolder.create(tmp_path / "w", NAME)


def test_the_time_and_every_byte_of_the_text_are_signed() -> None:
    text = str(LOG.checkpoint(7))
    cosigner = Cosigner(NAME, bytes(32))
    line = cosigner.cosign(text, 1_679_315_147)
    later = Signature(line.name, line.key_id, (1_679_315_148).to_bytes(8, "big") + line.signature[8:])

    assert cosigner.witness_key.signed_at(text, line) == 1_679_315_147
    for changed, other in [(text.replace("7", "8"), line), (text, later)]:
        with pytest.raises(NoteBroken):
            cosigner.witness_key.signed_at(changed, other)


def test_a_cosignature_has_the_form_of_published_ones() -> None:
    """The example of C2SP tlog-cosignature: 4 bytes of key id, 8 of time, 64 of Ed25519."""
    published = (
        "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="
    )
    line = Cosigner(NAME, bytes(32)).cosign(str(LOG.checkpoint(7)), 1_679_315_147)

    whole = base64.b64decode(published)
    assert len(line.key_id + line.signature) == len(whole) == 76
    assert line.signature[:8] == whole[4:12]


def test_a_witness_key_is_read_in_both_forms_that_are_published() -> None:
    key = Cosigner(NAME, bytes(32)).witness_key
    as_log = KeySigner(NAME, bytes(32)).verifier_key

    assert WitnessKey.parse(str(key)) == WitnessKey.parse(str(as_log)) == key
    assert key.key_id != as_log.key_id


@pytest.mark.parametrize("change", [("+", "-"), ("w1", "w2"), ("+B", "+C")])
def test_a_witness_key_that_is_not_whole_is_refused(change: tuple[str, str]) -> None:
    text = str(Cosigner(NAME, bytes(32)).witness_key)
    assert change[0] in text
    with pytest.raises(NoteBroken):
        WitnessKey.parse(text.replace(*change))


async def test_a_note_holds_the_log_and_its_witnesses(tmp_path: Path) -> None:
    async with watching(tmp_path / "w") as place:
        place.trusts(LOG.signer.verifier_key)
        _, body, _ = await post(place, request := await LOG.request(0, 7))

    note = parse_note(request.partition(b"\n\n")[2] + body.encode())
    assert note.signed_by([LOG.signer.verifier_key]) == [LOG.signer.verifier_key]
    assert answered(note.text, body.encode(), WitnessKey.parse(place.key)) in note.signatures
