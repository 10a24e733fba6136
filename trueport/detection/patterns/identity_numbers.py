"""Check digits of the numbers that states give to people and firms, named by country and number.

Pure functions over what a rule matched, separators included; none raises. Sources are the issuing authorities'
descriptions of their numbers. Where an authority gave up its check digit (Denmark in 2007), the date inside is all
that is left to check.
"""

from datetime import date
from typing import Final

from trueport.detection.patterns.validators import digits_of, luhn, weighted


def _compact(text: str) -> str:
    return "".join(char for char in text if char.isalnum()).upper()


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _is_short_date(year: str, month: str, day: str) -> bool:
    """A date whose century is not told: in 19xx or 20xx."""
    return any(_is_date(century + int(year), int(month), int(day)) for century in (1900, 2000))


def _varies(digits: str) -> bool:
    return len(set(digits)) > 1


def german_tax_id(text: str) -> bool:
    """Steuer-Identifikationsnummer: ISO 7064 MOD 11,10; one of the first ten digits comes twice or thrice."""
    digits = digits_of(text)
    if len(digits) != 11 or digits[0] == "0":
        return False
    counts = sorted((digits[:10].count(digit) for digit in set(digits[:10])), reverse=True)
    return counts[0] in {2, 3} and counts[1] == 1 and _mod_11_10(digits)


def _mod_11_10(digits: str) -> bool:
    product = 10
    for digit in digits[:-1]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


def french_nir(text: str) -> bool:
    """Numéro de sécurité sociale: 97 less the number modulo 97; Corsica's 2A and 2B count as 19 and 18."""
    number = _compact(text)
    body = number[:-2].replace("2A", "19").replace("2B", "18")
    if len(number) != 15 or not body.isdigit() or number[0] not in "123478":
        return False
    month = int(number[3:5])
    return (1 <= month <= 12 or 20 <= month <= 42 or month >= 50) and int(number[-2:]) == 97 - int(body) % 97


_SPANISH_LETTERS: Final = "TRWAGMYFPDXBNJZSQVHLCKE"


def spanish_dni(text: str) -> bool:
    """DNI, or NIE with its X, Y or Z: the number modulo 23 picks the letter."""
    number = _compact(text)
    digits = number[:-1].translate(str.maketrans("XYZ", "012", "")) if number[:1] in "XYZ" else number[:-1]
    return len(digits) == 8 and digits.isdigit() and _SPANISH_LETTERS[int(digits) % 23] == number[-1]


_ITALIAN_ODD: Final = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def italian_codice_fiscale(text: str) -> bool:
    """Codice fiscale: letters by odd and even place, modulo 26."""
    code = _compact(text)
    if len(code) != 16 or not code.isascii():
        return False
    total = 0
    for place, char in enumerate(code[:15], start=1):
        value = int(char) if char.isdigit() else ord(char) - ord("A")
        total += _ITALIAN_ODD[value] if place % 2 else value
    return chr(ord("A") + total % 26) == code[15]


def dutch_bsn(text: str) -> bool:
    """Burgerservicenummer: the eleven test, the last digit counted as minus one."""
    digits = digits_of(text).zfill(9)
    return (
        len(digits) == 9 and _varies(digits) and (weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2)) - int(digits[8])) % 11 == 0
    )


def belgian_national_number(text: str) -> bool:
    """Rijksregisternummer: 97 less the first nine modulo 97, with a 2 before them for those born from 2000."""
    digits = digits_of(text)
    if len(digits) != 11 or int(digits[2:4]) % 20 > 12 or int(digits[4:6]) > 31:
        return False
    return any(97 - int(century + digits[:9]) % 97 == int(digits[9:]) for century in ("", "2"))


def polish_pesel(text: str) -> bool:
    """PESEL: weights 1 3 7 9, and a date whose month tells the century."""
    digits = digits_of(text)
    if len(digits) != 11:
        return False
    month, century = int(digits[2:4]) % 20, {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[int(digits[2:4]) // 20]
    return (
        _is_date(century + int(digits[:2]), month, int(digits[4:6]))
        and (10 - weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10 == int(digits[10])
    )  # fmt: skip


def portuguese_nif(text: str) -> bool:
    """NIF: modulo 11, the first digit of a person's or firm's."""
    digits = digits_of(text)
    if len(digits) != 9 or digits[0] not in "1235689" or not _varies(digits):
        return False
    rest = weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return int(digits[8]) == (0 if rest < 2 else 11 - rest)


def swedish_personnummer(text: str) -> bool:
    """Personnummer or samordningsnummer (day plus 60): Luhn over the last ten digits."""
    digits = digits_of(text)[-10:]
    day = int(digits[4:6]) % 60 if len(digits) == 10 else 0
    return len(digits) == 10 and _is_short_date(digits[:2], digits[2:4], f"{day:02}") and luhn(digits)


def finnish_hetu(text: str) -> bool:
    """Henkilötunnus: the nine digits modulo 31."""
    code = text.strip().upper()
    digits = code[:6] + code[7:10]
    return (
        len(code) == 11
        and digits.isdigit()
        and _is_short_date(digits[4:6], digits[2:4], digits[:2])
        and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(digits) % 31] == code[10]
    )


def danish_cpr(text: str) -> bool:
    """CPR number: a date, and four digits that have not been checkable since 2007."""
    digits = digits_of(text)
    return len(digits) == 10 and _is_short_date(digits[4:6], digits[2:4], digits[:2])


def norwegian_fodselsnummer(text: str) -> bool:
    """Fødselsnummer or D-nummer (day plus 40): two check digits modulo 11."""
    digits = digits_of(text)
    if len(digits) != 11 or not _is_short_date(digits[4:6], digits[2:4], f"{int(digits[:2]) % 40:02}"):
        return False
    return (
        (weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2)) + int(digits[9])) % 11 == 0
        and (weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) + int(digits[10])) % 11 == 0
    )  # fmt: skip


def swiss_ahv(text: str) -> bool:
    """AHV number: an EAN-13 that begins with 756."""
    digits = digits_of(text)
    return len(digits) == 13 and digits.startswith("756") and _ean13(digits)


def _ean13(digits: str) -> bool:
    return (weighted(digits, (1, 3) * 6) + int(digits[12])) % 10 == 0


def austrian_insurance_number(text: str) -> bool:
    """Sozialversicherungsnummer: the fourth digit is the weighted sum of the others modulo 11; a date at the end."""
    digits = digits_of(text)
    if len(digits) != 10 or digits[0] == "0" or int(digits[6:8]) > 15 or int(digits[4:6]) > 31:
        return False
    return weighted(digits[:3] + digits[4:], (3, 7, 9, 5, 8, 4, 2, 1, 6)) % 11 == int(digits[3])


def british_nino(text: str) -> bool:
    """National Insurance number: the prefixes that are never given out."""
    code = _compact(text)
    return code[:2] not in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"} and _varies(code[2:8])


def nhs_number(text: str) -> bool:
    """NHS number: modulo 11."""
    digits = digits_of(text)
    if len(digits) != 10 or not _varies(digits):
        return False
    return (11 - weighted(digits, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11) % 11 == int(digits[9])


def irish_pps(text: str) -> bool:
    """PPS number: the digits, and the second letter nine times, modulo 23."""
    code = _compact(text)
    if len(code) not in {8, 9} or not code[:7].isdigit():
        return False
    second = 0 if len(code) == 8 or code[8] == "W" else ord(code[8]) - ord("A") + 1
    rest = (weighted(code[:7], (8, 7, 6, 5, 4, 3, 2)) + 9 * second) % 23
    return code[7] == "WABCDEFGHIJKLMNOPQRSTUV"[rest]


def us_itin(text: str) -> bool:
    """Individual Taxpayer Identification Number: 9xx, with groups 50 to 65, 70 to 88, 90 to 92, 94 to 99."""
    digits = digits_of(text)
    group = int(digits[3:5]) if len(digits) == 9 else 0
    return digits[:1] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99)


_EIN_PREFIXES: Final = frozenset(range(1, 100)) - {7, 8, 9, 17, 18, 19, 28, 29, 49, 69, 70, 78, 79, 89, 96, 97}


def us_ein(text: str) -> bool:
    """Employer Identification Number: a prefix the IRS hands out."""
    digits = digits_of(text)
    return len(digits) == 9 and int(digits[:2]) in _EIN_PREFIXES and _varies(digits)


def canadian_sin(text: str) -> bool:
    """Social Insurance Number: Luhn, not beginning with 0 or 8."""
    digits = digits_of(text)
    return len(digits) == 9 and digits[0] not in "08" and _varies(digits) and luhn(digits)


def brazilian_cpf(text: str) -> bool:
    """CPF: two check digits modulo 11."""
    digits = digits_of(text)
    return (
        len(digits) == 11
        and _varies(digits)
        and all(
            weighted(digits, tuple(range(length + 1, 1, -1))) * 10 % 11 % 10 == int(digits[length])
            for length in (9, 10)
        )
    )


def brazilian_cnpj(text: str) -> bool:
    """CNPJ: two check digits modulo 11, weights 2 to 9 from the right."""
    digits = digits_of(text)
    if len(digits) != 14 or not _varies(digits):
        return False
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    rests = (weighted(digits, weights[1:]) % 11, weighted(digits, weights) % 11)
    return all(int(digits[12 + place]) == (0 if rest < 2 else 11 - rest) for place, rest in enumerate(rests))


def _product(left: int, right: int) -> int:
    """Multiply in the dihedral group of order ten: 0 to 4 are rotations, 5 to 9 reflections."""
    turned = left % 5 + right if left < 5 else left - right
    return turned % 5 + 5 * ((left < 5) != (right < 5))


_VERHOEFF_FIRST: Final = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def verhoeff(digits: str) -> bool:
    """Verhoeff's check over the dihedral group of ten."""
    check = 0
    for place, char in enumerate(reversed(digits)):
        digit = int(char)
        for _ in range(place % 8):
            digit = _VERHOEFF_FIRST[digit]
        check = _product(check, digit)
    return check == 0


def indian_aadhaar(text: str) -> bool:
    """Aadhaar: twelve digits, not beginning with 0 or 1, Verhoeff."""
    digits = digits_of(text)
    return len(digits) == 12 and digits[0] not in "01" and _varies(digits) and verhoeff(digits)


def indian_pan(text: str) -> bool:
    """Permanent Account Number: the fourth letter is the kind of holder."""
    return text[3].upper() in "ABCFGHJLPTE"


def australian_tfn(text: str) -> bool:
    """Tax File Number: modulo 11."""
    digits = digits_of(text)
    return len(digits) == 9 and _varies(digits) and weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def australian_abn(text: str) -> bool:
    """Australian Business Number: the first digit less one, modulo 89."""
    digits = digits_of(text)
    if len(digits) != 11 or digits[0] == "0":
        return False
    return weighted(str(int(digits[0]) - 1) + digits[1:], (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)) % 89 == 0


def australian_medicare(text: str) -> bool:
    """Medicare card: first digit 2 to 6, the ninth a weighted sum modulo 10."""
    digits = digits_of(text)
    return (
        len(digits) in {10, 11}
        and digits[0] in "23456"
        and weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(digits[8])
    )


def south_african_id(text: str) -> bool:
    """Identity number: a date, 0 or 1 for citizenship, Luhn."""
    digits = digits_of(text)
    return (
        len(digits) == 13
        and digits[10] in "012"
        and _is_short_date(digits[:2], digits[2:4], digits[4:6])
        and luhn(digits)
    )


def chinese_resident_id(text: str) -> bool:
    """GB 11643: a date, and ISO 7064 MOD 11-2 with X for ten."""
    code = text.upper()
    if len(code) != 18 or not code[:17].isdigit() or not _is_date(int(code[6:10]), int(code[10:12]), int(code[12:14])):
        return False
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[weighted(code[:17], weights) % 11] == code[17]


def japanese_my_number(text: str) -> bool:
    """Individual Number: weights 2 to 7 from the right, modulo 11."""
    digits = digits_of(text)
    if len(digits) != 12 or not _varies(digits):
        return False
    rest = weighted(digits[:11], (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return int(digits[11]) == (0 if rest < 2 else 11 - rest)


def korean_rrn(text: str) -> bool:
    """Resident registration number: a date, the century's digit, modulo 11 (given up for those issued from 2020)."""
    digits = digits_of(text)
    if len(digits) != 13 or not _is_short_date(digits[:2], digits[2:4], digits[4:6]) or digits[6] not in "12345678":
        return False
    checked = (11 - weighted(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10 == int(digits[12])
    return checked or (digits[:2] <= "35" and digits[6] in "3478" and digits[:2] >= "20")
