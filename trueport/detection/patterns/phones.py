"""Telephone numbers: candidates by shape, judged by the numbering plans of `phonenumbers`."""

from typing import Final

import phonenumbers

from trueport.detection.patterns import validators
from trueport.detection.patterns.rules import Check, Rule

# Plans to try for a number without a country code, most callers first.
_REGIONS: Final = ("US", "GB", "DE", "FR", "ES", "IT", "AU", "IN", "NL", "CH", "AT", "BE", "SE", "BR", "JP")


def international(text: str) -> bool:
    """Whether it is a number in use somewhere, written with its country code."""
    digits = text.strip()
    if digits.startswith("00"):
        digits = "+" + digits[2:]
    return _valid(digits, None)


def national(text: str) -> bool:
    """Whether one of the larger plans has such a number."""
    if validators.is_sequence(text):
        return False
    return any(_valid(text, region) for region in _REGIONS)


def north_american(text: str) -> bool:
    return _valid(text, "US")


def _valid(text: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, region))
    except phonenumbers.NumberParseException:
        return False


def _is_phone_length(text: str) -> bool:
    return 6 <= len(validators.digits_of(text)) <= 17 and not validators.is_sequence(text)


_EXTENSION: Final = r"(?:[ ,;]{0,2}(?:x|ext\.?|extension|#)[ .:]{0,2}\d{1,6})?"
_NAMES: Final = (
    r"phone|telephone|tel|telefon|tel[ée]fono|t[ée]l[ée]phone|t[ée]l|mobile|mobil|cell|cellphone|cell phone|fax|whatsapp|rufnummer|handy|celular|hotline|landline|"
    r"call(?: me| us| him| her| them)?|text me|reach (?:me|us|him|her)|dial|phoned|ring me|telefoonnummer|電話|电话|phone number|contact number"
)
_CUES: Final = (
    "phone", "tele?f", r"t[ée]l[ée]?", "mobil", "cell", r"\bfax", "whatsapp", "nummer", "handy", "celular", "hotline", "landline", "call", "text me", "reach",
    "dial", "ring me", "電話|电话", "contact n",
)  # fmt: skip


def _phone(
    reason: str,
    expression: str,
    cues: tuple[str, ...],
    score: float,
    near: str = "",
    near_score: float = 0.0,
    check: Check | None = None,
    *,
    retries: bool = False,
) -> Rule:
    return Rule("pii", "PHONE", reason, expression, cues, score, near, near_score, check, "", retries)


RULES: Final[tuple[Rule, ...]] = (
    _phone(
        "phone_international", rf"(?:\+ ?|\b00)[1-9]\d{{0,3}}(?:[ .\-/]{{0,2}}\(?\d{{1,5}}\)?){{1,7}}{_EXTENSION}", (r"\+ ?[1-9]", r"\b00[1-9]"),
        0.96, check=international,
    ),
    _phone(
        "phone_plus", r"\+ ?[1-9]\d{0,2}[ .\-(]{1,2}\d[\d ().\-/]{5,16}\d\b", (r"\+ ?[1-9]",), 0.7, _NAMES, 0.85, _is_phone_length,
    ),
    _phone(
        "phone_north_american", rf"(?:\+?\b1[ .\-])?(?:\([2-9]\d\d\)[ .\-]?|\b[2-9]\d\d[.\-])\d{{3}}[ .\-]\d{{4}}\b{_EXTENSION}", (r"\d{3}[ .\-]\d{4}",),
        0.75, _NAMES, 0.9,
    ),
    _phone(
        "phone_with_extension", r"(?:\+?\b\d{1,3}[.\-])?(?:\(\d{3}\) ?|\b\d{3}[.\-]?)\d{3}[.\-]?\d{4} ?(?:x|ext\.? ?)\d{2,6}\b", (r"\d{4} ?(?:x|ext)",), 0.85,
    ),
    _phone(
        "phone_long_distance", r"\b001-\d{3}-\d{3}-\d{4}\b", (r"\b001-\d{3}",), 0.85,
    ),
    _phone(
        "phone_national", r"(?:\(0?\d{1,5}\)|\b0?\d{2,5})(?:[ .\-/]{0,2}\d{2,5}){1,5}\b", _CUES, 0.0, _NAMES, 0.85, national, retries=True,
    ),
    _phone(
        "phone_named",
        rf"(?i)\b(?:{_NAMES})(?: ?(?:number|no|nr|num|#)\.?)?(?: (?:is|was|at|on|to|under|ist|est|es))?[ :.=#]{{1,4}}(?:at |on |is )?(?P<v>[+(]{{0,2}}\d[\d ().\-/]{{4,20}}\d{_EXTENSION})",
        _CUES, 0.75, check=_is_phone_length,
    ),
    _phone(
        "phone_spaced", r"(?:\(0\d{1,4}\) ?|\b0\d{1,4}[ /\-])\d{3,4}[ \-]\d{3,4}\b", (r"\b0\d{1,4}\)? ?[/\-]?\d{3}",), 0.6, _NAMES, 0.85, national,
    ),
)  # fmt: skip
