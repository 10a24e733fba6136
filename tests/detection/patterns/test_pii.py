"""Personal and health data: one row a rule, with values made by the checksum, and the near misses beside them."""

from typing import Final

import pytest

from trueport.detection.patterns import phi, pii
from trueport.detection.patterns.rules import Match, RuleBook
from trueport.detection.types import Category

BOOK: Final = RuleBook((*pii.RULES, *phi.RULES))
CATEGORIES: Final[frozenset[Category]] = frozenset({"pii", "phi"})

# Reason code, text before the value, the value, text behind it.
FOUND: Final[list[tuple[str, str, str, str]]] = [
    ("email", "Write to ", "jane.doe+shop@mail.example.org", ", please."),
    ("email", "mailto:", "o'neil@example.co.uk", ""),
    ("email", "Grüße an <", "jane@example.org", ">"),
    ("email_spelled_out", "write to ", "jane.doe (at) example (dot) org", " soon"),
    ("email_beyond_ascii", "an ", "jürgen@bücher.example", " senden"),
    ("card_luhn", "my card ", "4012 8888 8888 1881", " expires soon"),
    ("card_luhn", "room 12 ", "3782-822463-10005", "."),
    ("card_named", "credit card number ", "9012345678901238", " was refused"),
    ("card_security_code", "exp 04/27 cvv: ", "123", ""),
    ("iban_mod97", "transfer to ", "DE89 3704 0044 0532 0130 00", " today"),
    ("bank_account_named", "account number: ", "12345678", " at the branch"),
    ("us_ssn", "", "536-90-4399", " is on file"),
    ("us_ssn_bare", "my ssn is ", "536904399", "."),
    ("ipv4_public", "logged in from ", "8.8.4.4", "."),
    ("ipv4_private", "on ", "10.1.2.3", ", port 80"),
    ("ipv6", "client ", "2001:db8:85a3::8a2e:370:7334", " asks"),
    ("mac_address", "device ", "00:1B:44:11:3A:B7", " online"),
    ("imei", "IMEI ", "490154203237518", "."),
    ("vin", "VIN: ", "1M8GDM9AXKP042788", "."),
    ("passport", "passport number ", "C01X00T47", "."),
    ("driver_license", "driver's license ", "D1234567", "."),
    ("uk_driving_licence", "holder ", "MORGA657054SM9IJ", " drives"),
    ("date_of_birth", "DOB: ", "04/07/1985", ""),
    ("date_of_birth", "She was born on ", "7 April 1985", " in Leeds"),
    ("date_of_birth", "geboren am ", "07.04.1985", ""),
    ("street_address", "I live at ", "742 Evergreen Terrace, Springfield, IL 62704", ""),
    ("po_box", "to ", "P.O. Box 1234", "."),
    ("unit_of_address", "7 Elm Road\n", "Apt. 12\nSpringfield", ""),
    ("military_address", "", "PSC 1234, Box 5678\nAPO AE 09123", ""),
    ("city_state_zip", "ship to ", "Springfield, IL 62704", ""),
    ("german_address", "Ich wohne in der ", "Lindenstraße 12, 10969 Berlin", "."),
    ("romance_address", "J'habite ", "12 rue de la Paix", "."),
    ("uk_postcode", "my address ends with ", "SW1A 1AA", ""),
    ("phone_international", "ring ", "+49 30 901820", " please"),
    ("phone_international", "ring ", "+1 (212) 555-2368", " please"),
    ("phone_plus", "call ", "+7 812 000 11 22", " please"),
    ("phone_north_american", "at ", "(212) 555-2368", "."),
    ("phone_with_extension", "at ", "212-555-2368x123", "."),
    ("phone_long_distance", "at ", "001-212-555-2368", "."),
    ("phone_national", "my phone: ", "030 901820", "."),
    ("phone_named", "phone: ", "5551234", "."),
    ("phone_spaced", "office ", "(030) 9018 2000", "."),
    ("de_tax_id", "Steuer-ID: ", "86 095 742 719", ""),
    ("fr_nir", "assuré ", "2 55 08 14 168 025 38", ""),
    ("es_dni", "con DNI ", "12345678Z", ""),
    ("it_codice_fiscale", "cliente ", "RSSMRA85T10A562S", ""),
    ("nl_bsn", "BSN ", "111222333", ""),
    ("be_national_number", "rijksregisternummer ", "85073003328", ""),
    ("be_national_number_written", "", "85.07.30-033.28", ""),
    ("pl_pesel", "PESEL ", "44051401359", ""),
    ("pt_nif", "NIF: ", "123456789", ""),
    ("se_personnummer", "person ", "811218-9876", ""),
    ("fi_hetu", "asiakas ", "131052-308T", ""),
    ("dk_cpr", "CPR ", "211062-5629", ""),
    ("no_fodselsnummer", "fødselsnummer ", "29029600013", ""),
    ("ch_ahv", "", "756.9217.0769.85", ""),
    ("at_insurance_number", "SVNR ", "1237 010180", ""),
    ("uk_nino", "staff ", "AB 12 34 56 C", ""),
    ("uk_nhs_number", "NHS number ", "943 476 5919", ""),
    ("uk_utr", "UTR ", "12345 67890", ""),
    ("ie_pps", "PPS ", "1234567T", ""),
    ("us_itin", "ITIN ", "900-70-3456", ""),
    ("us_ein", "EIN ", "12-3456789", ""),
    ("ca_sin", "SIN: ", "130 692 544", ""),
    ("br_cpf", "cliente ", "111.444.777-35", ""),
    ("br_cpf_bare", "CPF ", "11144477735", ""),
    ("br_cnpj", "empresa ", "11.222.333/0001-81", ""),
    ("in_aadhaar", "Aadhaar ", "9999 4105 7058", ""),
    ("in_pan", "PAN ", "ABCPE1234F", ""),
    ("au_tfn", "TFN ", "123 456 782", ""),
    ("au_abn", "ABN ", "51 824 753 556", ""),
    ("au_medicare", "Medicare ", "2123 45670 1", ""),
    ("za_id", "ID number ", "8001015009087", ""),
    ("cn_resident_id", "身份证 ", "11010519491231002X", ""),
    ("jp_my_number", "My Number ", "1234 5678 9018", ""),
    ("kr_rrn", "", "251231-3123456", ""),
    ("bitcoin_base58", "pay ", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", ""),
    ("bitcoin_bech32", "pay ", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", ""),
    ("litecoin_base58", "pay ", "LaMT348PWRnrqeeWArpwQPbuanpXDZGEUz", ""),
    ("dogecoin_base58", "pay ", "DBXu2kgc3xtvCUWFcxFE3r9hEYgmuaaCyD", ""),
    ("tron_base58", "pay ", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", ""),
    ("ethereum", "wallet ", "0x52908400098527886E0F7030069857D2E4169EE7", ""),
    ("ripple", "my XRP wallet ", "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh", ""),
    ("monero", "pay ", "4" + "7Ab9" * 23 + "xy", ""),
    ("solana", "solana wallet ", "7EcDhSYGxXyscszYEp35KHN8vvw3svAuLKTzXwCFLtV7", ""),
    ("medical_record_number", "MRN: ", "00482913", ""),
    ("icd_10", "diagnosis ", "E11.9", " confirmed"),
    ("us_npi", "NPI ", "1234567893", ""),
    ("us_dea_number", "DEA number ", "AB1234563", ""),
    ("us_medicare_beneficiary", "Medicare ID ", "1EG4-TE5-MK73", ""),
    ("health_insurance_id", "health insurance number ", "XJB1234567", ""),
    ("de_health_insurance_id", "KVNR ", "A123456780", ""),
    ("phi_nhs_number", "NHS number ", "9434765919", ""),
    ("phi_au_medicare", "Medicare ", "2123 45670 1", ""),
    ("prescription_number", "Rx # ", "4829137", ""),
    ("us_drug_code", "NDC ", "0777-3105-02", ""),
]  # fmt: skip


def found(text: str, reason: str | None = None) -> list[Match]:
    return [m for m in BOOK.find(text, CATEGORIES) if reason in {None, m.rule.reason}]


def certain(text: str) -> list[str]:
    return [m.rule.reason for m in found(text) if m.score >= 0.5]


@pytest.mark.parametrize(("reason", "before", "value", "after"), FOUND, ids=[row[0] for row in FOUND])
def test_a_value_is_found_exactly_where_it_stands(reason: str, before: str, value: str, after: str) -> None:
    spans = {(m.start, m.end) for m in found(before + value + after, reason)}

    assert (len(before), len(before) + len(value)) in spans


def test_every_rule_has_an_example() -> None:
    assert {rule.reason for rule in (*pii.RULES, *phi.RULES)} == {row[0] for row in FOUND}


def test_no_two_rules_share_a_reason_code() -> None:
    reasons = [rule.reason for rule in (*pii.RULES, *phi.RULES)]

    assert len(reasons) == len(set(reasons))


WITH_CHECK_DIGITS: Final = {
    "card_luhn", "card_named", "iban_mod97", "de_tax_id", "fr_nir", "es_dni", "it_codice_fiscale", "nl_bsn", "pl_pesel",
    "pt_nif", "fi_hetu", "ch_ahv", "be_national_number_written", "se_personnummer", "no_fodselsnummer", "imei", "za_id",
    "at_insurance_number", "uk_nhs_number", "ie_pps", "ca_sin", "br_cnpj", "in_aadhaar", "au_tfn", "au_abn", "br_cpf",
    "cn_resident_id", "jp_my_number", "us_npi", "us_dea_number", "bitcoin_base58", "bitcoin_bech32", "litecoin_base58",
    "dogecoin_base58", "tron_base58",
}  # fmt: skip
CHECKED: Final = [row for row in FOUND if row[0] in WITH_CHECK_DIGITS]


@pytest.mark.parametrize(("reason", "before", "value", "after"), CHECKED, ids=[row[0] for row in CHECKED])
def test_a_value_with_a_wrong_digit_is_not_found(reason: str, before: str, value: str, after: str) -> None:
    place = max(i for i, char in enumerate(value) if char.isdigit() and 2 < i < len(value) - 1)
    spoiled = value[:place] + str((int(value[place]) + 1) % 10) + value[place + 1 :]
    if reason.startswith("bitcoin") or reason.endswith("base58"):
        spoiled = value[:10] + ("q" if value[10] != "q" else "p") + value[11:]

    assert not found(before + spoiled + after, reason)


@pytest.mark.parametrize(
    "text",
    [
        "The year 2024 had 366 days and 12 months.",
        "Order 1234567890 ships in 3-5 days.",
        "Version 1.2.3.4-beta of the library, see release v10.4.1.2",
        "127.0.0.1 and 0.0.0.0 are special",
        "std::vector<int> a; x::y::z",
        "at 12:30:45 on 2024-01-02",
        "The ratio is 3.14159265358979",
        "pi is about 22/7, e about 2.71828",
        "decorators such as @property and @dataclass",
        "user@localhost",
        "icon@2x.png",
        "We sold 1,234,567 units for $9,876,543.21",
        "A1 paper is larger than A2; use B12 for energy.",
        "born to be wild in the summer of 69",
        "ISBN 978-3-16-148410-0",
        "SELECT id FROM t WHERE id IN (100000001, 100000002)",
        "call me maybe, at 5 or 6",
        "the way of the court, 3 of them",
        "12345678901234567890",
        "#ff00aa #00ff00",
        "Fibonacci: 1 1 2 3 5 8 13 21 34 55 89 144 233 377",
    ],
)
def test_ordinary_text_is_let_be(text: str) -> None:
    assert certain(text) == []


def test_a_word_beside_a_number_raises_its_score() -> None:
    alone = max(m.score for m in found("it is 536-90-4399", "us_ssn"))
    named = max(m.score for m in found("ssn 536-90-4399", "us_ssn"))

    assert alone < named


def test_a_card_behind_another_number_is_found() -> None:
    text = "1234 4012 8888 8888 1881"

    assert [(m.start, m.end) for m in found(text, "card_luhn")] == [(5, 24)]


def test_two_addresses_that_share_a_separator_are_both_found() -> None:
    assert len(found("8.8.4.4 8.8.8.8,1.1.1.1", "ipv4_public")) == 3


def test_health_words_make_the_difference_between_a_code_and_a_vitamin() -> None:
    assert certain("Vitamin B12 and seat E11") == []
    assert certain("ICD-10: E11.9") == ["icd_10"]


def test_places_are_counted_in_code_points() -> None:
    text = "🙂" * 5 + "é日本 jane@example.org"

    (match,) = found(text, "email")

    assert text[match.start : match.end] == "jane@example.org"


def test_a_lone_surrogate_moves_nothing() -> None:
    text = "\ud800\udfff jane@example.org"

    (match,) = found(text, "email")

    assert text[match.start : match.end] == "jane@example.org"
