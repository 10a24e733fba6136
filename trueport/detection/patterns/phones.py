"""Telephone numbers: candidates by shape, judged by the numbering plans that `phonenumbers` carries."""

# ruff: noqa: E501 - an expression that is broken over lines is harder to check against its format

from functools import cache
from typing import Final

import re2
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

from trueport.detection.patterns import validators
from trueport.detection.patterns.rules import DIGITS, Check, Rule

# Plans to try for a number without a country code, most callers first.
_REGIONS: Final = ("US", "GB", "DE", "FR", "ES", "IT", "AU", "IN", "NL", "CH", "AT", "BE", "SE", "BR", "JP")
_KINDS: Final = (
    "fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "voip", "personal_number", "uan", "pager",
)  # fmt: skip
_EXTENSION_BEGINS: Final = re2.compile(r"(?i)[x#,;]|ext")


def international(text: str) -> bool:
    """Whether it is a number in use somewhere, written with its country code."""
    digits = _digits(text)
    if text.lstrip().startswith("00"):
        digits = digits[2:]
    for length in (1, 2, 3):  # no country's code is the beginning of another's
        regions = COUNTRY_CODE_TO_REGION_CODE.get(int(digits[:length] or 0))
        if regions is not None:
            return _plan(regions).fullmatch(digits[length:]) is not None
    return False


def national(text: str) -> bool:
    """Whether one of the larger plans has such a number."""
    return not validators.is_sequence(text) and _plan(_REGIONS).fullmatch(_digits(text)) is not None


def _digits(text: str) -> str:
    return validators.digits_of(_EXTENSION_BEGINS.split(text, 1)[0])


def prepare() -> None:
    """Load the plans that nearly every number needs, which takes a tenth of a second, before a call waits for it."""
    _plan(_REGIONS)
    _plan(COUNTRY_CODE_TO_REGION_CODE[1])


@cache
def _plan(regions: tuple[str, ...]) -> "re2._Regexp[str]":
    """The national numbers of these regions, with or without the digit dialled before them inside the country.

    `phonenumbers` itself takes 100 µs to try fifteen regions; its own expressions in one automaton take two.
    """
    numbers: list[str] = []
    for region in regions:
        plan = PhoneMetadata.metadata_for_region(region)
        if plan is None:  # 001 stands for numbers of no country, such as satellite telephones
            continue
        kinds = (getattr(plan, kind) for kind in _KINDS)
        forms = [kind.national_number_pattern for kind in kinds if kind is not None and kind.national_number_pattern]
        if forms:
            numbers.append(
                f"(?:{plan.national_prefix})?(?:{'|'.join(forms)})" if plan.national_prefix else "|".join(forms)
            )
    return re2.compile("|".join(f"(?:{form})" for form in numbers) or r"[^\d\D]")


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
    return Rule("pii", "PHONE", reason, expression, cues, score, near, near_score, check, "", retries, DIGITS)


RULES: Final[tuple[Rule, ...]] = (
    _phone(
        "phone_international", rf"(?:\+ ?|\b00)[1-9]\d{{0,3}}(?:[ .\-/]{{0,2}}\(?\d{{1,5}}\)?){{1,7}}{_EXTENSION}", (r"\+ ?[1-9]\d?\d?[ ./(-]{0,2}\d", r"\b00[1-9]\d"),
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
