"""Rules for what identifies a person wherever they live: addresses, cards, accounts, papers, dates of birth."""

# ruff: noqa: E501 - an expression that is broken over lines is harder to check against its format

from typing import Final

from trueport.detection.patterns import national, phones, validators, wallets
from trueport.detection.patterns.rules import DIGITS, Check, Rule


def _rule(
    kind: str,
    reason: str,
    expression: str,
    *cues: str,
    score: float = 0.0,
    near: str = "",
    near_score: float = 0.0,
    check: Check | None = None,
    retries: bool = False,
    also: str = "",
) -> Rule:
    return Rule("pii", kind, reason, expression, cues, score, near, near_score, check, "", retries, also)


def _has_four_digits(text: str) -> bool:
    return sum(char.isdigit() for char in text) >= 4


_CARD_WORDS: Final = r"cards?|cc|visa|mastercard|amex|american express|credit|debit|kreditkarte|kartennummer|carte|tarjeta|carta|cart[ãa]o|cvv|cvc|expir\w{0,5}"
_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_NET_WORDS: Final = r"ip|ipv4|ipv6|ip[ _-]?addr\w{0,5}|client|login|logged|visitor|user|host|from|remote"
_MONTH: Final = (
    r"(?:jan(?:uary|uar|vier)?|feb(?:ruary|ruar)?|f[ée]vrier|mar(?:ch|s)?|m[äa]rz|apr(?:il)?|avril|mai?y?|june?|juin|juni|july?|juillet|juli|aug(?:ust)?|ao[ûu]t|"
    r"sep(?:t|tember|tembre)?|o[ck]t(?:ober|obre)?|nov(?:ember|embre)?|de[cz](?:ember)?|d[ée]cembre)"
)
_DATE: Final = (
    r"(?:\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})|\d{4}[./-]\d{1,2}[./-]\d{1,2}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)?(?: of)?[ -]{_MONTH}\.?,?[ -]\d{{4}}|{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})"
)
_STREET: Final = (
    r"(?:street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|square|sq|place|pl|terrace|ter|parkway|pkwy|highway|hwy|circle|cir|"
    r"trail|trl|way|close|crescent|cres|gardens|grove|mews|row|alley|aly)"
)
_CAPITAL: Final = r"[A-Z\x{c0}-\x{de}][\w\x{df}-\x{ff}'’.-]{0,23}[\w\x{df}-\x{ff}]"

RULES: Final[tuple[Rule, ...]] = (
    _rule(
        "EMAIL", "email",
        r"(?i)[a-z0-9!#$%&'*+/=?^_`{|}~-](?:[a-z0-9!#$%&'*+/=?^_`{|}~.-]{0,62}[a-z0-9!#$%&'*+=?^_`{|}~-])?"
        r"@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,5}(?:xn--[a-z0-9-]{2,59}|[a-z]{2,24})\b",
        "@[a-z0-9]", score=0.97, check=lambda text: not text.lower().endswith((".png", ".jpg", ".svg", ".js", ".css", ".py", ".local")),
    ),
    _rule(
        "EMAIL", "email_spelled_out",
        r"(?i)\b[a-z0-9][a-z0-9._+-]{0,40} ?(?:\(at\)|\[at\]|\{at\}| at ) ?[a-z0-9-]{2,40}(?: ?(?:\(dot\)|\[dot\]|\{dot\}| dot ) ?[a-z0-9-]{2,24}){1,3}\b",
        r"[(\[{]at[)\]}]", " dot ", score=0.85,
    ),
    _rule(
        "EMAIL", "email_beyond_ascii", r"(?:[^\x00-\x7f]|[A-Za-z0-9._%+-]){1,64}@(?:(?:[^\x00-\x7f]|[A-Za-z0-9-]){1,63}\.){1,3}(?:[^\x00-\x7f]|[A-Za-z]){2,24}",
        r"[^\x00-\x7f]@|@(?:[a-z0-9-]+\.)*[a-z0-9-]*[^\x00-\x7f]", score=0.9,
        check=lambda text: not text.isascii() and all(char.isalnum() or char in "@.-_%+" for char in text),
    ),
    _rule(
        "CREDIT_CARD", "card_luhn",
        r"\b(?:\d{4}[ .-]\d{4}[ .-]\d{4}[ .-]\d{1,4}(?:[ .-]\d{1,3})?|\d{4}[ .-]\d{6}[ .-]\d{4,5}|\d{12,19})\b",
        r"\d{4}[ .-]?\d{4}[ .-]?\d", score=0.95, near=_CARD_WORDS, near_score=0.99, check=validators.credit_card, retries=True,
    ),
    _rule(
        "CREDIT_CARD", "card_named", r"\b(?:\d{4}[ -]){3}\d{4}\b|\b\d{12,19}\b", r"card|kartennummer|tarjeta|cart[ãa]o", also=DIGITS,
        near=r"(?:credit|debit)[ -]?card(?:s)?(?: (?:number|no|is))?|card (?:number|no|num|#)|cc (?:number|no)|kreditkarte\w{0,8}|tarjeta", near_score=0.75,
        check=lambda text: validators.luhn(text) and not validators.is_sequence(text),
    ),
    _rule(
        "CARD_SECURITY_CODE", "card_security_code", r"(?i)\b(?:cvv2?|cvc2?|security code|csc)[ :#=-]{0,3}(?:is |code |number )?(?P<v>\d{3,4})\b",
        r"\bcv[vc]|security code", score=0.85,
    ),
    _rule(
        "IBAN", "iban_mod97", r"(?i)\b[a-z]{2}\d{2}(?:[ -]?[a-z0-9]{4}){2,7}(?:[ -]?[a-z0-9]{1,3})?\b", r"\b[a-z][a-z]\d\d[ -]?[a-z0-9]{4}",
        score=0.98, check=validators.iban, retries=True,
    ),
    _rule(
        "BANK_ACCOUNT", "bank_account_named",
        r"(?i)\b(?:account|acct|a/c|konto|kontonummer|compte|cuenta|routing|aba|sort code|bsb|ifsc)(?: ?(?:number|no|nr|num|code)\.?)?[ :#=]{1,3}(?:is )?[#:]?(?P<v>\d[\d -]{5,18}\d|[A-Z]{4}0[A-Z0-9]{6})\b",
        r"account|acct|\ba/c|konto|compte|cuenta|routing|\baba\b|sort code|\bbsb|ifsc", score=0.75, also=DIGITS,
    ),
    _rule(
        "SSN", "us_ssn", r"\b\d{3}[- .]\d{2}[- .]\d{4}\b", r"\d{3}[- .]\d{2}[- .]\d{4}", score=0.85,
        near=r"ssn|social security|soc sec|ss ?#|social", near_score=0.97, check=validators.us_ssn,
    ),
    _rule(
        "SSN", "us_ssn_bare", r"\b\d{9}\b", r"\bssn", "social security", also=DIGITS, near=r"ssn|social security(?: number| no| #)?", near_score=0.85,
        check=validators.us_ssn,
    ),
    _rule(
        "IP_ADDRESS", "ipv4_public", rf"(?:^|[^\w.])(?P<v>{_OCTET}(?:\.{_OCTET}){{3}})(?:[^\w.-]|-\d|\.(?:[^\w]|$)|$)", r"\d\.\d{1,3}\.\d{1,3}\.\d",
        score=0.75, near=_NET_WORDS, near_score=0.9, check=validators.ip_address_public,
    ),
    _rule(
        "IP_ADDRESS", "ipv4_private", rf"(?:^|[^\w.])(?P<v>{_OCTET}(?:\.{_OCTET}){{3}})(?:[^\w.-]|-\d|\.(?:[^\w]|$)|$)", r"\d\.\d{1,3}\.\d{1,3}\.\d",
        score=0.4, near="ip|ip address|ipv4", near_score=0.55, check=validators.ip_address,
    ),
    _rule(
        "IP_ADDRESS", "ipv6", r"(?i)(?:^|[^\w:.])(?P<v>(?:[0-9a-f]{1,4}:){2,7}(?::?[0-9a-f]{1,4}){1,6})(?:[^\w:]|$)", r"[0-9a-f]:[0-9a-f]{0,4}:[0-9a-f:]",
        score=0.85, near=_NET_WORDS, near_score=0.92, check=validators.ipv6_address,
    ),
    _rule(
        "MAC_ADDRESS", "mac_address", r"(?i)\b[0-9a-f]{2}(?:(?::[0-9a-f]{2}){5}|(?:-[0-9a-f]{2}){5})\b|\b[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}\b",
        r"[0-9a-f]{2}[:-][0-9a-f]{2}[:-][0-9a-f]{2}[:-][0-9a-f]{2}|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}", score=0.8,
        near="mac|mac address|hardware address|bssid|ethernet", near_score=0.93, check=validators.mac_address,
    ),
    _rule(
        "IMEI", "imei", r"\b\d{2}[- ]?\d{6}[- ]?\d{6}[- ]?\d\b", r"\bimei", also=DIGITS, near="imei", near_score=0.93, check=validators.luhn,
    ),
    _rule(
        "VIN", "vin", r"\b[A-HJ-NPR-Z0-9]{17}\b", r"\bvin\b|vehicle identification", also=r"\d", near=r"vin|vehicle identification(?: number)?", near_score=0.85,
        check=_has_four_digits,
    ),
    _rule(
        "PASSPORT", "passport", r"(?i)\b(?:[A-Z]{1,2}\d{6,8}[A-Z]?|\d{8,9}|[CFGHJK][0-9CFGHJKLMNPRTVWXYZ]{8})\b",
        r"passport|reisepass|passeport|pasaporte|passaporto|passnummer|паспорт|护照",
        near=r"passport(?: (?:number|no|num|#|id))?|reisepass\w{0,8}|passeport|pasaporte|passaporto|passnummer|паспорт|护照", near_score=0.85, check=_has_four_digits,
    ),
    _rule(
        "DRIVER_LICENSE", "driver_license",
        r"(?i)\b(?:[A-Z]{1,5}[ -]?\d{3,4}[ -]?\d{3,4}[ -]?\d{0,8}[A-Z]?|[A-Z]{0,2}\d{5,14}[A-Z]?|[A-Z9]{5}\d{6}[A-Z0-9]{5}|\d{3,4}-\d{2,4}-\d{4})\b",
        r"driv(?:er|ing)|licen[cs]e|f[üu]hrerschein|permis de|\bdl\b|carnet de conducir|patente",
        also=DIGITS, near=r"driv(?:er|ing)'?s? ?'?(?:licen[cs]e|permit)(?: (?:number|no|is|#))?|licen[cs]e (?:number|no|#|id|is)|f[üu]hrerschein\w{0,8}|permis de conduire|dl|carnet de conducir|patente",
        near_score=0.75, check=_has_four_digits,
    ),
    _rule(
        "DRIVER_LICENSE", "uk_driving_licence", r"\b[A-Z9]{5}\d(?:[05][1-9]|[16][0-2])(?:0[1-9]|[12]\d|3[01])\d[A-Z9]{2}[A-Z0-9]{3}\b",
        r"\b[a-z9]{5}\d[0156]\d[0-3]\d{2}[a-z9]{2}", score=0.85,
    ),
    _rule(
        "DATE_OF_BIRTH", "date_of_birth",
        rf"(?i)\b(?:d\.?o\.?b\.?|date of birth|birth ?date|birthday|born(?: on)?|geburtsdatum|geb(?:oren)?(?: am)?|n[ée]e?(?: le)?|date de naissance|fecha de nacimiento|nacid[oa] el|data di nascita|nat[oa] il|data de nascimento|geboortedatum)"
        rf"(?:[ :.=(\-]{{1,4}}|\"\s?:\s?\")(?:is |was |ist |am )?(?:on )?(?P<v>{_DATE})",
        r"\bd\.?o\.?b\b|birth|\bborn|\bgeb(?:oren|urtsdatum)?\b|\bn[ée]e?\b le|\bn[ée]e\b|naissance|nacim|nacid|nasci|\bnat[oa] il|geboorte", score=0.88, check=validators.is_date, also=r"\d\d",
    ),
    _rule(
        "ADDRESS", "street_address",
        rf"\b\d{{1,5}}[A-Za-z]?,? (?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.? )?(?:{_CAPITAL} ){{1,4}}(?i:{_STREET})\b\.?"
        r"(?:,? (?i:apt|apartment|suite|ste|unit|flat|floor|fl|#)\.? ?#?\w{1,6})?"
        rf"(?:,? {_CAPITAL}(?: {_CAPITAL}){{0,2}})?(?:,? [A-Z]{{2}})?(?:,? \d{{5}}(?:-\d{{4}})?)?",
        r"\d[a-z]?,? (?:[^\s\d]+ ){1,5}" + _STREET + r"\b", score=0.7, near=r"address|live|lives|living|located|reside|ship|send|deliver|mail|home|move[d]?|office", near_score=0.85,
    ),
    _rule(
        "ADDRESS", "po_box", r"(?i)\bP\.? ?O\.? ?Box \d{1,6}\b", r"o\.? ?box \d", score=0.75,
    ),
    _rule(
        "ADDRESS", "unit_of_address", rf"(?i)\b(?:apt|apartment|suite|ste|unit|flat)\.? #?\d{{1,5}}[a-z]?\n{_CAPITAL}",
        r"(?:apt|apartment|suite|ste|unit|flat)\.? #?\d{1,5}[a-z]?\n", score=0.7,
    ),
    _rule(
        "ADDRESS", "military_address", r"\b(?:USS [A-Z][a-z]{2,20}|USNV [A-Z][a-z]{2,20}|USCGC [A-Z][a-z]{2,20}|USNS [A-Z][a-z]{2,20}|Unit \d{1,5} Box \d{1,5}|PSC \d{1,5},? Box \d{1,5})\s(?:[FAD]PO) (?:A[AEP]) \d{5}",
        r"[fad]po a[aep] \d{5}", score=0.9,
    ),
    _rule(
        "ADDRESS", "city_state_zip", rf"\b{_CAPITAL}(?: {_CAPITAL}){{0,2}},? (?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]),? \d{{5}}(?:-\d{{4}})?\b",
        r"\b[a-z]{2},? \d{5}\b", score=0.7,
    ),
    _rule(
        "ADDRESS", "german_address",
        r"\b[A-Z\x{c0}-\x{de}][\w\x{df}-\x{ff}-]{1,30}(?:(?:str\.|stra(?:ß|ss)e|weg|allee|platz|gasse|damm|ufer) ?\d{1,4} ?[a-z]?\b(?:,? ?\n?(?:D-|A-|CH-)?\d{4,5} [A-Z\x{c0}-\x{de}][\w\x{df}-\x{ff}-]{1,30})?|ring ?\d{1,4} ?[a-z]?,? ?\n?(?:D-|A-|CH-)?\d{4,5} [A-Z\x{c0}-\x{de}][\w\x{df}-\x{ff}-]{1,30})",
        r"(?:str\.|stra(?:ß|ss)e|weg|allee|platz|gasse|damm|ufer|ring) ?\d", score=0.8,
    ),
    _rule(
        "ADDRESS", "romance_address",
        r"(?i)(?:\b\d{1,4}(?: ?(?:bis|ter))?,? (?:rue|avenue|boulevard|place|chemin|all[ée]e|impasse|quai)|\b(?:calle|avenida|plaza|paseo|via|viale|piazza|corso|rua|travessa)) (?:(?:de|du|des|d'|del|della|dello|di|da|do|dos|la|le|les|los|las|el|l') ?){0,3}(?-i:"
        + _CAPITAL + r")(?: (?-i:" + _CAPITAL + r")){0,2}(?:,? (?:n[.º°]? ?)?\d{1,4})?(?:,? \d{4,5} (?-i:" + _CAPITAL + r"))?",
        r"\d,? (?:rue|avenue|boulevard|place|chemin|all[ée]e|impasse|quai)\b", r"\b(?:calle|avenida|plaza|paseo|via|viale|piazza|corso|rua|travessa) ",
        score=0.7, check=lambda text: any(char.isdigit() for char in text),
    ),
    _rule(
        "POSTCODE", "uk_postcode", r"\b(?:[A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}|GIR 0AA)\b", r"\b[a-z]{1,2}\d[a-z\d]? \d[a-z]{2}\b", score=0.45,
        near=r"address|postcode|post code|live|london|road|street|uk|england|flat", near_score=0.7,
    ),
    *phones.RULES,
    *national.RULES,
    *wallets.RULES,
)  # fmt: skip
