"""Policies to begin with: named sets, from presets.toml, that unfold into ordinary policies.

Where a list of policies has the entry `{preset: balanced, mode: shadow}`, the policies of that preset stand in its
place, each with the entry's own members over its own. They unfold when the list is applied and are stored as what
they are, so that a later version of the product changes no tenant's policies.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

PRESET: Final = "preset"
_FILE: Final = Path(__file__).parent / "presets.toml"

Members = Mapping[str, Any]
"""Of one policy, as PolicyDocument has them."""


class UnknownPreset(ValueError):
    """There is no preset of this name. The message lists those there are."""

    def __init__(self, name: object) -> None:
        known = ", ".join(presets())
        super().__init__(f"there is no preset {name!r}; known are {known}" if isinstance(name, str) else
                         f"preset is the name of one: {known}")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Preset:
    """A named set of policies, which have names of their own within it."""

    name: str
    description: str
    policies: tuple[Members, ...]

    def unfolded(self, changes: Members) -> list[dict[str, Any]]:
        """The policies with these members over their own; of `when` each member counts by itself.

        They are named after the preset, or after `name` where that is among the changes.
        """
        return [self._changed(policy, changes) for policy in self.policies]

    def _changed(self, policy: Members, changes: Members) -> dict[str, Any]:
        found: dict[str, Any] = {**policy, **changes}
        own = changes.get("when")
        if isinstance(own, Mapping):
            found["when"] = _condition(policy["when"], own)
        title = changes.get("name", self.name)
        is_alone = len(self.policies) == 1 and "name" in changes
        found["name"] = title if is_alone else f"{title}: {policy['name']}"
        can_restore = found["action"] == "redact" and "input" in found.get("on", ["input"])
        if "placeholder" not in changes and not can_restore:
            # What the preset says of placeholders goes with the redaction that was chosen against.
            found.pop("placeholder", None)
        return found


def _condition(before: Members, changes: Members) -> dict[str, Any]:
    """The condition with changes. A threshold of one kind takes the place of one of the other."""
    kept = dict(before)
    if "min_score" in changes:
        kept.pop("band", None)
    if "band" in changes:
        kept.pop("min_score", None)
    return {**kept, **changes}


@cache
def presets() -> Mapping[str, Preset]:
    """Every preset by its name."""
    book = tomllib.loads(_FILE.read_text())
    found = {
        name: Preset(name, entry["description"], tuple(entry["policies"])) for name, entry in book["presets"].items()
    }
    for code, country in book["countries"].items():
        name = f"pii-{code}"
        found[name] = Preset(
            name,
            f"Personal data of people in {country['name']}: names, addresses, accounts, and the country's own numbers, "
            "but no other country's, are taken out.",
            (_of_country(code, country, book["personal"]["types"]),),
        )
    return found


def _of_country(code: str, country: Members, personal: Sequence[str]) -> Members:
    return {
        "name": f"personal data in {country['name']}",
        "when": {
            "category": "pii",
            "types": sorted({*personal, *country["types"]}),
            "countries": [code.upper()],
        },
        "action": "redact",
    }


def preset_named(name: object) -> Preset:
    """Raises UnknownPreset."""
    found = presets().get(name) if isinstance(name, str) else None
    if found is None:
        raise UnknownPreset(name)
    return found


def unfolded(entry: Members) -> list[Members]:
    """The policies that an entry of a list stands for: those of the preset it names, else itself.

    Raises UnknownPreset.
    """
    if PRESET not in entry:
        return [entry]
    changes = {name: value for name, value in entry.items() if name != PRESET}
    return [msgspec.to_builtins(policy) for policy in preset_named(entry[PRESET]).unfolded(changes)]


def unfold(entries: Sequence[Members]) -> list[Members]:
    """The policies that a list stands for. Raises UnknownPreset."""
    return [policy for entry in entries for policy in unfolded(entry)]
