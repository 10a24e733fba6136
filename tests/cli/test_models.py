"""`trueport models`, with a hub on this machine in the place of the real one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support import triton_guard
from tests.support.triton_hub import COMMIT, Hub, serving
from trueport.cli.models import models
from trueport.detection.sidecar.named import named_models, read_manifest, sha256_of
from trueport.detection.sidecar.versions import version_number

TOXICITY = "unitary/unbiased-toxic-roberta"
PII = "DataikuNLP/kiji-pii-model"
TOXIC_LABELS = ("toxicity", "identity_attack")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    triton_guard.write_named(tmp_path / "toxicity", TOXIC_LABELS, gives_tokens=False)
    triton_guard.write_named(tmp_path / "injection", ("SAFE", "INJECTION"), gives_tokens=False)
    triton_guard.write_named(tmp_path / "pii", ("O", "B-SURNAME"), gives_tokens=True)
    repositories = {
        TOXICITY: tmp_path / "toxicity",
        "protectai/deberta-v3-base-prompt-injection-v2": tmp_path / "injection",
        PII: tmp_path / "pii",
        "meta-llama/Llama-Prompt-Guard-2-22M": tmp_path / "injection",
    }
    with serving(Hub(repositories)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield hub


def run(data: Path, *arguments: str) -> Result:
    command, *rest = arguments
    return CliRunner().invoke(models, [command, "--data-dir", str(data), *rest])


def rows(data: Path) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(run(data, "list", "--json").stdout)["data"]}


@pytest.mark.usefixtures("hub")
def test_pull_fetches_the_models_that_are_usual(tmp_path: Path) -> None:
    result = run(tmp_path / "data", "pull")

    assert result.exit_code == 0, result.output
    listed = rows(tmp_path / "data")
    assert {name for name, row in listed.items() if row["state"] == "ok"} - {"guard"} == {
        "toxicity-roberta",
        "injection-deberta",
        "pii-kiji",
    }
    assert listed["pii-kiji"]["revision"] == COMMIT


@pytest.mark.usefixtures("hub")
def test_what_was_fetched_is_laid_into_the_servers_repository_under_its_hash(tmp_path: Path) -> None:
    run(tmp_path, "pull", "toxicity-roberta", "--repository", str(tmp_path / "triton"), "--device", "cpu")

    manifest = read_manifest(tmp_path / "models" / "toxicity-roberta")
    assert manifest is not None
    assert manifest.labels == TOXIC_LABELS
    version = str(version_number(manifest.sha256))
    placed = tmp_path / "triton" / "guard_toxicity_roberta" / version / "model.onnx"
    assert sha256_of(placed) == manifest.sha256
    assert (tmp_path / "triton" / "guard_tok_roberta" / version / "tokenizer.json").is_file()
    assert (tmp_path / "triton" / "toxicity" / version).is_dir()
    assert (tmp_path / "triton" / "exfiltration" / "config.pbtxt").is_file()
    for config in (tmp_path / "triton").glob("*/config.pbtxt"):
        assert "@" not in config.read_text(), config
    served = (tmp_path / "triton" / "toxicity" / "config.pbtxt").read_text()
    assert manifest.sha256 in served
    assert '"toxicity,identity_attack"' in served


@pytest.mark.parametrize("device", ["gpu", "tensorrt", "cpu"])
@pytest.mark.usefixtures("hub")
def test_the_device_decides_where_the_model_runs(tmp_path: Path, device: str) -> None:
    run(tmp_path, "pull", "pii-kiji", "--device", device)

    config = (tmp_path / "models" / "triton" / "guard_pii_distilbert" / "config.pbtxt").read_text()
    assert ("KIND_CPU" in config) is (device == "cpu")
    assert ("tensorrt" in config) is (device == "tensorrt")
    assert config.count("{") == config.count("}")
    assert config.count("[") == config.count("]")


@pytest.mark.usefixtures("hub")
def test_a_pinned_revision_is_the_one_that_is_fetched(hub: Hub, tmp_path: Path) -> None:
    result = run(tmp_path, "pull", "pii-kiji", "--revision", "v1")

    assert result.exit_code == 0, result.output
    assert f"/api/models/{PII}/revision/v1" in hub.asked
    assert all(COMMIT in path for path in hub.asked if "/resolve/" in path)


@pytest.mark.usefixtures("hub")
def test_a_revision_that_is_not_there_is_said(tmp_path: Path) -> None:
    result = run(tmp_path, "pull", "pii-kiji", "--revision", "v9")

    assert result.exit_code == 3
    assert "no such revision" in result.output


def test_a_file_that_is_not_what_the_hub_announced_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.damaged.add("onnx/model.onnx")
    result = run(tmp_path, "pull", "pii-kiji")

    assert result.exit_code == 1
    assert "not the file that the hub announced" in result.output
    assert not (tmp_path / "models" / "pii-kiji").exists()


def test_a_failed_pull_leaves_the_earlier_model_in_its_place(hub: Hub, tmp_path: Path) -> None:
    run(tmp_path, "pull", "pii-kiji")
    hub.damaged.add("tokenizer.json")
    run(tmp_path, "pull", "pii-kiji")

    assert rows(tmp_path)["pii-kiji"]["state"] == "ok"
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["pii-kiji", "triton"]


def test_a_model_for_other_inputs_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[PII] = hub.repositories[TOXICITY]
    result = run(tmp_path, "pull", "pii-kiji")

    assert result.exit_code == 1
    assert "no output for 2 labels" in result.output


def test_a_model_without_onnx_says_what_exporting_needs(hub: Hub, tmp_path: Path) -> None:
    (hub.repositories[PII] / "onnx" / "model.onnx").unlink()
    (hub.repositories[PII] / "model.safetensors").write_bytes(b"weights")
    result = run(tmp_path, "pull", "pii-kiji")

    assert result.exit_code == 1
    assert "pip install torch 'optimum[onnx]'" in result.output
    assert not any("safetensors" in path for path in hub.asked)


@pytest.mark.parametrize("file", ["tokenizer.json", "config.json"])
def test_a_repository_that_lacks_a_file_is_refused(hub: Hub, tmp_path: Path, file: str) -> None:
    (hub.repositories[PII] / file).unlink()
    result = run(tmp_path, "pull", "pii-kiji")

    assert result.exit_code == 1
    assert f"has no {file}" in result.output


def test_a_licence_has_to_be_accepted_first(hub: Hub, tmp_path: Path) -> None:
    refused = run(tmp_path, "pull", "injection-prompt-guard-2-22m")
    asked = [*hub.asked]
    accepted = run(tmp_path, "pull", "injection-prompt-guard-2-22m", "--accept-licence")

    assert refused.exit_code == 1
    assert "--accept-licence" in refused.output
    assert asked == []
    assert accepted.exit_code == 0, accepted.output


def test_a_gated_model_says_where_to_ask(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add("meta-llama/Llama-Prompt-Guard-2-22M")
    result = run(tmp_path, "pull", "injection-prompt-guard-2-22m", "--accept-licence")

    assert result.exit_code == 3
    assert "HF_TOKEN" in result.output


@pytest.mark.parametrize(("name", "why"), [("pii-piiranha", "commercial"), ("injection-piguard", "runs code")])
def test_some_models_are_never_fetched(hub: Hub, tmp_path: Path, name: str, why: str) -> None:
    result = run(tmp_path, "pull", name, "--accept-licence")

    assert result.exit_code == 1
    assert why in result.output
    assert hub.asked == []


def test_a_hub_that_is_away_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    result = run(tmp_path, "pull")

    assert result.exit_code == 3
    assert "http://127.0.0.1:1 cannot be reached" in result.output
    assert "TRUEPORT_DETECTION_URL=onnx:" in result.output


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    for command in ("pull", "verify"):
        result = run(tmp_path, command, "gpt-17")

        assert result.exit_code == 2
        assert "pii-kiji" in result.output


@pytest.mark.usefixtures("hub")
def test_verify_finds_a_changed_file(tmp_path: Path) -> None:
    run(tmp_path, "pull", "pii-kiji")
    whole = run(tmp_path, "verify", "pii-kiji")
    tokenizer = tmp_path / "models" / "pii-kiji" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    damaged = run(tmp_path, "verify", "pii-kiji", "--json")

    assert whole.exit_code == 0
    assert damaged.exit_code == 1
    assert [row["state"] for row in json.loads(damaged.stdout)["data"]] == ["damaged"]


def test_verify_looks_at_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    triton_guard.write(tmp_path / "guard")
    monkeypatch.setattr("trueport.cli.models.GUARD", tmp_path / "guard")
    whole = run(tmp_path / "data", "verify")
    (tmp_path / "guard" / "guard.int8.onnx").write_bytes(b"another")
    damaged = run(tmp_path / "data", "verify")

    assert whole.exit_code == 0, whole.output
    assert damaged.exit_code == 1
    assert damaged.output.startswith("damaged  guard")


def test_every_named_model_says_what_it_may_be_used_for() -> None:
    for name, named in named_models().items():
        assert named.licence, name
        assert named.size_mb > 0, name
        assert not named.is_default or (named.is_commercial and not named.needs_consent and not named.has_custom_code)
    assert {named.served for named in named_models().values() if named.is_default} == {"toxicity", "injection", "pii"}


def test_the_list_reads_well(tmp_path: Path) -> None:
    listed = run(tmp_path, "list")

    assert listed.exit_code == 0
    assert "not for commercial use" in listed.output
    assert "toxicity-roberta               *" in listed.output
