"""What a tenant allows: rules as they are written, compiled, and the decision they come to. Pure."""

from trueport.detection.policy.decision import Hit, Judged, Span, Unscannable, UnscannableKind, Verdict
from trueport.detection.policy.documents import PolicyDocument, problems_of, read_policy
from trueport.detection.policy.rules import ActivePolicies, Context, Policy, PolicySet, compile_policy

__all__ = [
    "ActivePolicies",
    "Context",
    "Hit",
    "Judged",
    "Policy",
    "PolicyDocument",
    "PolicySet",
    "Span",
    "Unscannable",
    "UnscannableKind",
    "Verdict",
    "compile_policy",
    "problems_of",
    "read_policy",
]
