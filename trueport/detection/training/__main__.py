"""`python -m trueport.detection.training DATA_FOLDER --work FOLDER`: train, export, calibrate, measure, write."""

import argparse
import sys
import time
import zlib
from pathlib import Path

import torch  # type: ignore[import-not-found]  # training only
from tokenizers import Tokenizer

from trueport.detection.evaluation.measures import table
from trueport.detection.training.artefact import Run, write_artefact
from trueport.detection.training.batches import draw_batches, encode, groups
from trueport.detection.training.encoder import find_encoder
from trueport.detection.training.examples import Example, read_examples
from trueport.detection.training.export import export
from trueport.detection.training.generated import generate
from trueport.detection.training.learning import Plan, keep_topics, learn, save
from trueport.detection.training.network import from_checkpoint

_SHIPPED = Path(__file__).parent.parent / "models" / "guard"
_SAMPLE = Path(__file__).parents[3] / "tests" / "detection" / "models" / "sample.jsonl"
SHARES = {
    # Attacks that a person wrote are few beside what templates give.
    "TrustAIRLab": 3.0,
    "S-Labs": 1.6,
    "neuralchemy": 1.5,
    "microsoft/llmail": 1.2,
    "f/awesome": 1.5,
    "HannahKirk": 1.6,
    "conversationai": 1.3,
    "ipavlopoulos": 1.3,
    "t-davidson": 1.2,
    "microsoft/presidio": 1.3,
    # One family for each pair of a document's and an instruction's source: some hundred.
    "placed": 0.4,
    # Twenty languages.
    "template: attack in": 0.45,
    "template: request in": 0.6,
    "template: attack": 0.7,
    "template: document": 2.5,
    "template: hate": 1.6,
    "template: insult": 1.5,
    "template: groups": 1.5,
    "template: swearing": 1.5,
    "template: reclaimed": 1.5,
    "template: prejudice": 1.3,
    "template: names": 2.0,
    "template: no names": 2.0,
}
"""How much oftener a family is drawn than its size alone says, by the beginning of its name; see `batches.groups`."""


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    given.work.mkdir(parents=True, exist_ok=True)
    files = find_encoder()
    training, held_out, made = split(read_examples(given.data), generate(given.seed))
    network, published = from_checkpoint(files.weights), from_checkpoint(files.weights)
    if given.resume_from is not None:
        network.load_state_dict(torch.load(given.resume_from, weights_only=True))
    if not given.export_only:
        tokenizer = Tokenizer.from_file(str(files.tokenizer))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        batches = draw_batches(encode(tokenizer, training), groups(training, SHARES), given.tokens, given.seed)
        _say(f"{len(training)} examples, {len(held_out)} held out, {made} generated")
        network = learn(network, published, batches, Plan(given.steps, given.minutes * 60), given.work, _say)
        keep_topics(network, published, batches)
        save(network, given.work / "final.pt")
    exported = given.work / "guard.int8.onnx"
    export(network, exported)
    run = Run(given.seed, given.steps, given.tokens, given.minutes, len(training), made)
    _say(table(write_artefact(given.out, exported, files.tokenizer, held_out, given.data, _SAMPLE, run)))


def split(collected: list[Example], made: list[Example]) -> tuple[list[Example], list[Example], int]:
    """What is trained on, what is held out, and how many of the former are generated.

    Held out are whole sources; of texts with marked names, which have only three sources, every twelfth.
    """
    training: list[Example] = []
    held_out: list[Example] = []
    for one in [*collected, *made]:
        named_and_drawn = one.entities is not None and zlib.crc32(one.text.encode()) % 12 == 0
        (held_out if one.is_held_out or named_and_drawn else training).append(one)
    return training, held_out, sum(one.family.startswith("template:") for one in training)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trueport.detection.training", description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the labelled texts")
    parser.add_argument("--work", type=Path, required=True, help="folder for states of the run")
    parser.add_argument("--out", type=Path, default=_SHIPPED, help="artefact folder")
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--minutes", type=float, default=60.0, help="learn no longer than this")
    parser.add_argument("--tokens", type=int, default=4_096, help="tokens of a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume-from", type=Path, help="start from a saved state instead of the published encoder")
    parser.add_argument("--export-only", action="store_true", help="with --resume-from: learn nothing, only write")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
