"""The repository for full-size models: its tokenizers and ensembles on the real server.

The ONNX Runtime backend is not in the small server, so the same models run in the Python backend instead; what stands
before and behind them is the same.
"""

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support import triton_guard, triton_server
from trueport.detection.merging import check_readings
from trueport.detection.sidecar.files import triton_files
from trueport.detection.sidecar.named import Manifest, named_models, sha256_of
from trueport.detection.sidecar.production import put_named
from trueport.detection.sidecar.server import TritonServer
from trueport.detection.triton import TritonDetector
from trueport.detection.types import Passage
from trueport.kit.clock import SystemClock

MODELS = {
    "toxicity-roberta": ("toxicity", "identity_attack"),
    "injection-deberta": ("SAFE", "INJECTION"),
    "pii-kiji": ("O", "B-SURNAME"),
}
STAND_IN = Path(triton_server.__file__).with_name("triton_onnx_stand_in.py")


def lay_out(folder: Path) -> Path:
    repository = folder / "models"
    for name, labels in MODELS.items():
        fetched, named = folder / name, named_models()[name]
        triton_guard.write_named(fetched, labels, gives_tokens=named.served == "pii")
        (fetched / "onnx" / "model.onnx").rename(fetched / "model.onnx")
        files = {file: sha256_of(fetched / file) for file in ("model.onnx", "tokenizer.json")}
        manifest = Manifest(name, named.repository, "5f3a", named.licence, labels, "logits", 0, files)
        put_named(repository, named, manifest, fetched, device="cpu")
    return repository


def run_in_python(repository: Path) -> None:
    """Put the stand-in where the configuration names the ONNX Runtime backend, and change nothing else."""
    for model in repository.glob("guard_*"):
        config = model / "config.pbtxt"
        text = config.read_text()
        if "onnxruntime_onnx" in text:
            text = text.replace('platform: "onnxruntime_onnx"', 'backend: "python"')
            # There is no response cache in the small server.
            config.write_text(text.replace("response_cache { enable: true }", ""))
            [version] = [path for path in model.iterdir() if path.is_dir()]
            shutil.copyfile(STAND_IN, version / "model.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("production")
    repository = lay_out(folder)
    run_in_python(repository)
    server = TritonServer(triton_server.installed(), repository, folder / "server.log")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def detector(server: TritonServer) -> AsyncIterator[TritonDetector]:
    detector = TritonDetector(server.address, SystemClock(), timeout_ms=10_000, connect_timeout_ms=10_000)
    await detector.prepare()
    yield detector
    await detector.close()


async def test_the_full_size_layout_answers_like_any_other(detector: TritonDetector) -> None:
    text = "please ignore 😀 Jörg you idiot"
    passages, wanted = [Passage(text), Passage("hello world"), Passage("forward this", "document")], detector.categories
    attack, harmless, document = check_readings(await detector.read(passages, wanted), passages, wanted)

    assert attack.scores["prompt_injection"] > 0.9
    assert attack.scores["bias"] > 0.9
    assert [text[one.start : one.end] for one in attack.findings if one.category == "pii"] == ["Jörg"]
    assert max(harmless.scores.values()) < 0.1
    assert document.scores["indirect_injection"] > 0.9
    assert not attack.failures


async def test_a_text_beyond_512_tokens_is_read_to_its_end(detector: TritonDetector) -> None:
    text = "zq" * 1_500 + " ignore Alice"
    passages, wanted = [Passage(text)], detector.categories
    [reading] = check_readings(await detector.read(passages, wanted), passages, wanted)

    assert reading.scores["prompt_injection"] > 0.9
    assert [text[one.start : one.end] for one in reading.findings if one.category == "pii"] == ["Alice"]


def test_every_finding_of_the_full_size_models_can_be_traced_to_a_file(tmp_path: Path) -> None:
    repository = lay_out(tmp_path)

    for served in ("toxicity", "injection", "pii"):
        config = (repository / served / "config.pbtxt").read_text()
        versions = set(re.findall(r"versions?: \[? ?(\d+)", config))
        [version] = versions
        sha256 = re.search(r'"model_sha256" value { string_value: "([0-9a-f]{64})"', config)
        assert sha256 is not None
        assert int(sha256[1][:15], 16) == int(version)
        model = re.search(r'model_name: "(guard_(?!tok)\w+)"', config)
        assert model is not None
        assert sha256_of(repository / model[1] / version / "model.onnx") == sha256[1]


def test_tokenizers_differ_in_nothing_but_their_files() -> None:
    configs = {path.read_text() for path in triton_files().glob("models/guard_tok_*/config.pbtxt")}

    assert len(configs) == 1
