"""The names that the exported model, its readers and the training share."""

from typing import Final

HEADS: Final = ("injection", "indirect", "toxicity", "bias")
PII_LABELS: Final = (
    "O",
    "B-PERSON",
    "I-PERSON",
    "B-LOCATION",
    "I-LOCATION",
    "B-ADDRESS",
    "I-ADDRESS",
    "B-ORG",
    "I-ORG",
)
OUTPUTS: Final = (*HEADS, "pii", "embedding")
"""The model's outputs in order: a logit for each head, BIO logits of each token, the text's embedding."""
