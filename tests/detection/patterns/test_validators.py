"""Check digits, against sample numbers that the issuers print and against slips of the finger."""

from collections.abc import Callable
from hashlib import sha256
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.detection.patterns import identity_numbers as numbers
from trueport.detection.patterns import randomness, validators

Check = Callable[[str], bool]

# Sample values from the authorities' own descriptions and test systems; where there is none, made by hand.
SAMPLES: Final[list[tuple[Check, str]]] = [
    (validators.credit_card, "4012 8888 8888 1881"),
    (validators.credit_card, "3782-822463-10005"),
    (validators.credit_card, "5555555555554444"),
    (validators.iban, "DE89 3704 0044 0532 0130 00"),
    (validators.iban, "GB82WEST12345698765432"),
    (validators.iban, "NO9386011117947"),
    (validators.npi, "1234567893"),
    (validators.dea_number, "AB1234563"),
    (validators.luhn, "490154203237518"),
    (validators.base58_check, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    (validators.bech32, "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
    (validators.luhn_alternating, "01123456780"),
    (numbers.german_tax_id, "86 095 742 719"),
    (numbers.french_nir, "2 55 08 14 168 025 38"),
    (numbers.spanish_dni, "12345678Z"),
    (numbers.spanish_dni, "X1234567L"),
    (numbers.italian_codice_fiscale, "RSSMRA85T10A562S"),
    (numbers.dutch_bsn, "111222333"),
    (numbers.belgian_national_number, "85.07.30-033.28"),
    (numbers.polish_pesel, "44051401359"),
    (numbers.portuguese_nif, "123456789"),
    (numbers.swedish_personnummer, "811218-9876"),
    (numbers.finnish_hetu, "131052-308T"),
    (numbers.norwegian_fodselsnummer, "29029600013"),
    (numbers.swiss_ahv, "756.9217.0769.85"),
    (numbers.austrian_insurance_number, "1237 010180"),
    (numbers.nhs_number, "943 476 5919"),
    (numbers.irish_pps, "1234567T"),
    (numbers.irish_pps, "1234567FA"),
    (numbers.canadian_sin, "130 692 544"),
    (numbers.brazilian_cpf, "111.444.777-35"),
    (numbers.brazilian_cnpj, "11.222.333/0001-81"),
    (numbers.indian_aadhaar, "9999 4105 7058"),
    (numbers.australian_tfn, "123 456 782"),
    (numbers.australian_abn, "51 824 753 556"),
    (numbers.australian_medicare, "2123 45670 1"),
    (numbers.south_african_id, "800101 5009 087"),
    (numbers.chinese_resident_id, "11010519491231002X"),
    (numbers.japanese_my_number, "1234 5678 9018"),
]


def with_digit(text: str, place: int, shift: int) -> str:
    """The text with its digit at this place moved on by `shift`."""
    return text[:place] + str((int(text[place]) + shift) % 10) + text[place + 1 :]


def name(value: object) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("check", "sample"), SAMPLES, ids=name)
def test_the_sample_number_is_taken(check: Check, sample: str) -> None:
    assert check(sample)


@pytest.mark.parametrize(("check", "sample"), SAMPLES, ids=name)
def test_a_slipped_digit_is_nearly_always_noticed(check: Check, sample: str) -> None:
    places = [i for i, char in enumerate(sample) if char.isdigit()]
    slips = [with_digit(sample, place, shift) for place in places for shift in range(1, 10)]
    if check is numbers.australian_medicare:  # its card and issue numbers come after the check digit
        slips = [with_digit(sample, place, shift) for place in places[:9] for shift in range(1, 10)]

    taken = [slip for slip in slips if check(slip)]

    assert len(taken) <= len(slips) * 0.05


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (validators.credit_card, "4012 8888 8888 1882"),
        (validators.credit_card, "9012345678901233"),  # no scheme begins with 90
        (validators.credit_card, "0000 0000 0000 0000"),
        (validators.iban, "DE89 3704 0044 0532 0130"),
        (validators.iban, "QQ89 3704 0044 0532 0130 00"),
        (validators.us_ssn, "000-12-3456"),
        (validators.us_ssn, "666-12-3456"),
        (validators.us_ssn, "900-12-3456"),
        (validators.us_ssn, "123-00-4567"),
        (validators.us_ssn, "123-45-0000"),
        (validators.us_ssn, "078-05-1120"),
        (validators.ip_address_public, "10.0.0.1"),
        (validators.ip_address_public, "192.168.1.1"),
        (validators.ip_address_public, "203.0.113.9"),
        (validators.ip_address, "127.0.0.1"),
        (validators.ip_address, "0.0.0.0"),
        (validators.ip_address, "1.2.3.400"),
        (validators.ipv6_address, "a::b"),
        (validators.ipv6_address, "12:30:45"),
        (validators.ipv6_address, "::1"),
        (validators.mac_address, "ff:ff:ff:ff:ff:ff"),
        (validators.is_date, "01/02/1634"),
        (numbers.british_nino, "GB123456A"),
        (numbers.us_itin, "900-12-3456"),
        (numbers.us_ein, "00-1234567"),
        (numbers.danish_cpr, "310299-1234"),
        (numbers.korean_rrn, "901301-1234568"),
        (numbers.chinese_resident_id, "110105194913310021"),
        (numbers.brazilian_cpf, "111.111.111-11"),
        (numbers.indian_pan, "AAAZA1234A"),
        (numbers.french_nir, "2 55 13 14 168 025 38"),
    ],
    ids=name,
)
def test_what_was_never_issued_is_refused(check: Check, text: str) -> None:
    assert not check(text)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (validators.us_ssn, "536-90-4399"),
        (validators.ip_address_public, "8.8.4.4"),
        (validators.ipv6_address, "2001:db8:85a3::8a2e:370:7334"),
        (validators.mac_address, "00:1B:44:11:3A:B7"),
        (numbers.british_nino, "AB123456C"),
        (numbers.us_itin, "900-70-3456"),
        (numbers.us_ein, "12-3456789"),
        (numbers.danish_cpr, "211062-5629"),
        (numbers.korean_rrn, "251231-3123456"),  # from 2020 on there is no check digit
    ],
    ids=name,
)
def test_what_is_issued_is_taken(check: Check, text: str) -> None:
    assert check(text)


def test_a_korean_number_from_before_2020_needs_its_check_digit() -> None:
    body = "800101123456"
    total = sum(int(digit) * weight for digit, weight in zip(body, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=True))
    last = (11 - total % 11) % 10

    assert numbers.korean_rrn(f"800101-123456{last}")
    assert not numbers.korean_rrn(f"800101-123456{(last + 1) % 10}")


@given(st.integers(0, 10**15))
def test_luhn_takes_exactly_one_last_digit(body: int) -> None:
    assert sum(validators.luhn(f"{body}{digit}") for digit in range(10)) == 1


@given(st.integers(10**10, 10**11 - 1), st.integers(0, 9))
def test_verhoeff_notices_two_digits_that_changed_places(body: int, place: int) -> None:
    (whole,) = [f"{body}{digit}" for digit in range(10) if numbers.verhoeff(f"{body}{digit}")]
    swapped = whole[:place] + whole[place + 1] + whole[place] + whole[place + 2 :]

    assert numbers.verhoeff(swapped) == (swapped == whole)


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=18, max_size=18))
def test_iban_check_digits_are_found_by_their_definition(bban: str) -> None:
    rest = 98 - int("".join(str(int(char, 36)) for char in f"{bban}DE00")) % 97

    assert validators.iban(f"DE{rest:02}{bban}")


@given(st.binary(min_size=21, max_size=21))
def test_a_base58_address_is_taken_and_its_neighbour_is_not(payload: bytes) -> None:
    raw = b"\x00" + payload[1:]
    raw += sha256(sha256(raw).digest()).digest()[:4]
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = alphabet[digit] + text
    text = "1" * (len(raw) - len(raw.lstrip(b"\x00"))) + text

    assert validators.base58_check(text)
    assert not validators.base58_check(text[:-1] + ("2" if text[-1] != "2" else "3"))


ALL_CHECKS: Final = sorted({check for check, _ in SAMPLES}, key=name)


@given(st.text(max_size=30))
def test_no_check_raises_on_a_number_of_any_length(text: str) -> None:
    digits = "".join(char for char in text if char.isdigit() and char.isascii())
    for check in (validators.luhn, validators.credit_card, validators.iban, validators.us_ssn, validators.ip_address,
                  validators.ipv6_address, validators.mac_address, validators.npi, validators.dea_number,
                  validators.is_date, validators.is_sequence):  # fmt: skip
        check(digits)


def test_entropy_counts_bits_a_character() -> None:
    assert randomness.entropy("") == 0.0
    assert randomness.entropy("aaaa") == 0.0
    assert randomness.entropy("abcd") == 2.0


@pytest.mark.parametrize(
    "text", ["your-api-key", "xxxxxxxxxxxx", "EXAMPLEKEY123", "${TOKEN}", "<token>", "aaaaaaaaaaaa1"]
)
def test_a_placeholder_is_known(text: str) -> None:
    assert randomness.is_placeholder(text)


@pytest.mark.parametrize("text", ["deploy-2024-prod", "123e4567-e89b-12d3-a456-426614174000", "onlyletters", "1234567"])
def test_a_name_or_identifier_is_not_opaque(text: str) -> None:
    assert not randomness.is_opaque(text)
