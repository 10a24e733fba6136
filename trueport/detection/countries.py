"""Which country a number of a person belongs to, as its rule's code says: `de_tax_id` is Germany's."""

from collections.abc import Mapping
from typing import Final

from trueport.detection.types import Category, Finding

_OF_PEOPLE: Final[frozenset[Category]] = frozenset({"pii", "phi"})
# Codes of rules where they are not the ISO 3166 code in lower case.
_ISO: Final[Mapping[str, str]] = {"uk": "GB", "nhs": "GB"}
COUNTRIES: Final[frozenset[str]] = frozenset(
    {"AT", "AU", "BE", "BR", "CA", "CH", "CN", "DE", "DK", "ES", "FI", "FR", "GB", "IE", "IN", "IT", "JP", "KR", "NL",
     "NO", "PL", "PT", "SE", "US", "ZA"}
)  # fmt: skip
"""Those with rules of their own, by ISO 3166 code."""


def country_of(finding: Finding) -> str | None:
    """The ISO 3166 code, None for what belongs to no country, such as an address of electronic mail."""
    if finding.category not in _OF_PEOPLE:
        return None
    prefix, mark, _ = finding.reason.removeprefix("phi_").partition("_")
    code = _ISO.get(prefix, prefix.upper())
    return code if mark and code in COUNTRIES else None
