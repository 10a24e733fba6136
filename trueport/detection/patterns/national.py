"""Rules for the numbers that states give to people, with their check digits.

A number with ten or eleven bare digits is everywhere in texts and passes a check digit by chance one time in ten, so
most need their name or their own punctuation beside them.
"""

# ruff: noqa: E501 - an expression that is broken over lines is harder to check against its format

from typing import Final

from trueport.detection.patterns import identity_numbers as numbers
from trueport.detection.patterns.rules import DIGITS, Check, Rule


def _number(
    kind: str,
    reason: str,
    expression: str,
    check: Check,
    near: str,
    *,
    cue: str = "",
    alone: float = 0.0,
    near_score: float = 0.95,
) -> Rule:
    """`cue` is a shape of its own; without one, the words beside it are what is waited for."""
    return Rule(
        "pii",
        kind,
        reason,
        expression,
        (cue or rf"(?:^|[^a-z])(?:{near})",),
        alone,
        near,
        near_score,
        check,
        also="" if cue else DIGITS,
    )


RULES: Final[tuple[Rule, ...]] = (
    _number("TAX_ID", "de_tax_id", r"\b\d{2}[ /]?\d{3}[ /]?\d{3}[ /]?\d{3}\b", numbers.german_tax_id,
            r"steuer-?id\w*|steuer(?:liche)?-? ?identifikationsn\w*|idnr|tin|tax id\w*|steuernummer"),
    _number("NATIONAL_ID", "fr_nir", r"\b[123478] ?\d{2} ?\d{2} ?(?:\d{2}|2[ABab]) ?\d{3} ?\d{3} ?\d{2}\b", numbers.french_nir,
            r"nir|s[ée]curit[ée] sociale|num[ée]ro de s[ée]cu|insee|secu", cue=r"\b[123478] ?\d{2} ?\d{2} ?\d[\dab] ?\d{3} ?\d{3}", alone=0.85),
    _number("NATIONAL_ID", "es_dni", r"(?i)\b(?:[XYZ][ -]?\d{7}|\d{8})[ -]?[A-HJ-NP-TV-Z]\b", numbers.spanish_dni,
            r"dni|nie|nif|documento(?: nacional)?|identidad", cue=r"\b[xyz\d][ -]?\d{7}[ -]?[a-hj-np-tv-z]\b", alone=0.6),
    _number("NATIONAL_ID", "it_codice_fiscale", r"(?i)\b[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]\b", numbers.italian_codice_fiscale,
            r"codice fiscale|c\.?f\.?|fiscal code", cue=r"\b[a-z]{6}\d\d[a-z]\d\d[a-z]", alone=0.97, near_score=0.99),
    _number("NATIONAL_ID", "nl_bsn", r"\b\d{8,9}\b|\b\d{4}[ .]\d{2}[ .]\d{3}\b|\b\d{3}[ .]\d{3}[ .]\d{3}\b", numbers.dutch_bsn,
            r"bsn|burgerservicenummer|sofi-?(?:nummer)?|citizen service number"),
    _number("NATIONAL_ID", "be_national_number", r"\b\d{2}[. ]?\d{2}[. ]?\d{2}[- ]?\d{3}[. ]?\d{2}\b", numbers.belgian_national_number,
            r"rijksregister\w*|registre national|num[ée]ro national|insz|niss|rrn|national (?:register )?number",
            cue=r"\d\d[. ]?\d\d[. ]?\d\d[- ]?\d{3}[. ]?\d\d\b", alone=0.35),
    _number("NATIONAL_ID", "be_national_number_written", r"\b\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}\b", numbers.belgian_national_number,
            r"rijksregister\w*|registre national|insz|niss", cue=r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", alone=0.95, near_score=0.98),
    _number("NATIONAL_ID", "pl_pesel", r"\b\d{11}\b", numbers.polish_pesel, r"pesel"),
    _number("TAX_ID", "pt_nif", r"\b\d{3} ?\d{3} ?\d{3}\b", numbers.portuguese_nif, r"nif|contribuinte|n[úu]mero fiscal|nipc"),
    _number("NATIONAL_ID", "se_personnummer", r"\b(?:19|20)?\d{6}[-+ ]?\d{4}\b", numbers.swedish_personnummer,
            r"personnummer|samordningsnummer|swedish (?:id|personal)|pnr", cue=r"\b(?:19|20)?\d{6}[-+]\d{4}\b|personnummer", alone=0.55),
    _number("NATIONAL_ID", "fi_hetu", r"\b\d{6}[-+A-FU-Ya-fu-y]\d{3}[0-9A-FHJ-NPR-Ya-fhj-npr-y]\b", numbers.finnish_hetu,
            r"hetu|henkil[öo]tunnus|personbeteckning", cue=r"\b\d{6}[-+a-fu-y]\d{3}[0-9a-y]\b", alone=0.9),
    _number("NATIONAL_ID", "dk_cpr", r"\b\d{6}[- ]?\d{4}\b", numbers.danish_cpr, r"cpr(?:-?(?:nr|nummer|number))?|personnummer|danish id"),
    _number("NATIONAL_ID", "no_fodselsnummer", r"\b\d{6} ?\d{5}\b", numbers.norwegian_fodselsnummer,
            r"f[øo]dselsn\w*|personnummer|fnr|d-nummer|norwegian (?:id|national)", cue=r"\b\d{6} ?\d{5}\b", alone=0.55),
    _number("NATIONAL_ID", "ch_ahv", r"\b756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}\b", numbers.swiss_ahv, r"ahv|avs|oasi|sozialversicherung\w*",
            cue=r"\b756[. ]?\d{4}", alone=0.93, near_score=0.98),
    _number("NATIONAL_ID", "at_insurance_number", r"\b\d{4}[ -]?\d{6}\b", numbers.austrian_insurance_number,
            r"svnr|sv-?(?:nummer|nr)|sozialversicherungsn\w*|versicherungsnummer"),
    _number("NATIONAL_ID", "uk_nino", r"(?i)\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b", numbers.british_nino,
            r"national insurance|nino|ni (?:number|no)", cue=r"\b[a-z]{2} ?\d\d ?\d\d ?\d\d ?[a-d]\b", alone=0.8),
    _number("NHS_NUMBER", "uk_nhs_number", r"\b\d{3}[ -]\d{3}[ -]\d{4}\b", numbers.nhs_number, r"nhs"),
    _number("TAX_ID", "uk_utr", r"\b\d{5} ?\d{5}\b", lambda text: len(set(text)) > 3, r"utr|unique taxpayer(?: reference)?", near_score=0.8),
    _number("NATIONAL_ID", "ie_pps", r"(?i)\b\d{7}[A-W][A-IW]?\b", numbers.irish_pps, r"pps[n]?|personal public service",
            cue=r"\b\d{7}[a-w][a-iw]?\b", alone=0.6),
    _number("TAX_ID", "us_itin", r"\b9\d{2}[- ]\d{2}[- ]\d{4}\b", numbers.us_itin, r"itin|taxpayer(?: identification)?|tax id\w*",
            cue=r"\b9\d\d[- ]\d\d[- ]\d{4}", alone=0.7),
    _number("TAX_ID", "us_ein", r"\b\d{2}-\d{7}\b", numbers.us_ein, r"ein|employer id\w*|fein|tax id\w*|federal tax", near_score=0.85),
    _number("NATIONAL_ID", "ca_sin", r"\b\d{3}[- ]?\d{3}[- ]?\d{3}\b", numbers.canadian_sin,
            r"sin|social insurance(?: number)?|assurance sociale|nas"),
    _number("NATIONAL_ID", "br_cpf", r"\b\d{3}\.\d{3}\.\d{3}-\d{2}\b", numbers.brazilian_cpf, r"cpf", cue=r"\d{3}\.\d{3}\.\d{3}-\d\d",
            alone=0.97, near_score=0.99),
    _number("NATIONAL_ID", "br_cpf_bare", r"\b\d{11}\b", numbers.brazilian_cpf, r"cpf"),
    _number("TAX_ID", "br_cnpj", r"\b\d{2}\.?\d{3}\.?\d{3}/?\d{4}-?\d{2}\b", numbers.brazilian_cnpj, r"cnpj",
            cue=r"\d\d\.\d{3}\.\d{3}/\d{4}-\d\d|cnpj", alone=0.6),
    _number("NATIONAL_ID", "in_aadhaar", r"\b[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}\b", numbers.indian_aadhaar, r"aadha?ar|uidai|आधार|uid",
            cue=r"\b[2-9]\d{3}[ -]\d{4}[ -]\d{4}\b|aadha?ar|uidai", alone=0.55),
    _number("TAX_ID", "in_pan", r"(?i)\b[A-Z]{5}\d{4}[A-Z]\b", numbers.indian_pan, r"pan|permanent account(?: number)?|income tax",
            cue=r"\b[a-z]{5}\d{4}[a-z]\b", alone=0.45, near_score=0.9),
    _number("TAX_ID", "au_tfn", r"\b\d{3} ?\d{3} ?\d{3}\b", numbers.australian_tfn, r"tfn|tax file(?: number| no)?"),
    _number("TAX_ID", "au_abn", r"\b\d{2} ?\d{3} ?\d{3} ?\d{3}\b", numbers.australian_abn, r"abn|australian business(?: number)?"),
    _number("MEDICARE_NUMBER", "au_medicare", r"\b[2-6]\d{3} ?\d{5} ?\d(?:[ /-]?\d)?\b", numbers.australian_medicare, r"medicare"),
    _number("NATIONAL_ID", "za_id", r"\b\d{6} ?\d{4} ?\d{2} ?\d\b", numbers.south_african_id, r"id(?: number| no)?|identity(?: number)?|rsa id|south african?",
            cue=r"\b\d{6} ?\d{4} ?[012]\d ?\d\b", alone=0.6, near_score=0.93),
    _number("NATIONAL_ID", "cn_resident_id", r"\b[1-8]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx]\b",
            numbers.chinese_resident_id, r"身份证\S{0,4}|resident id|chinese id|id card", cue=r"\b[1-8]\d{5}(?:19|20)\d\d", alone=0.97, near_score=0.99),
    _number("NATIONAL_ID", "jp_my_number", r"\b\d{4}[ -]?\d{4}[ -]?\d{4}\b", numbers.japanese_my_number,
            r"my ?number|マイナンバー|個人番号|individual number"),
    _number("NATIONAL_ID", "kr_rrn", r"\b\d{6}-[1-8]\d{6}\b", numbers.korean_rrn, r"주민(?:등록)?번호|rrn|resident registration(?: number)?",
            cue=r"\b\d{6}-[1-8]\d{6}\b", alone=0.9),
)  # fmt: skip
