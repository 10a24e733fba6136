"""Checksums and number rules of published identifiers. Pure functions: text in, whether it can be one out.

They take what a rule matched, separators included, and never raise on it.
"""

import ipaddress
from hashlib import sha256
from itertools import pairwise
from typing import Final


def digits_of(text: str) -> str:
    """The ASCII digits of a text."""
    return "".join(char for char in text if "0" <= char <= "9")


def luhn(text: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for place, char in enumerate(reversed(digits_of(text))):
        digit = int(char)
        if place % 2:
            digit = digit * 2 - 9 if digit > 4 else digit * 2
        total += digit
    return total % 10 == 0


# First digits and lengths of the large card schemes, as they publish them.
_CARD_SCHEMES: Final[tuple[tuple[int, int, frozenset[int]], ...]] = (
    (4, 4, frozenset({13, 16, 19})),  # Visa
    (51, 55, frozenset({16})),  # Mastercard
    (2221, 2720, frozenset({16})),
    (34, 34, frozenset({15})),  # American Express
    (37, 37, frozenset({15})),
    (6011, 6011, frozenset({16, 17, 18, 19})),  # Discover
    (644, 649, frozenset({16, 17, 18, 19})),
    (65, 65, frozenset({16, 17, 18, 19})),
    (3528, 3589, frozenset({16, 17, 18, 19})),  # JCB
    (300, 305, frozenset({14, 16})),  # Diners Club
    (3095, 3095, frozenset({14, 16})),
    (36, 36, frozenset({14, 15, 16, 17, 18, 19})),
    (38, 39, frozenset({14, 16})),
    (62, 62, frozenset({16, 17, 18, 19})),  # UnionPay
    (81, 81, frozenset({16, 17, 18, 19})),
    (50, 50, frozenset({12, 13, 14, 15, 16, 17, 18, 19})),  # Maestro
    (56, 58, frozenset({12, 13, 14, 15, 16, 17, 18, 19})),
    (6304, 6304, frozenset({12, 13, 14, 15, 16, 17, 18, 19})),
    (6759, 6763, frozenset({12, 13, 14, 15, 16, 17, 18, 19})),
    (2200, 2204, frozenset({16, 17, 18, 19})),  # Mir
    (1, 1, frozenset({15})),  # UATP
    (2131, 2131, frozenset({15})),  # JCB, older
    (1800, 1800, frozenset({15})),
)


def credit_card(text: str) -> bool:
    """A Luhn number with the first digits and length of a card scheme."""
    digits = digits_of(text)
    return (
        len(digits) >= 12
        and luhn(digits)
        and any(
            low <= int(digits[: len(str(low))]) <= high and len(digits) in lengths
            for low, high, lengths in _CARD_SCHEMES
        )
    )


# SWIFT IBAN registry: length of the whole IBAN by country.
IBAN_LENGTHS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip


def iban(text: str) -> bool:
    """ISO 13616: the country's length, and 1 modulo 97."""
    compact = "".join(char for char in text if char.isalnum()).upper()
    return IBAN_LENGTHS.get(compact[:2]) == len(compact) and mod97(compact[4:] + compact[:4]) == 1


def mod97(text: str) -> int:
    """ISO/IEC 7064 MOD 97-10 of letters (A is 10) and digits; -1 for anything else."""
    if not (text.isascii() and text.isalnum()):
        return -1
    return int("".join(str(int(char, 36)) for char in text)) % 97


def us_ssn(text: str) -> bool:
    """Social Security Administration: no area 000, 666 or 900 to 999, no group 00, no serial 0000."""
    digits = digits_of(text)
    if len(digits) != 9 or digits in _ADVERTISED_SSN or len(set(digits)) == 1:
        return False
    return digits[:3] not in {"000", "666"} and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


_ADVERTISED_SSN: Final = frozenset({"078051120", "219099999", "123456789"})  # printed in advertisements and manuals


def ip_address(text: str) -> bool:
    """An address that can belong to somebody: not unspecified, loopback, multicast, or of the documentation nets."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback or address.is_multicast or address.is_reserved)


def weighted(digits: str, weights: tuple[int, ...]) -> int:
    """The sum of the digits times their weights, as far as there are weights."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def is_sequence(text: str) -> bool:
    """Whether its digits only count up or down, or are all the same."""
    digits = digits_of(text)
    steps = {(int(right) - int(left)) % 10 for left, right in pairwise(digits)}
    return len(steps) <= 1 and steps <= {0, 1, 9}


def ip_address_public(text: str) -> bool:
    """An address of the public net."""
    return ip_address(text) and ipaddress.ip_address(text).is_global


def ipv6_address(text: str) -> bool:
    """An IPv6 address with three groups or more and a digit, which `a::b` of a programming language has not."""
    groups = [group for group in text.split(":") if group]
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    personal = not (address.is_unspecified or address.is_loopback or address.is_multicast)
    return personal and len(groups) >= 3 and any(char.isdigit() for char in text)


def mac_address(text: str) -> bool:
    """An EUI-48 that belongs to a device: neither broadcast nor all zero."""
    digits = "".join(char for char in text.lower() if char in "0123456789abcdef")
    return len(digits) == 12 and len(set(digits)) > 2


def npi(text: str) -> bool:
    """US National Provider Identifier: Luhn with the prefix 80840 of health applications."""
    digits = digits_of(text)
    return len(digits) == 10 and digits[0] in "12" and luhn("80840" + digits)


def dea_number(text: str) -> bool:
    """US Drug Enforcement Administration number: odd places plus twice the even ones, last digit."""
    digits = digits_of(text)
    if len(digits) != 7:
        return False
    return (weighted(digits, (1, 2, 1, 2, 1, 2)) % 10) == int(digits[6])


def us_mbi(text: str) -> bool:
    """US Medicare Beneficiary Identifier: its places are told apart by the rule's expression; no separators count."""
    return len("".join(char for char in text if char.isalnum())) == 11


_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58_check(text: str) -> bool:
    """Base58Check, as Bitcoin, Litecoin, Dogecoin and Tron addresses have it: four bytes of a double SHA-256."""
    if not set(text) <= set(_BASE58):
        return False
    number = 0
    for char in text:
        number = number * 58 + _BASE58.find(char)
    raw = number.to_bytes(max(25, (number.bit_length() + 7) // 8), "big")
    return len(raw) == 25 and sha256(sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]


_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bech32(text: str) -> bool:
    """BIP 173 or BIP 350: the checksum of a segwit address."""
    text = text.lower()
    human, _, data = text.rpartition("1")
    values = [ord(char) >> 5 for char in human] + [0] + [ord(char) & 31 for char in human]
    values += [_BECH32.find(char) for char in data]
    if -1 in values:
        return False
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            if top >> bit & 1:
                check ^= generator
    return check in {1, 0x2BC830A3}


def is_date(text: str) -> bool:
    """A day between 1900 and 2029 in any common order, told by its separators."""
    parts = [part for part in "".join(char if char.isalnum() else " " for char in text).split() if part[0].isdigit()]
    years = [int(part) for part in parts if len(part) == 4 and part.isdigit()]
    return all(1900 <= year <= 2029 for year in years)


def luhn_alternating(text: str) -> bool:
    """Luhn as the German health insurance number has it: factors 1, 2 from the left, the check digit not among them."""
    digits = digits_of(text)
    total = 0
    for place, char in enumerate(digits[:-1]):
        product = int(char) * (1 + place % 2)
        total += product // 10 + product % 10
    return total % 10 == int(digits[-1])
