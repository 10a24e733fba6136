"""A toy run of the whole training, where its packages are installed."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from trueport.detection.evaluation.metrics import auc  # noqa: E402 - after the packages are known to be there
from trueport.detection.training import batches  # noqa: E402
from trueport.detection.training.contract import HEADS, OUTPUTS  # noqa: E402
from trueport.detection.training.export import export  # noqa: E402
from trueport.detection.training.learning import Plan, learn, top_of_range  # noqa: E402
from trueport.detection.training.network import Network  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def toy_batches() -> list[batches.Batch]:
    """Texts of random tokens; a positive has token 5,000 somewhere."""
    random = np.random.default_rng(1)
    made: list[batches.Batch] = []
    for _ in range(60):
        drawn = []
        for at in range(24):
            ids = random.integers(1_000, 1_050, 10).astype(np.int32)
            if at % 2:
                ids[random.integers(0, 10)] = 5_000
            targets = np.full(4, float(at % 2), np.float32)
            one = batches.Encoded(ids, np.where(ids == 5_000, 1, 0).astype(np.int32), targets, None, bool(at % 2))
            drawn.append((one, slice(0, 10)))
        made.append(batches.collate(drawn, random))
    return made


def test_fifty_steps_teach_a_toy_and_the_exported_file_says_the_same(tmp_path: Path) -> None:
    import onnxruntime  # type: ignore[import-untyped]

    torch.manual_seed(1)
    made = toy_batches()
    network = Network(dropout=0.0)
    for parameter in network.words.parameters():
        parameter.data *= 0.3

    plan = Plan(steps=50, limit_s=600.0, encoder_rate=3e-4, head_rate=2e-3, averaged_over=0.8)
    learned = learn(network, network, islice(made, 50), plan, tmp_path, lambda _: None)
    export(learned, tmp_path / "toy.onnx")

    batch = made[-1]
    session = onnxruntime.InferenceSession(str(tmp_path / "toy.onnx"), providers=["CPUExecutionProvider"])
    fed = {"input_ids": batch.input_ids, "attention_mask": batch.mask}
    outputs = dict(zip(OUTPUTS, session.run(list(OUTPUTS), fed), strict=True))
    with torch.no_grad():
        exact = learned(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.mask))
    for at, head in enumerate(HEADS):
        assert auc(outputs[head].astype(np.float64), batch.targets[:, at] == 1.0) > 0.95
        assert np.abs(outputs[head] - exact[at].numpy()).mean() < 0.5
    assert (tmp_path / "average.pt").is_file()


def test_positives_above_the_highest_negatives_cost_less() -> None:
    negative = torch.zeros(20)

    assert top_of_range(torch.full((4,), 5.0), negative) < top_of_range(torch.full((4,), 0.5), negative)
