"""What is too short, or told twice, and other corners of the toolbox."""

import copy

import msgspec
import pytest

from trueport.kit.crypto import DataKey, SealBroken, Sealed
from trueport.kit.ids import is_id, new_id
from trueport.kit.secret import Secret


@pytest.mark.parametrize("length", range(30))
def test_a_ciphertext_that_was_cut_short_does_not_open(length: int) -> None:
    key = DataKey.generate("dek")
    blob = key.seal(b"some text that is long enough", "here").to_bytes()

    with pytest.raises(SealBroken):
        key.open(Sealed.from_bytes(blob[:length]), "here")
    with pytest.raises(SealBroken):
        key.unwrap("dek_2", blob[:length], "here")


def test_no_two_seals_of_one_text_are_alike() -> None:
    key = DataKey.generate("dek")

    assert len({key.seal(b"same", "here").to_bytes() for _ in range(500)}) == 500


def test_a_commitment_pins_the_key_and_does_not_give_it_away() -> None:
    key = DataKey("a", b"k" * 32)

    assert key.commitment == DataKey("b", b"k" * 32).commitment
    assert key.commitment != DataKey("a", b"l" * 32).commitment
    assert len(key.commitment) == 64
    assert (b"k" * 32).hex() not in key.commitment


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_has_256_bits(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey("a", b"k" * length)


@pytest.mark.parametrize("leak", [copy.copy, copy.deepcopy, msgspec.json.encode, msgspec.msgpack.encode, vars])
def test_a_secret_is_neither_copied_nor_encoded(leak: object) -> None:
    with pytest.raises(TypeError) as refused:
        leak(Secret("canary-9e1b"))  # type: ignore[operator]  # all of them are functions of one value

    assert "canary-9e1b" not in str(refused.value)


def test_a_secret_is_masked_in_every_way_of_formatting() -> None:
    secret = Secret("canary-9e1b")

    assert "%s|%r" % (secret, secret) == "[secret]|[secret]"  # noqa: UP031 - the way logging formats
    assert "{:s<3} {!s}".format(secret, secret) == "[secret] [secret]"  # noqa: UP032 - as written by others
    assert secret == Secret("canary-9e1b")
    assert secret != "canary-9e1b"


@pytest.mark.parametrize("change", ["{}\n", " {}", "{}0", "KEY_{}", "key-{}", "key{}"])
def test_what_only_resembles_an_id_is_none(change: str) -> None:
    made = new_id("key")
    text = change.format(made if made and change in ("{}\n", " {}", "{}0") else made.removeprefix("key_"))

    assert is_id(made, "key")
    assert not is_id(text, "key")
    assert not is_id(made.upper(), "key")
    assert not is_id(made[:-1] + "w", "key")
