"""Signed notes and checkpoints, in the form that other logs' tools read."""

import base64
import random

import pytest

from trueport.audit.notes import (
    Checkpoint,
    KeySigner,
    NoteBroken,
    VerifierKey,
    open_checkpoint,
    parse_note,
    sign_checkpoint,
    sign_note,
)

ORIGIN = "example.com/audit/ten_1"
SUM_DB = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
"""The published key of the Go checksum database, which uses the same form."""


def signer(name: str = ORIGIN, seed: int = 1) -> KeySigner:
    return KeySigner(name, bytes([seed]) * 32)


def checkpoint(size: int = 7) -> Checkpoint:
    return Checkpoint(ORIGIN, size, bytes(range(32)))


def test_a_published_key_of_another_log_reads_and_writes_the_same() -> None:
    key = VerifierKey.parse(SUM_DB)

    assert key.name == "sum.golang.org"
    assert str(key) == SUM_DB


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sum.golang.org",
        SUM_DB.replace("033de0ae", "033de0af"),
        SUM_DB.replace("sum.golang.org", "sum.golang.com"),
        SUM_DB[:-4],
        SUM_DB.replace("+Ac4", "+Ac5"),
        SUM_DB.replace("sum.golang", "sum golang"),
    ],
)
def test_a_key_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(NoteBroken):
        VerifierKey.parse(text)


async def test_a_checkpoint_comes_back_from_the_note_that_its_log_signed() -> None:
    log = signer()
    note = await sign_checkpoint(checkpoint(), [log])

    assert open_checkpoint(str(note).encode(), ORIGIN, [log.verifier_key]) == checkpoint()
    assert str(note).startswith(f"{ORIGIN}\n7\n{base64.b64encode(bytes(range(32))).decode()}\n\n\N{EM DASH} {ORIGIN} ")


async def test_the_same_checkpoint_gets_the_same_bytes_from_everybody_with_the_key() -> None:
    assert str(await sign_checkpoint(checkpoint(), [signer()])) == str(await sign_checkpoint(checkpoint(), [signer()]))


async def test_while_keys_change_both_sign_and_either_is_enough() -> None:
    old, new = signer(seed=1), signer(seed=2)
    data = str(await sign_checkpoint(checkpoint(), [old, new])).encode()

    assert open_checkpoint(data, ORIGIN, [old.verifier_key]) == checkpoint()
    assert open_checkpoint(data, ORIGIN, [new.verifier_key]) == checkpoint()
    with pytest.raises(NoteBroken, match="None of the known keys"):
        open_checkpoint(data, ORIGIN, [signer(seed=3).verifier_key])


async def test_a_witness_signs_beside_the_log() -> None:
    log, witness = signer(), signer("witness.example", seed=9)
    note = parse_note(str(await sign_checkpoint(checkpoint(), [log, witness])).encode())

    assert note.signed_by([witness.verifier_key, log.verifier_key]) == [log.verifier_key, witness.verifier_key]


async def test_another_logs_checkpoint_is_refused_though_its_key_is_known() -> None:
    other = signer("example.com/audit/ten_2")
    note = await sign_note(f"example.com/audit/ten_2\n7\n{base64.b64encode(bytes(32)).decode()}\n", [other])

    with pytest.raises(NoteBroken, match="another log"):
        open_checkpoint(str(note).encode(), ORIGIN, [other.verifier_key])


async def test_no_single_changed_byte_of_a_note_is_accepted() -> None:
    log = signer()
    whole = str(await sign_checkpoint(checkpoint(1234), [log])).encode()
    draw = random.Random(1)

    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1 << draw.randrange(8)
        with pytest.raises(NoteBroken):
            open_checkpoint(bytes(data), ORIGIN, [log.verifier_key])


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{ORIGIN}\n",
        f"{ORIGIN}\n7\n",
        f"{ORIGIN}\n07\n{'A' * 43}=\n",
        f"{ORIGIN}\n-7\n{'A' * 43}=\n",
        f"{ORIGIN}\n\u0667\n{'A' * 43}=\n",
        f"{ORIGIN}\n7\n{'A' * 42}==\n",
        f"{ORIGIN}\n7\n{'A' * 42}B=\n",
        f"{ORIGIN}\n7\n\n",
        f"{ORIGIN}\n7\n{'A' * 43}=\n\n",
        f"{ORIGIN}\n99999999999999999\n{'A' * 43}=\n",
    ],
)
def test_a_checkpoint_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(NoteBroken):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"a\n", b"a\n\n", b"a\n\nb\n", b"a\n\n\xe2\x80\x94 name AAAA\n", b"\xff\n\n\xe2\x80\x94 n AAAAAAAA\n"],
)
def test_bytes_that_are_no_note_are_refused(data: bytes) -> None:
    with pytest.raises(NoteBroken):
        parse_note(data)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\nb"])
def test_a_log_has_a_name_that_fits_a_line(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        KeySigner(name, bytes(32))
