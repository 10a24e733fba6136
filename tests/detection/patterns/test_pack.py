"""What the rules find in texts as people and programs write them, and what they leave alone.

Numbers are made here from their checksums and tokens are put together from parts: none of them belongs to anybody.
"""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueport.detection.patterns.pack import RULES, PatternDetector, strongest
from trueport.detection.types import Finding, Passage, Reading

DETECTOR = PatternDetector()
RANDOM = Random(20_261_123)


def letters(count: int, alphabet: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") -> str:
    return "".join(RANDOM.choice(alphabet) for _ in range(count))


def digits(count: int) -> str:
    return letters(count, "0123456789")


def luhn(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return body + str(-total % 10)


def iban(country: str, account: str) -> str:
    number = int("".join(str(int(char, 36)) for char in f"{account}{country}00"))
    return f"{country}{98 - number % 97:02d}{account}"


CARD = luhn("453201" + "511283036")
ACCOUNT = iban("DE", "370400440532013000")


async def read(text: str) -> Reading:
    [reading] = await DETECTOR.read([Passage(text)], DETECTOR.categories)
    return reading


async def found(text: str, category: str) -> list[tuple[str, str]]:
    return [(one.type, text[one.start : one.end]) for one in (await read(text)).findings if one.category == category]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("Write to ann.lee+x@mail.example.org, please.", "EMAIL", "ann.lee+x@mail.example.org"),
        (f"My card is {CARD}.", "CREDIT_CARD", CARD),
        (f"card {CARD[:4]} {CARD[4:8]} {CARD[8:12]} {CARD[12:]} exp 12/29", "CREDIT_CARD",
         f"{CARD[:4]} {CARD[4:8]} {CARD[8:12]} {CARD[12:]}"),
        (f"Pay to {ACCOUNT} today", "IBAN", ACCOUNT),
        ("SSN: 219-09-9998", "SSN", "219-09-9998"),
        ("call me at +49 30 901820 tonight", "PHONE", "+49 30 901820"),
        ("it came from 198.51.100.23", "IP_ADDRESS", "198.51.100.23"),
        ("🙂 naïve: ann@mail.example.org", "EMAIL", "ann@mail.example.org"),
    ],
)  # fmt: skip
async def test_personal_data_is_found_where_it_stands(text: str, kind: str, value: str) -> None:
    assert (kind, value) in await found(text, "pii")


@pytest.mark.parametrize(
    "text",
    [
        f"order {CARD[:-1]}{(int(CARD[-1]) + 1) % 10}",
        f"Pay to {ACCOUNT[:2]}{(int(ACCOUNT[2:4]) + 1) % 97:02d}{ACCOUNT[4:]} today",
        "SSN: 000-12-3456",
        "version 1.2.3.4.5 of the library",
        "meet at 10:30 in room 2045",
        "def total(items): return sum(item.price for item in items)",
        "What is the capital of France, and how many people live there?",
        "用户登录后可以查看订单状态。",
    ],
    ids=["card", "iban", "ssn", "version", "time", "code", "question", "chinese"],
)
async def test_what_only_looks_like_personal_data_is_left_alone(text: str) -> None:
    assert [one for one in (await read(text)).findings if one.category == "pii" and one.score >= 0.5] == []


@pytest.mark.parametrize(
    "secret",
    [
        "AKIA" + letters(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
        "sk_live_" + letters(24),
        "xoxb-" + digits(12) + "-" + digits(12) + "-" + letters(24),
        "AIza" + letters(35),
        "glpat-" + letters(20),
        "hf_" + letters(34, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        "SG." + letters(22) + "." + letters(43),
    ],
    ids=["aws", "stripe", "slack", "google", "gitlab", "hugging face", "sendgrid"],
)
async def test_tokens_of_vendors_are_found(secret: str) -> None:
    for text in (f"key: {secret}", f'{{"token": "{secret}"}}', f"curl -H 'Authorization: {secret}' x"):
        reading = await read(text)
        covered = {at for one in reading.findings if one.category == "secrets" for at in range(one.start, one.end)}
        assert reading.scores["secrets"] >= 0.5
        assert set(range(text.index(secret), text.index(secret) + len(secret))) <= covered


async def test_a_private_key_is_covered_to_its_end() -> None:
    body = "\n".join(letters(64) for _ in range(20))
    text = f"here:\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\nbye"

    [(_, value)] = [one for one in await found(text, "secrets") if one[0] == "PRIVATE_KEY"]

    assert body in value


@pytest.mark.parametrize(
    "text",
    [
        "Use your-api-key-here as the key",
        "api_key = os.environ['API_KEY']",
        "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
        "id 123e4567-e89b-12d3-a456-426614174000",
        "password: ********",
    ],
)
async def test_what_only_looks_like_a_secret_is_left_alone(text: str) -> None:
    assert [one for one in (await read(text)).findings if one.category == "secrets" and one.score >= 0.5] == []


async def test_every_category_that_was_wanted_has_a_score() -> None:
    [reading] = await DETECTOR.read([Passage("")], DETECTOR.categories)

    assert reading.scores == dict.fromkeys(DETECTOR.categories, 0.0)
    assert reading.findings == ()


def test_it_serves_what_it_has_rules_for_and_nothing_else() -> None:
    assert DETECTOR.categories == {rule.category for rule in RULES}


def test_reasons_name_one_rule_each() -> None:
    names = [(rule.category, rule.reason) for rule in RULES]

    assert len(names) == len(set(names))


async def test_a_long_text_is_read_like_a_short_one() -> None:
    filler = "The quick brown fox jumps over the lazy dog. " * 1_000
    text = f"{filler}ann@mail.example.org {filler}"

    [(kind, value)] = await found(text, "pii")

    assert (kind, value) == ("EMAIL", "ann@mail.example.org")


PARTS = ["ann@mail.example.org", CARD, ACCOUNT, "key: ", "AKIA" + letters(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
         " ", "\n", "🙂", "+49 30 901820", "word ", "198.51.100.23"]  # fmt: skip


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
async def test_findings_lie_within_the_text_and_the_best_of_each_place_stays(text: str) -> None:
    reading = await read(text)

    assert all(0 <= one.start < one.end <= len(text) for one in reading.findings)
    assert strongest(reading.findings) == reading.findings


@given(st.text(max_size=200))
async def test_no_text_is_too_odd_to_be_read(text: str) -> None:
    assert (await read(text)).scores.keys() == DETECTOR.categories


def test_of_nested_findings_the_more_certain_one_stays() -> None:
    inner = Finding("pii", "PHONE", 3, 9, 0.5, "patterns", "v")
    outer = Finding("pii", "IBAN", 0, 20, 0.9, "patterns", "v")
    other = Finding("secrets", "KEY", 3, 9, 0.4, "patterns", "v")

    assert strongest([inner, outer, other]) == (outer, other)
