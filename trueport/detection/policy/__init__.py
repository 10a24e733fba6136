"""What a tenant allows: rules as they are written, compiled, and the decision they come to. Pure."""

from trueport.detection.policy.decision import Hit, Judged, Span, Unscannable, UnscannableKind, Verdict
from trueport.detection.policy.documents import PolicyDocument, problems_of, read_policy
from trueport.detection.policy.presets import Preset, UnknownPreset, preset_named, presets, unfold
from trueport.detection.policy.rules import ActivePolicies, Bands, Context, Policy, PolicySet, Vector, compile_policy

__all__ = [
    "ActivePolicies",
    "Bands",
    "Context",
    "Hit",
    "Judged",
    "Policy",
    "PolicyDocument",
    "PolicySet",
    "Preset",
    "Span",
    "UnknownPreset",
    "Unscannable",
    "UnscannableKind",
    "Vector",
    "Verdict",
    "compile_policy",
    "preset_named",
    "presets",
    "problems_of",
    "read_policy",
    "unfold",
]
