"""Texts from templates: `{slot}` stands for one of the slot's phrases, which may hold slots themselves."""

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from trueport.detection.training.examples import HELD_OUT_MARK

Slots = Mapping[str, Sequence[str]]

_SLOT: Final = re.compile(r"\{(\w+)\}")
_DEPTH: Final = 6


def fill(template: str, slots: Slots, random: Random) -> str:
    """The template with every slot filled. Raises KeyError for a slot that has no phrases."""
    for _ in range(_DEPTH):
        if "{" not in template:
            break
        template = _SLOT.sub(lambda match: random.choice(slots[match[1]]), template)
    return template


def texts(templates: Sequence[str], slots: Slots, count: int, random: Random) -> list[tuple[str, bool]]:
    """At most `count` different texts, templates taking turns, each with whether its template is a held-out one.

    Every seventh template is held out, so that thresholds are set on wordings that were not learned.
    """
    found: dict[str, bool] = {}
    for turn in range(count * 2):
        at = turn % len(templates)
        found.setdefault(fill(templates[at], slots, random), at % 7 == 6)
        if len(found) == count:
            break
    return list(found.items())


def family(name: str, is_held_out: bool) -> str:
    """The family of a text made by the generator `name`."""
    return f"template: {name}{HELD_OUT_MARK if is_held_out else ''}"
