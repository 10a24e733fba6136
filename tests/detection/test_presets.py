"""Presets: what they unfold into, with which changes, and that what they name exists."""

from functools import cache
from typing import Any

import pytest

from trueport.detection.countries import COUNTRIES, country_of
from trueport.detection.patterns.pack import RULES, PatternDetector
from trueport.detection.policy import (
    Context,
    Judged,
    PolicySet,
    UnknownPreset,
    compile_policy,
    presets,
    problems_of,
    read_policy,
    unfold,
)
from trueport.detection.types import CATEGORIES, Finding, Passage

# What the token head of the embedded model finds.
OF_MODELS = {"PERSON", "LOCATION", "ADDRESS", "ORG"}
CALL = Context("prod", "key_a")
# One number for each country, valid by its check digits; none is anybody's.
NUMBERS = {
    "de": "Steuer-ID 86 095 742 719",
    "gb": "National Insurance AB 12 34 56 C",
    "us": "SSN 536-22-8145",
    "es": "DNI 12345678Z",
    "fr": "NIR 2 55 08 14 168 025 38",
    "it": "codice fiscale RSSMRA85T10A562S",
    "nl": "BSN 111222333",
    "pl": "PESEL 44051401359",
    "br": "CPF 529.982.247-25",
    "in": "PAN ABCPE1234F",
    "au": "TFN 123 456 782",
    "ca": "social insurance number 130 692 544",
    "jp": "マイナンバー 1234 5678 9018",
}


@cache
def patterns() -> PatternDetector:
    return PatternDetector()


def compiled(*entries: dict[str, Any]) -> PolicySet:
    return PolicySet(
        tuple(compile_policy(f"pol_{number}", 1, read_policy(one)) for number, one in enumerate(unfold(entries)))
    )


async def redacted(policies: PolicySet, text: str) -> list[str]:
    """The stretches of a user's text that go."""
    active = policies.for_call("input", CALL)
    passage = Passage(text)
    detector = patterns()
    (reading,) = await detector.read([passage], active.wanted & detector.categories)
    verdict = active.decide([Judged("text", passage, reading)])
    return [text[span.start : span.end] for span in verdict.redactions(0)]


@pytest.mark.parametrize("name", list(presets()))
def test_every_preset_can_be_applied_as_it_is(name: str) -> None:
    assert problems_of([{"preset": name}]) == []
    assert presets()[name].description


def test_the_presets_that_are_promised_are_there() -> None:
    assert presets().keys() >= {"strict", "balanced", "monitor", "secrets", "pci", "hipaa", "gdpr"}
    assert presets().keys() >= {f"pii-{code}" for code in NUMBERS}
    assert {f"pii-{country.lower()}" for country in COUNTRIES} <= presets().keys()


def test_every_type_a_preset_names_is_one_that_something_finds() -> None:
    known = OF_MODELS | {rule.type for rule in RULES}
    named = {
        kind for policy in unfold([{"preset": name} for name in presets()]) for kind in policy["when"].get("types", [])
    }

    assert named - known == set()


def test_every_rule_for_the_numbers_of_a_state_says_whose_they_are() -> None:
    national = {"NATIONAL_ID", "TAX_ID", "SSN", "NHS_NUMBER", "MEDICARE_NUMBER"}
    findings = [Finding(rule.category, rule.type, 0, 1, 1.0, "patterns", "1", rule.reason) for rule in RULES]

    assert {one.reason for one in findings if one.type in national and country_of(one) is None} == set()
    others = {"EMAIL", "PHONE", "CREDIT_CARD", "IBAN", "IP_ADDRESS", "DATE_OF_BIRTH", "CRYPTO_WALLET"}
    assert {one.reason for one in findings if one.type in others and country_of(one) is not None} == set()


@pytest.mark.parametrize("country", list(NUMBERS))
async def test_the_pack_of_a_country_takes_its_own_numbers_and_no_other_country_s(country: str) -> None:
    policies = compiled({"preset": f"pii-{country}"})

    taken = {code for code, text in NUMBERS.items() if await redacted(policies, f"My number: {text}.")}

    assert taken == {country}


async def test_the_pack_of_any_country_takes_what_belongs_to_none() -> None:
    policies = compiled({"preset": "pii-jp"})

    assert await redacted(policies, "Write to ann@example.org") == ["ann@example.org"]


async def test_a_country_s_types_can_be_looked_for_beside_another_s() -> None:
    policies = compiled({"preset": "pii-de", "when": {"countries": ["de", "us"], "types": ["SSN", "TAX_ID"]}})

    assert await redacted(policies, f"{NUMBERS['de']}, {NUMBERS['us']}, {NUMBERS['au']}") == [
        "86 095 742 719",
        "536-22-8145",
    ]


async def test_the_card_pack_takes_the_number_and_blocks_the_code() -> None:
    active = compiled({"preset": "pci"}).for_call("input", CALL)
    detector = patterns()

    async def action(text: str) -> str:
        (reading,) = await detector.read([Passage(text)], active.wanted & detector.categories)
        return active.decide([Judged("text", Passage(text), reading)]).action

    assert await action("card 4111 1111 1111 1111") == "redact"
    assert await action("card 4111 1111 1111 1111, cvv 123") == "block"
    assert await action("the card is in the drawer") == "allow"


def test_members_of_an_entry_come_before_the_preset_s_own() -> None:
    found = unfold([{"preset": "hipaa", "mode": "shadow", "environments": ["prod"]}, {"preset": "secrets"}])

    assert {policy.get("mode") for policy in found[:3]} == {"shadow"}
    assert found[0]["environments"] == ["prod"]
    assert found[0]["name"] == "hipaa: identifiers of patients"
    assert found[3] == {
        "name": "secrets: passwords, keys and tokens",
        "when": {"category": "secrets"},
        "action": "block",
    }


def test_one_member_of_when_can_be_changed_by_itself() -> None:
    [narrower] = unfold([{"preset": "secrets", "when": {"min_score": 0.9}}])
    attacks = unfold([{"preset": "strict", "when": {"min_score": 0.9}}])[2]

    assert narrower["when"] == {"category": "secrets", "min_score": 0.9}
    # A number takes the place of a band.
    assert attacks["when"] == {
        "category": ["prompt_injection", "jailbreak", "indirect_injection"],
        "min_score": 0.9,
    }


def test_a_preset_that_only_flags_has_nothing_to_restore() -> None:
    assert problems_of([{"preset": "balanced", "action": "flag"}]) == []
    assert problems_of([{"preset": "balanced", "on": ["output"]}]) == []


def test_a_preset_can_be_there_twice_under_names_of_its_own() -> None:
    twice: list[dict[str, Any]] = [{"preset": "pci"}, {"preset": "pci", "environments": ["dev"]}]

    assert len(problems_of(twice)) == 2
    assert problems_of([twice[0], {**twice[1], "name": "cards in dev"}]) == []
    assert unfold([{"preset": "secrets", "name": "keys"}])[0]["name"] == "keys"


def test_an_unknown_preset_is_told_with_those_there_are() -> None:
    [problem] = problems_of([{"preset": "gentle"}])

    assert problem.startswith("policies 1: there is no preset 'gentle'; known are strict, balanced, monitor,")
    assert "pii-de" in problem
    with pytest.raises(UnknownPreset):
        unfold([{"preset": 7}])


def test_what_is_wrong_with_a_change_is_told_with_the_policy_it_is_about() -> None:
    problems = problems_of([{"preset": "strict", "action": "redact"}])

    assert problems == [
        "policies 1 ('strict: content that cannot be read'): content that cannot be read cannot be redacted: "
        "use block, flag or allow."
    ]


def test_the_strict_preset_looks_for_everything() -> None:
    assert compiled({"preset": "strict"}).for_call("input", CALL).wanted == set(CATEGORIES) - {"custom"}
