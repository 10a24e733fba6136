"""What is lost on the way to another provider is refused or told, never lost silently."""

import importlib
import re
from pathlib import Path
from typing import get_args

import pytest

from trueport.gateway.translate import rules
from trueport.gateway.translate.model import Conversation, Media, Sampling, Text, Thinking, Turn
from trueport.gateway.translate.rules import FEATURES, NotTranslatable, ProviderSide, as_table, check

SIDES = get_args(ProviderSide)
PACKAGE = Path(rules.__file__).parent


def conversation(**members: object) -> Conversation:
    plain = Conversation("m", (Turn("user", (Text("hi"),)),))
    return Conversation(**{**{name: getattr(plain, name) for name in plain.__slots__}, **members})


def test_a_plain_conversation_loses_nothing() -> None:
    assert [check(conversation(), side) for side in SIDES] == [(), (), ()]


def test_every_feature_a_reader_notes_has_its_rule() -> None:
    noted: set[str] = set()
    for path in PACKAGE.glob("*.py"):
        module = importlib.import_module(f"trueport.gateway.translate.{path.stem}")
        noted |= set(getattr(module, "FEATURE_NAMES", ()))
        noted |= set(re.findall(r'features\.add\("([a-z_:]+)"\)', path.read_text()))

    assert noted - {feature.name for feature in FEATURES} == set()
    assert len(noted) > 25


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("feature", [feature for feature in FEATURES if feature.is_used(
    conversation(features=frozenset({feature.name})))], ids=lambda feature: str(feature.name))  # fmt: skip
def test_a_noted_feature_meets_the_verdict_of_the_table(feature: rules.Feature, side: ProviderSide) -> None:
    used = conversation(features=frozenset({feature.name}))

    if feature.on[side] == "refused":
        with pytest.raises(NotTranslatable) as refused:
            check(used, side)
        assert refused.value.fields["param"] == feature.param
    else:
        assert check(used, side) == (() if feature.on[side] == "carried" else (feature.name,))


def test_a_feature_without_a_rule_is_refused() -> None:
    with pytest.raises(NotTranslatable, match="brand_new"):
        check(conversation(features=frozenset({"brand_new"})), "google")


@pytest.mark.parametrize(
    ("sampling", "side", "dropped"),
    [
        (Sampling(top_k=3), "openai_chat", ("top_k",)),
        (Sampling(top_k=3), "google", ()),
        (Sampling(seed=0), "anthropic", ("seed",)),
        (Sampling(temperature=1.5), "anthropic", ("temperature_above_1",)),
        (Sampling(temperature=1.0), "anthropic", ()),
        (Sampling(presence_penalty=0.0), "anthropic", ()),
    ],
)
def test_what_only_tunes_is_dropped_and_told(sampling: Sampling, side: ProviderSide, dropped: tuple[str, ...]) -> None:
    assert check(conversation(sampling=sampling), side) == dropped


def test_several_answers_are_refused_where_there_is_only_one() -> None:
    several = conversation(sampling=Sampling(candidates=2))

    assert check(several, "google") == ()
    with pytest.raises(NotTranslatable, match="candidates"):
        check(several, "anthropic")


def test_sounds_go_where_they_are_heard() -> None:
    spoken = conversation(turns=(Turn("user", (Media("audio", "audio/wav", "AA=="),)),))

    assert check(spoken, "google") == ()
    with pytest.raises(NotTranslatable):
        check(spoken, "anthropic")


def test_thinking_goes_only_to_the_format_that_signed_it() -> None:
    thought = Turn("assistant", (Thinking("hm", signature="s", signed_by="anthropic"), Text("yes")))
    used = conversation(turns=(Turn("user", (Text("hi"),)), thought))

    assert check(used, "anthropic") == ()
    assert check(used, "google") == ("thinking_signed_elsewhere",)


def test_members_nobody_knows_are_told() -> None:
    assert check(conversation(unknown=("brand_new",)), "google") == ("brand_new",)


def test_the_documented_table_is_the_one_in_force() -> None:
    page = Path(__file__).parents[3] / "ui" / "docs" / "translation.md"

    assert as_table() in page.read_text()
