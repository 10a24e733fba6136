"""Whether a value looks drawn at random, or like something a person put in its place."""

# ruff: noqa: E501 - an expression that is broken over lines is harder to check against its format

from collections import Counter
from math import log2
from typing import Final

import re2

_PLACEHOLDER: Final = re2.compile(
    r"(?i)example|sample|placeholder|dummy|fake|your[_\- ]?|my[_-]?(?:api|secret|token|key|pass)|change[_-]?(?:me|it|this)|replace"
    r"|insert|redacted|removed|hidden|masked|censored|todo|undefined|foobar|lorem|x{4}|\*{3}|\.{3}|…|-{4}|_{4}|[<>]"
    r"|\$[{(a-z_]|\{\{|%[({][a-z]|%[a-z_]+%|#\{|\{[a-z_.]+\}|012345|123456789|abcdefg|qwerty|0{8}|1{8}|a{6}|f{12}|deadbeef|\[[a-z_ ]+\]"
)
_UUID: Final = re2.compile(r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SLUG: Final = re2.compile(
    r"(?:[A-Z]?[a-z]*|[A-Z]+)\d{0,3}(?:[-_.=/:](?:(?:[A-Z]?[a-z]*|[A-Z]+)\d{0,3}|\d{1,4})){1,12}"
)
_HEX: Final = frozenset("0123456789abcdefABCDEF")


def entropy(text: str) -> float:
    """Shannon entropy of its characters, in bits each; 0.0 for an empty text."""
    return -sum(count / len(text) * log2(count / len(text)) for count in Counter(text).values())


def is_placeholder(text: str) -> bool:
    """Whether it says itself that it stands for something else, or repeats itself."""
    return _PLACEHOLDER.search(text) is not None or len(set(text)) < max(3, len(text) // 8 if len(text) < 48 else 6)


def is_uuid(text: str) -> bool:
    """An identifier of RFC 9562, which names things and opens nothing by itself."""
    return _UUID.fullmatch(text) is not None


def is_token(text: str) -> bool:
    """Random enough for the variable part of a vendor's marked token: 2.5 bits a character, and no placeholder."""
    return entropy(text) >= 2.5 and not is_placeholder(text)


def is_opaque(text: str) -> bool:
    """Random enough for a value whose name alone calls it a key: mixed characters and 3 bits each or more."""
    if is_placeholder(text) or is_uuid(text):
        return False
    has_digit = any(char.isdigit() for char in text)
    has_letter = any(char.isalpha() for char in text)
    if not (has_digit and has_letter) or _SLUG.fullmatch(text) is not None:
        return False
    return entropy(text) >= (2.8 if _HEX.issuperset(text) else 3.1)
