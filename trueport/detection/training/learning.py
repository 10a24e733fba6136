"""The training loop: one network, every head, batches of all tasks mixed."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch  # type: ignore[import-not-found]  # training only
from torch import Tensor
from torch.nn import functional  # type: ignore[import-not-found]  # training only

from trueport.detection.training.batches import IGNORED, Batch
from trueport.detection.training.contract import HEADS, OUTPUTS
from trueport.detection.training.network import LAYERS, SIZE, Network

_LOSS_WEIGHTS: Final = {
    "injection": 1.0,
    "injection_rank": 0.15,
    "indirect": 0.7,
    "toxicity": 0.8,
    "toxicity_rank": 0.12,
    "bias": 0.4,
    "pii": 0.6,
    "embedding": 2.0,
}
# Every plain attack is also an example of an order in a document: positives outnumber negatives four to one.
_POSITIVE_WEIGHTS: Final = {"indirect": 0.4}
_RANKED: Final = ("injection", "toxicity")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to learn. Training ends at `steps` or after `limit_s`, whichever comes first.

    Rates fall to zero over whichever of the two is nearer, so that a slow machine gets a finished, shorter run.
    """

    steps: int
    limit_s: float
    encoder_rate: float = 8e-5
    head_rate: float = 6e-4
    warm_up: float = 0.04
    layer_decay: float = 0.9
    averaged_over: float = 0.995
    remember_topics_every: int = 4
    save_every_s: float = 180.0


class Weights:
    """The trained network three times: as it computes, as it is kept, and averaged over the recent steps.

    It computes in bfloat16, which processors with AMX multiply ten times as fast, and is kept in float32, since a step
    is often smaller than what bfloat16 can tell apart.
    """

    def __init__(self, network: Network, plan: Plan) -> None:
        self.computing = network
        self.average = copy.deepcopy(network)
        kept = copy.deepcopy(network)
        self.computing.to(torch.bfloat16).train()
        # The words stay as published: the training texts have too few of them to move all 30,000.
        for one in (self.computing, kept):
            one.words.requires_grad_(False)
            one.positions.requires_grad_(False)
        moving = [at for at, one in enumerate(kept.parameters()) if one.requires_grad]
        self._computing, self._kept, self._average = (
            [list(one.parameters())[at] for at in moving] for one in (self.computing, kept, self.average)
        )
        self._optimiser = torch.optim.AdamW(_rates(kept, plan), weight_decay=0.01, betas=(0.9, 0.98))
        self._rates = [group["lr"] for group in self._optimiser.param_groups]
        self._plan = plan
        self._steps = 0

    def step(self, loss: Tensor, progress: float) -> None:
        """Move everything one step down. progress: of the whole run, from 0 to 1; rates rise shortly and then fall."""
        share = min(1.0, progress / self._plan.warm_up + 0.01) * (1.0 - progress)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        loss.backward()
        for computing, kept in zip(self._computing, self._kept, strict=True):
            kept.grad = None if computing.grad is None else computing.grad.float()
            computing.grad = None
        torch.nn.utils.clip_grad_norm_(self._kept, 1.0)
        self._optimiser.step()
        # Early on the average is young, or it would remember the beginning for long.
        remembered = min(self._plan.averaged_over, (1 + self._steps) / (10 + self._steps))
        with torch.no_grad():
            torch._foreach_copy_(self._computing, self._kept)
            torch._foreach_lerp_(self._average, self._kept, 1.0 - remembered)
        self._steps += 1


def learn(
    network: Network, published: Network, batches: Iterator[Batch], plan: Plan, folder: Path, say: Callable[[str], None]
) -> Network:
    """Train `network` and return the average of its weights over the last steps, float32.

    published: the network as it was before any training; its embeddings are what topics are to keep.
    The average is written to `folder` every few minutes, so that a broken run leaves a usable state.
    """
    teacher = copy.deepcopy(published).to(torch.bfloat16).train(False)
    weights = Weights(network, plan)
    began_s = saved_s = time.monotonic()
    running: dict[str, float] = {}
    tokens = 0
    for step, batch in zip(range(plan.steps), batches, strict=False):
        progress = max(step / plan.steps, (time.monotonic() - began_s) / plan.limit_s)
        if progress >= 1.0:
            break
        losses = _losses(weights.computing, teacher if step % plan.remember_topics_every == 0 else None, batch)
        weights.step(sum(_LOSS_WEIGHTS[name] * loss for name, loss in losses.items()), progress)
        tokens += batch.input_ids.size
        for name, loss in losses.items():
            running[name] = 0.98 * running.get(name, loss.item()) + 0.02 * loss.item()
        if step % 20 == 0:
            parts = " ".join(f"{name}={value:.3f}" for name, value in running.items())
            say(f"step {step} {progress:.1%} {tokens / (time.monotonic() - began_s):.0f} tokens/s {parts}")
        if time.monotonic() - saved_s > plan.save_every_s:
            saved_s = time.monotonic()
            save(weights.average, folder / "average.pt")
    save(weights.average, folder / "average.pt")
    weights.average.train(False)
    return weights.average


def keep_topics(network: Network, published: Network, batches: Iterator[Batch], count: int = 60) -> None:
    """Set the topics' layer so that embeddings come closest to those of the published encoder, by ridge regression.

    Training moves the encoder faster than the layer learns to undo it; this ends the chase. `count` batches decide.
    """
    gram, cross = torch.zeros(SIZE + 1, SIZE + 1), torch.zeros(SIZE + 1, SIZE)
    half, half_published = (copy.deepcopy(one).to(torch.bfloat16).train(False) for one in (network, published))
    with torch.no_grad():
        for _, batch in zip(range(count), batches, strict=False):
            input_ids, mask = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.mask)
            meant = half_published(input_ids, mask)[-1].float()
            column = mask[:, :, None].to(torch.bfloat16)
            mean = ((half.encode(input_ids, column[:, :, 0]) * column).sum(dim=1) / column.sum(dim=1)).float()
            known = torch.cat([mean, torch.ones(len(mean), 1)], dim=1)
            gram += known.T @ known
            cross += known.T @ meant
        ridge = 1e-3 * gram.diagonal().mean() * torch.eye(SIZE + 1)
        solved = torch.linalg.solve(gram + ridge, cross)
        network.topics.weight.copy_(solved[:SIZE].T)
        network.topics.bias.copy_(solved[SIZE])


def save(network: Network, path: Path) -> None:
    """Write the weights whole or not at all."""
    torch.save(network.state_dict(), path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def _rates(network: Network, plan: Plan) -> list[dict[str, object]]:
    """Parameters with their learning rates: lower layers move less, new heads more."""
    grouped: dict[float, list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith(("heads", "tokens")):
            rate = plan.head_rate
        else:
            layer = int(name.split(".")[1]) if name.startswith("layers") else LAYERS if name.startswith("topics") else 0
            rate = plan.encoder_rate * plan.layer_decay ** (LAYERS - layer)
        grouped.setdefault(rate, []).append(parameter)
    return [{"params": parameters, "lr": rate} for rate, parameters in grouped.items()]


def _losses(network: Network, teacher: Network | None, batch: Batch) -> dict[str, Tensor]:
    input_ids, mask = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.mask)
    targets, labels = torch.from_numpy(batch.targets), torch.from_numpy(batch.labels)
    outputs = dict(zip(OUTPUTS, network(input_ids, mask), strict=True))
    losses: dict[str, Tensor] = {}
    for at, head in enumerate(HEADS):
        known = ~torch.isnan(targets[:, at])
        if known.any():
            logits, wanted = outputs[head].float()[known], targets[known, at]
            losses[head] = functional.binary_cross_entropy_with_logits(
                logits, wanted, pos_weight=torch.tensor(_POSITIVE_WEIGHTS.get(head, 1.0))
            )
            if head in _RANKED and 0 < wanted.sum() < len(wanted):
                losses[f"{head}_rank"] = top_of_range(logits[wanted == 1], logits[wanted == 0])
    if (labels != IGNORED).any():
        losses["pii"] = functional.cross_entropy(
            outputs["pii"].float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED
        )
    if teacher is not None:
        with torch.no_grad():
            meant = teacher(input_ids, mask)[-1]
        losses["embedding"] = 1.0 - (outputs["embedding"].float() * meant.float()).sum(dim=1).mean()
    return losses


def top_of_range(positive: Tensor, negative: Tensor) -> Tensor:
    """How far positives stay below the highest tenth of the negatives: what decides recall at few false positives.

    positive, negative: logits, shapes (n,) and (m,), neither empty. Returns a scalar.
    """
    highest = negative.topk(math.ceil(len(negative) / 10)).values
    return functional.softplus(1.0 + highest[None, :] - positive[:, None]).mean()
