"""The network: a MiniLM encoder, a pooling and a small classifier for each head, and a label for each token.

Written out here rather than taken from a model library, so that the exported graph holds what inference needs and
nothing else. Parameter names follow the published checkpoint where they can.
"""

from pathlib import Path
from typing import Final

import torch  # type: ignore[import-not-found]  # training only
from safetensors.torch import load_file  # type: ignore[import-not-found]  # training only
from torch import Tensor, nn
from torch.nn import functional  # type: ignore[import-not-found]  # training only

from trueport.detection.training.contract import HEADS, PII_LABELS

SIZE: Final = 384
LAYERS: Final = 6
ATTENTION_HEADS: Final = 12
INNER: Final = 1536
POSITIONS: Final = 512
VOCABULARY: Final = 30522
_EPSILON: Final = 1e-12


class Layer(nn.Module):  # type: ignore[misc]  # torch is absent where types are checked
    """One transformer layer, normalised after each half as BERT does it."""

    def __init__(self) -> None:
        super().__init__()
        self.query_key_value = nn.Linear(SIZE, 3 * SIZE)
        self.attended = nn.Linear(SIZE, SIZE)
        self.attended_norm = nn.LayerNorm(SIZE, eps=_EPSILON)
        self.widened = nn.Linear(SIZE, INNER)
        self.narrowed = nn.Linear(INNER, SIZE)
        self.narrowed_norm = nn.LayerNorm(SIZE, eps=_EPSILON)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """states: (batch, length, 384). mask: (batch, 1, 1, length), 0 to attend and very negative not to."""
        batch, length = states.shape[0], states.shape[1]
        split = self.query_key_value(states).view(batch, length, 3, ATTENTION_HEADS, SIZE // ATTENTION_HEADS)
        query, key, value = (split[:, :, at].transpose(1, 2) for at in range(3))
        # Written out: the fused attention spends half of a training step in its backward pass on a CPU.
        scaled = query * (SIZE // ATTENTION_HEADS) ** -0.5
        weights = functional.softmax(scaled @ key.transpose(2, 3) + mask, dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, length, SIZE)
        states = self.attended_norm(states + self.attended(mixed))
        return self.narrowed_norm(states + self.narrowed(functional.gelu(self.widened(states))))


class Head(nn.Module):  # type: ignore[misc]  # torch is absent where types are checked
    """A logit for the whole text, from its mean and from the places the head itself chooses to look at.

    An instruction hidden in a document is a few tokens of many: a mean alone would drown it.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.attention = nn.Linear(SIZE, 4)
        self.inner = nn.Linear(5 * SIZE, 192)
        self.outer = nn.Linear(192, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mean: Tensor, mask: Tensor) -> Tensor:
        """states: (batch, length, 384). mean: (batch, 384). mask: (batch, length, 1). Returns (batch,)."""
        weights = functional.softmax(self.attention(states) + (1.0 - mask) * -1e4, dim=1)
        looked_at = (weights.transpose(1, 2) @ states).reshape(states.shape[0], 4 * SIZE)
        joined = torch.cat([mean, looked_at], dim=1)
        return self.outer(self.dropout(functional.gelu(self.inner(joined))))[:, 0]


class Network(nn.Module):  # type: ignore[misc]  # torch is absent where types are checked
    """Token ids in; the outputs of the model contract out, in the order of `OUTPUTS`."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, SIZE)
        self.positions = nn.Embedding(POSITIONS, SIZE)
        self.norm = nn.LayerNorm(SIZE, eps=_EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.heads = nn.ModuleDict({name: Head(dropout) for name in HEADS})
        self.tokens = nn.Linear(SIZE, len(PII_LABELS))
        # Begins as the identity: it undoes what the other heads make of the encoder, so that topics keep their meaning.
        self.topics = nn.Linear(SIZE, SIZE)
        nn.init.eye_(self.topics.weight)
        nn.init.zeros_(self.topics.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """input_ids, attention_mask: int64, (batch, length). Returns the tensors named in `OUTPUTS`."""
        mask = attention_mask.to(self.norm.weight.dtype)
        states = self.encode(input_ids, mask)
        column = mask[:, :, None]
        mean = (states * column).sum(dim=1) / column.sum(dim=1).clamp(min=1.0)
        logits = [self.heads[name](states, mean, column) for name in HEADS]
        embedding = functional.normalize(self.topics(mean), dim=1)
        return (*logits, self.tokens(states), embedding)

    def encode(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """The last layer's states. mask: (batch, length), 1 for a token. Returns (batch, length, 384)."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        states = self.norm(self.words(input_ids) + self.positions(places)[None])
        bias = ((1.0 - mask) * -1e4)[:, None, None, :]
        for layer in self.layers:
            states = layer(states, bias)
        return states


def from_checkpoint(weights: Path, dropout: float = 0.1) -> Network:
    """The network with the encoder of a published MiniLM checkpoint and untrained heads."""
    network = Network(dropout)
    published = load_file(str(weights))
    published = {name.removeprefix("bert."): tensor for name, tensor in published.items()}
    ours = {
        "words.weight": published["embeddings.word_embeddings.weight"],
        # A text is always the first segment: its embedding is a constant at every position.
        "positions.weight": published["embeddings.position_embeddings.weight"]
        + published["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": published["embeddings.LayerNorm.weight"],
        "norm.bias": published["embeddings.LayerNorm.bias"],
    }
    renamed = {
        "attended": "attention.output.dense",
        "attended_norm": "attention.output.LayerNorm",
        "widened": "intermediate.dense",
        "narrowed": "output.dense",
        "narrowed_norm": "output.LayerNorm",
    }
    for number in range(LAYERS):
        theirs = f"encoder.layer.{number}"
        for kind in ("weight", "bias"):
            parts = [published[f"{theirs}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            ours[f"layers.{number}.query_key_value.{kind}"] = torch.cat(parts)
            for our_name, their_name in renamed.items():
                ours[f"layers.{number}.{our_name}.{kind}"] = published[f"{theirs}.{their_name}.{kind}"]
    lacking = network.load_state_dict(ours, strict=False)
    if lacking.unexpected_keys or any(
        not name.startswith(("heads", "tokens", "topics")) for name in lacking.missing_keys
    ):
        raise ValueError(f"The checkpoint {weights} is not a MiniLM-L6 encoder.")
    return network
