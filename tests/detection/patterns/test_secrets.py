"""Every vendor's token is found where it stands, and what only resembles one is not."""

import re
from typing import Final

import pytest

from tests.support.patterns import TOKEN_TEMPLATES, UUID, Example, made, named_examples, token_examples
from trueport.detection.patterns import secrets
from trueport.detection.patterns.rules import Match, RuleBook
from trueport.detection.patterns.tokens import base62_crc32
from trueport.detection.types import Category

BOOK: Final = RuleBook(secrets.RULES)
FILLER: Final = {"h": "0", "H": "0", "n": "0", "U": "X", "b": "X"}
CATEGORY: Final[frozenset[Category]] = frozenset({"secrets"})


def found(text: str, reason: str | None = None) -> list[Match]:
    return [m for m in BOOK.find(text, CATEGORY) if reason in {None, m.rule.reason} and m.score >= 0.5]


def ids(example: Example) -> str:
    return example.reason


@pytest.mark.parametrize("example", [*token_examples(), *named_examples()], ids=ids)
def test_a_credential_is_found_exactly_where_it_stands(example: Example) -> None:
    matches = [m for m in BOOK.find(example.text, CATEGORY) if m.rule.reason == example.reason]

    spans = {(m.start, m.end) for m in matches}
    assert (len(example.before), len(example.before) + len(example.value)) in spans


def test_every_rule_has_an_example() -> None:
    named = {example.reason for example in [*token_examples(), *named_examples()]} | {"trueport_key", "github_token"}

    assert {rule.reason for rule in secrets.RULES} == named


@pytest.mark.parametrize(
    "reason",
    ["github_token_unverified", "npm_token", "groq_key", "stripe_key", "databricks_token", "digitalocean_token"],
)
def test_a_token_inside_a_longer_word_is_none(reason: str) -> None:
    value = made(TOKEN_TEMPLATES[reason])

    assert not found(f"see prefix{value} there", reason)


@pytest.mark.parametrize(
    "reason",
    ["aws_access_key_id", "npm_token", "groq_key", "databricks_token", "digitalocean_token", "hugging_face_token",
     "xai_key", "perplexity_key", "replicate_token", "pulumi_token", "anthropic_key", "linear_key", "rubygems_key"],
)  # fmt: skip
def test_a_token_one_character_short_is_not_of_that_kind(reason: str) -> None:
    value = made(TOKEN_TEMPLATES[reason])

    assert not found(f"Use {value[:-1]} for it.", reason)


@pytest.mark.parametrize(
    "reason", sorted(set(TOKEN_TEMPLATES) - {"slack_webhook", "discord_webhook", "zapier_hook", "microsoft_flow_url"})
)
def test_a_placeholder_in_a_tokens_form_is_none(reason: str) -> None:
    text = re.sub(r"<(.)(\d+)>", lambda slot: FILLER.get(slot[1], "x") * int(slot[2]), TOKEN_TEMPLATES[reason])

    assert not found(f"Use {text} for it.")


def test_githubs_checksum_raises_the_score() -> None:
    body = made("<w30>")
    sound, damaged = f"gh{'p'}_{body}{base62_crc32(body)}", f"gh{'p'}_{body}{base62_crc32(body + 'x')}"

    assert max(m.score for m in found(sound)) == 0.99
    assert max(m.score for m in found(damaged)) == 0.95


def test_our_own_key_is_known_by_its_checksum() -> None:
    body = "sk-" + made("tp-<v26>-<w43>")
    key = f"{body}-{base62_crc32(body)}"

    assert [m.score for m in found(key, "trueport_key")] == [0.99]
    assert not found(f"{body}-{base62_crc32(body + 'x')}", "trueport_key")


@pytest.mark.parametrize(
    "text",
    [
        "password is incorrect, please try again",
        "The password must be at least 12 characters long.",
        "password: required",
        'password = os.environ["DB_PASSWORD"]',
        "password=$DB_PASSWORD",
        "password: ${DB_PASSWORD}",
        "password={{ vault.db }}",
        'api_key = config.get("api_key")',
        "api_key=YOUR_API_KEY_HERE",
        'token: "<your token>"',
        "secret_key = settings.SECRET_KEY",
        "api_key: xxxxxxxxxxxxxxxxxxxxxxxx",
        f"request id {made(UUID)} failed",
        f"commit {made('<h40>')} broke the build",
        f"sha256:{made('<h64>')} is the image's digest",
        "postgres://user:password@localhost/db",
        "https://example.org/path?user=a@b",
        "mysql -u root -p shop",
        "Authorization: Bearer <token>",
        "-----BEGIN PUBLIC KEY-----",
        "A pinned token bucket limits 20 requests per second.",
        "max_tokens: 4096, tokenizer: cl100k_base",
        "import secrets; secrets.token_urlsafe(32)",
        "keyboard=qwertz123",
        "The key is under the mat by door number 7.",
        "author: jane.doe-2024.example",
        "version token-parser-1.22.3",
        'tokens = {"a": 1, "b": 2}',
    ],
)
def test_what_only_speaks_of_credentials_is_let_be(text: str) -> None:
    assert [m.rule.reason for m in found(text)] == []


@pytest.mark.parametrize("word", ["password", "Passwort", "contraseña", "senha", "пароль", "密码"])
def test_a_password_is_found_under_its_name_in_other_languages(word: str) -> None:
    assert found(f"{word}: " + "Sunny" + "Day88!")


def test_a_key_goes_on_to_its_end_however_long_it_is() -> None:
    body = "\n".join(made("<s64>", seed) for seed in range(60))
    text = "x -----BEGIN PRIV" + f"ATE KEY-----\n{body}\n-----END PRIV" + "ATE KEY----- y"

    (match,) = found(text, "pem_private_key")

    assert text[match.start : match.end].startswith("-----BEGIN")
    assert text[match.end :].strip() == "y"
