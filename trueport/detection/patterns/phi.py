"""Rules for health information: records, codes, providers and insurance.

Most of these numbers are plain digits, so their name has to stand beside them.
"""

# ruff: noqa: E501 - an expression that is broken over lines is harder to check against its format

from typing import Final

from trueport.detection.patterns import identity_numbers, validators
from trueport.detection.patterns.rules import Check, Rule


def _rule(
    kind: str,
    reason: str,
    expression: str,
    cue: str,
    near: str = "",
    score: float = 0.0,
    near_score: float = 0.9,
    check: Check | None = None,
    also: str = r"\d\d",
) -> Rule:
    return Rule("phi", kind, reason, expression, (cue,), score, near, near_score if near else 0.0, check, also=also)


def _has_digits(text: str) -> bool:
    return sum(char.isdigit() for char in text) >= 4


_DIAGNOSIS: Final = (
    r"icd(?:-?(?:9|10|11)(?:-?(?:cm|gm|pcs))?)?|diagnos(?:is|ed|es|tic)|diagnose|dx|diagnosis code|billing code|principal|comorbid\w{0,8}"
    r"|diagnostic|condition|problem list|primary|secondary"
)

RULES: Final[tuple[Rule, ...]] = (
    _rule(
        "MEDICAL_RECORD_NUMBER", "medical_record_number",
        r"(?i)\b(?:mrn|medical record|med rec|patient(?:'s)? (?:id|number|no|record)|hospital (?:number|no)|chart|krankenakte|patienten-?(?:id|nr|nummer))"
        r"[ ]?(?:number|no|nr|num|id)?[ .:#=]{0,4}(?:is |was )?[#:]?(?P<v>[A-Z]{0,4}-?\d[\d-]{3,14}[A-Z]?)\b",
        "mrn|med(?:ical)? rec|patient|hospital n|chart|krankenakte", score=0.9, check=_has_digits,
    ),
    _rule(
        "DIAGNOSIS_CODE", "icd_10", r"\b[A-TV-Z]\d[\dAB](?:\.[\dA-Z]{1,4})?\b", r"icd|diagnos|\bdx\b", _DIAGNOSIS, near_score=0.85,
    ),
    _rule(
        "PROVIDER_ID", "us_npi", r"\b[12]\d{9}\b", r"\bnpi|provider id", r"npi|national provider(?: identifier)?|provider (?:id|number)",
        near_score=0.95, check=validators.npi,
    ),
    _rule(
        "PROVIDER_ID", "us_dea_number", r"(?i)\b[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7}\b", r"\b[a-z][a-z9]\d{7}\b", r"dea(?: (?:number|no|registration))?|prescriber",
        0.6, 0.97, validators.dea_number,
    ),
    _rule(
        "HEALTH_INSURANCE_ID", "us_medicare_beneficiary",
        r"(?i)\b[1-9][AC-HJKMNP-RT-Y][0-9AC-HJKMNP-RT-Y]\d-?[AC-HJKMNP-RT-Y][0-9AC-HJKMNP-RT-Y]\d-?[AC-HJKMNP-RT-Y]{2}\d{2}\b",
        r"\b[1-9][a-z][0-9a-z]\d-?[a-z][0-9a-z]\d-?[a-z]{2}\d\d\b", r"mbi|medicare(?: (?:id|number|beneficiary))?", 0.75, 0.97, validators.us_mbi,
    ),
    _rule(
        "HEALTH_INSURANCE_ID", "health_insurance_id",
        r"(?i)\b(?:health (?:insurance|plan)|insurance (?:policy|member|id)|member|subscriber|medicaid|policy holder|beneficiary|krankenversicherung\w{0,8}|versicherten-?(?:nummer|nr)|carte vitale|group)"
        r"[ ]?(?:id|number|no|nr|num|card)?(?: (?:id|number|no|nr))?[ .:#=]{0,4}(?:is |was )?[#:]?(?P<v>[A-Z]{0,4}-?\d[\dA-Z-]{5,16})\b",
        "health (?:insurance|plan)|insurance (?:policy|member|id)|medicaid|subscriber|member ?(?:id|n)|beneficiary|krankenvers|versicherten|vitale",
        score=0.8, check=_has_digits,
    ),
    _rule(
        "HEALTH_INSURANCE_ID", "de_health_insurance_id", r"\b[A-Z]\d{9}\b", "kvnr|krankenversich|versicherten",
        r"kvnr|krankenversich\w{0,14}|versicherten\w{0,8}", near_score=0.95,
        check=lambda text: validators.luhn_alternating(f"{ord(text[0]) - 64:02}{text[1:]}"),
    ),
    _rule("NHS_NUMBER", "phi_nhs_number", r"\b\d{3}[ -]?\d{3}[ -]?\d{4}\b", r"\bnhs", "nhs(?: (?:number|no))?", near_score=0.95, check=identity_numbers.nhs_number),
    _rule("MEDICARE_NUMBER", "phi_au_medicare", r"\b[2-6]\d{3} ?\d{5} ?\d(?:[ /-]?\d)?\b", "medicare", "medicare(?: (?:card|number|no))?",
          near_score=0.93, check=identity_numbers.australian_medicare),
    _rule(
        "PRESCRIPTION", "prescription_number", r"(?i)\b(?:rx|prescription) ?(?:number|no|#|id)[ .:#]{0,3}(?P<v>[A-Z]{0,2}\d{5,12})\b",
        r"\brx|prescription", score=0.8,
    ),
    _rule(
        "DRUG_CODE", "us_drug_code", r"\b(?:\d{4}-\d{4}-\d{2}|\d{5}-\d{3}-\d{2}|\d{5}-\d{4}-\d{1,2})\b", r"\bndc", "ndc|national drug code", near_score=0.8,
    ),
)  # fmt: skip
