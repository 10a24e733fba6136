"""What each framework asks for that a trail of calls can show something about, in our words, and what it cannot show.

The texts of the frameworks are not repeated: references name the places, and a reader has the texts beside the pack.
Sources: Regulation (EU) 2024/1689 (AI Act); ISO/IEC 42001:2023; AICPA Trust Services Criteria 2017 with the points of
focus of 2022 (SOC 2); NIST AI 100-1 (AI RMF 1.0); Regulation (EU) 2016/679 (GDPR), article 30.
"""

from dataclasses import dataclass
from typing import Final, Literal

SIX_MONTHS_DAYS: Final = 183
"""Articles 19(1) and 26(6) of the AI Act ask for at least six months."""

FrameworkName = Literal["eu-ai-act", "iso-42001", "soc2", "nist-ai-rmf", "gdpr-30"]


@dataclass(frozen=True, slots=True)
class Statement:
    """What the trail shows for one place of a framework.

    `asks` is what that place asks for; `says` is a sentence with figures: the ids of queries and the members that
    `pack.figures_said` adds stand in braces. `queries` are behind it, and the state of the archive where
    `is_about_proof`. `least_days` is how old the oldest record has to be for it to be
    shown. A statement whose queries all found nothing says so instead.
    """

    reference: str
    asks: str
    says: str
    queries: tuple[str, ...]
    not_shown: str
    is_about_proof: bool = False
    least_days: int = 0


@dataclass(frozen=True, slots=True)
class Framework:
    """`uncovered` names places that a trail of calls shows nothing about, with what would."""

    name: FrameworkName
    title: str
    statements: tuple[Statement, ...]
    uncovered: tuple[tuple[str, str], ...]


_RECORDED: Final = "{calls} calls were recorded in the period, of {key_ids} keys, as they happened."
_SEEN: Final = (
    "Policies saw something in {found} calls and {refused} calls were refused; in {detector_loss} calls a detector "
    "gave no answer, which is recorded too."
)
_KEPT: Final = (
    "The oldest record of the archive is of {oldest}, {days} days before this pack was made. The first {fixed} records "
    "are under signed checkpoints."
)
_PROVED: Final = "The archive holds {records} records; the first {fixed} are proved to be those that were signed."
_CHANGED: Final = (
    "{changes} changes to configuration and policies are recorded; which version decided stands in {versions} calls."
)
_SUPPLIED: Final = "Which provider and model served each of {calls} calls is recorded; {failed} calls failed."
_GUARDED: Final = "{sealed} contents are kept sealed, and {looks} looks at content or exports are recorded."
_SIGNED_IN: Final = "{sign_ins} sign-ins and changes to accounts and keys are recorded; {key_ids} keys were used."

_NOT_OUTSIDE: Final = "Calls that went around the gateway are not in it."
_NOT_ADEQUATE: Final = (
    "It shows what was seen and done, not that detectors saw everything or that policies are adequate."
)
_NOT_FUTURE: Final = "It shows how long records have been kept, not that they will be: that is a setting and a promise."
_NOT_KEY: Final = "It rests on the signing key, unless checkpoints kept elsewhere were given. See the examination."
_NOT_REVIEWED: Final = "That changes were reviewed and approved by the right people is not in the trail."
_NOT_SUPPLIER: Final = "It shows whose services were used, not what was agreed with them or assessed beforehand."
_NOT_HUMAN: Final = "It shows that people acted, not that they were competent, trained or had the authority to."
_NOT_OTHER: Final = "Access to hosts, databases and backups is not in it."

EU_AI_ACT: Final = Framework(
    "eu-ai-act",
    "EU AI Act: record-keeping, logs, and duties of deployers (articles 12, 19, 26)",
    (
        Statement("Article 12(1)", "Events are recorded automatically.", _RECORDED, ("calls",), _NOT_OUTSIDE),
        Statement(
            "Article 12(2)(a)",
            "Events that help to find risks are recorded.",
            _SEEN,
            ("found", "refused", "detector_loss"),
            _NOT_ADEQUATE,
        ),
        Statement(
            "Article 12(2)(b)",
            "Events that help monitoring after the system is in use are recorded.",
            "{failed} failed calls and {found} calls with findings can be followed one by one.",
            ("failed", "found"),
            "A plan for monitoring and what was concluded from it are documents of the provider.",
        ),
        Statement(
            "Article 12(2)(c)",
            "Events that let deployers monitor the operation are recorded.",
            "For each of {calls} calls, model, provider, decision and versions are recorded.",
            ("calls", "versions"),
            "That somebody looked at them is shown by cases and reviews, not by the trail.",
        ),
        Statement(
            "Article 19(1)",
            "Providers keep the logs, for at least six months.",
            _KEPT,
            ("calls",),
            _NOT_FUTURE,
            True,
            SIX_MONTHS_DAYS,
        ),
        Statement(
            "Article 26(2)",
            "People oversee the system.",
            "{changes} changes by people, {looks} looks at content or exports, and {holds} legal holds are recorded.",
            ("changes", "looks", "holds"),
            _NOT_HUMAN,
        ),
        Statement(
            "Article 26(5)", "Deployers monitor the operation.", _SEEN, ("found", "detector_loss"), _NOT_ADEQUATE
        ),
        Statement(
            "Article 26(6)",
            "Deployers keep the logs, for at least six months.",
            _KEPT,
            ("calls",),
            _NOT_FUTURE,
            True,
            SIX_MONTHS_DAYS,
        ),
    ),
    (
        ("Article 12(3)", "Remote biometric identification has a list of its own; a gateway does not keep it."),
        ("Article 26(1)", "Use according to the instructions: shown by those instructions and your procedures."),
        ("Article 26(4)", "That input data is relevant and representative: shown by how you choose it."),
        ("Article 26(7) and (11)", "That workers and the people concerned were informed: shown by those notices."),
    ),
)

ISO_42001: Final = Framework(
    "iso-42001",
    "ISO/IEC 42001:2023, AI management system",
    (
        Statement(
            "7.5.3", "Documented information is protected against change and loss.", _PROVED, ("calls",), _NOT_KEY, True
        ),
        Statement(
            "8.1",
            "Operation is planned and controlled, and changes are too.",
            _CHANGED,
            ("changes", "versions"),
            _NOT_REVIEWED,
        ),
        Statement(
            "9.1", "What is to be monitored is measured.", _SEEN, ("calls", "found", "detector_loss"), _NOT_ADEQUATE
        ),
        Statement(
            "10.2",
            "Nonconformities are reacted to.",
            "{refused} calls were refused when policies or limits said so.",
            ("refused", "found"),
            "Causes, corrective actions and whether they helped are not in the trail.",
        ),
        Statement("Annex A.6.2.6", "Operation is monitored.", _SUPPLIED, ("calls", "failed"), _NOT_ADEQUATE),
        Statement(
            "Annex A.6.2.8", "Event logs are recorded while the system is in use.", _RECORDED, ("calls",), _NOT_OUTSIDE
        ),
        Statement("Annex A.10.3", "Suppliers are taken into account.", _SUPPLIED, ("calls",), _NOT_SUPPLIER),
    ),
    (
        ("4 to 6", "Context, leadership, risk and impact assessment are documents of the organisation."),
        ("9.2 and 9.3", "Internal audit and management review are shown by their minutes."),
    ),
)

SOC2: Final = Framework(
    "soc2",
    "SOC 2, Trust Services Criteria",
    (
        Statement(
            "CC6.1", "Logical access is restricted to those who may.", _SIGNED_IN, ("sign_ins", "calls"), _NOT_OTHER
        ),
        Statement(
            "CC6.7", "Moving information out is restricted and recorded.", _GUARDED, ("looks", "sealed"), _NOT_OTHER
        ),
        Statement("CC7.2", "Anomalies are watched for.", _SEEN, ("found", "refused", "detector_loss"), _NOT_ADEQUATE),
        Statement(
            "CC7.3",
            "Security events are evaluated.",
            "{found} calls with findings are recorded with policy and score.",
            ("found",),
            "How each was judged is in its case, which is not part of the trail.",
        ),
        Statement(
            "CC8.1", "Changes are authorised, made and recorded.", _CHANGED, ("changes", "versions"), _NOT_REVIEWED
        ),
        Statement(
            "A1.2",
            "Availability is watched.",
            _SUPPLIED,
            ("failed", "calls"),
            "Backups and recovery tests are not in it.",
        ),
        Statement("PI1.5", "What is stored stays complete and correct.", _PROVED, ("calls",), _NOT_KEY, True),
        Statement(
            "C1.2",
            "Confidential information is disposed of.",
            "{erasures} erasures are recorded; {sealed} contents were sealed.",
            ("erasures", "sealed"),
            "Copies outside the gateway and in backups are not in it.",
        ),
    ),
    (
        ("CC1 to CC5", "Control environment, communication, risk assessment: your documents."),
        ("CC6.4", "Physical access: shown by the hosting provider."),
    ),
)

NIST_AI_RMF: Final = Framework(
    "nist-ai-rmf",
    "NIST AI Risk Management Framework 1.0",
    (
        Statement("GOVERN 1.5", "Ongoing monitoring is in place.", _RECORDED, ("calls",), _NOT_OUTSIDE),
        Statement("GOVERN 6.1", "Risks of third parties are addressed.", _SUPPLIED, ("calls",), _NOT_SUPPLIER),
        Statement(
            "MEASURE 2.4",
            "Behaviour is monitored in production.",
            _SEEN,
            ("calls", "found", "detector_loss"),
            _NOT_ADEQUATE,
        ),
        Statement(
            "MEASURE 2.7", "Security and resilience are documented.", _SEEN, ("refused", "failed"), _NOT_ADEQUATE
        ),
        Statement(
            "MEASURE 2.8", "Transparency and accountability are documented.", _PROVED, ("calls",), _NOT_KEY, True
        ),
        Statement(
            "MEASURE 2.10",
            "Privacy risk is documented.",
            "Personal or health data was seen in {personal} calls; {sealed} contents were sealed, {erasures} erased.",
            ("personal", "sealed", "erasures"),
            _NOT_ADEQUATE,
        ),
        Statement(
            "MANAGE 3.1", "Third-party services are regularly monitored.", _SUPPLIED, ("calls", "failed"), _NOT_SUPPLIER
        ),
        Statement(
            "MANAGE 4.1",
            "The system is monitored after it is in use, and changes are managed.",
            _CHANGED,
            ("changes", "versions"),
            _NOT_REVIEWED,
        ),
        Statement(
            "MANAGE 4.3",
            "Incidents and errors are tracked.",
            "{failed} failed calls and {found} with findings are recorded.",
            ("failed", "found"),
            "That they were communicated to those concerned is not in the trail.",
        ),
    ),
    (("MAP", "Context, intended use and impacts are documents of the organisation."),),
)

GDPR_30: Final = Framework(
    "gdpr-30",
    "GDPR, article 30: records of processing",
    (
        Statement(
            "Article 30(1)(c)",
            "Categories of personal data.",
            "Personal or health data was seen in {personal} of {calls} calls; the kinds seen are listed.",
            ("personal", "calls"),
            "Data that no detector looked for or recognised is not counted.",
        ),
        Statement(
            "Article 30(1)(d)",
            "Recipients.",
            "The providers that were sent data are listed, over {calls} calls.",
            ("calls",),
            "Whom providers pass data on to is in their contracts.",
        ),
        Statement(
            "Article 30(1)(f)",
            "Time limits for erasure.",
            f"{_KEPT} {{erasures}} erasures are recorded.",
            ("erasures", "calls"),
            _NOT_FUTURE,
        ),
        Statement(
            "Article 30(1)(g)",
            "Technical and organisational measures.",
            f"{_GUARDED} {_PROVED}",
            ("sealed", "looks"),
            _NOT_OTHER,
            True,
        ),
    ),
    (
        ("Article 30(1)(a)", "Controller and data protection officer: add them from your register."),
        ("Article 30(1)(b)", "Purposes of processing: add them from your register."),
        ("Article 30(1)(e)", "Transfers to third countries and their safeguards: shown by contracts with providers."),
    ),
)

FRAMEWORKS: Final[dict[str, Framework]] = {
    each.name: each for each in (EU_AI_ACT, ISO_42001, SOC2, NIST_AI_RMF, GDPR_30)
}
