"""The detection engine as an operator meets it: at start, and in what the doctor says."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.detectors import TINY, tiny_copy
from trueport.cli import doctor
from trueport.cli.main import main
from trueport.settings import load_settings


async def finding(folder: Path, url: str | None = None) -> doctor.Finding:
    given = {"TRUEPORT_DATA_DIR": str(folder), **({"TRUEPORT_DETECTION_URL": url} if url else {})}
    return await doctor._detection(load_settings(given))


async def test_without_a_setting_the_embedded_model_reads(tmp_path: Path) -> None:
    found = await finding(tmp_path)

    assert found.state == "ok"
    assert "onnx:" in found.detail


async def test_the_doctor_names_the_model_at_work(tmp_path: Path) -> None:
    found = await finding(tmp_path, f"onnx:{TINY}")

    assert (found.state, "onnx:b9f4dbce4fcce807" in found.detail) == ("ok", True)


async def test_the_doctor_says_when_the_embedded_model_stands_in(tmp_path: Path) -> None:
    found = await finding(tmp_path, "triton://127.0.0.1:9")

    assert found.state == "warning"
    assert "triton (unavailable)" in found.detail
    assert "trueport triton run" in found.advice


async def test_the_doctor_says_what_nobody_reads(tmp_path: Path) -> None:
    found = await finding(tmp_path, "triton://127.0.0.1:9?fallback=none")

    assert found.state == "failed"
    assert "toxicity" in found.detail
    assert found.advice


async def test_the_doctor_says_that_a_model_is_not_whole(tmp_path: Path) -> None:
    folder = tiny_copy(tmp_path)
    (folder / "tokenizer.json").write_text("{}")

    found = await finding(tmp_path, f"onnx:{folder}")

    assert found.state == "failed"
    assert "tokenizer.json" in found.detail
    assert "TRUEPORT_DETECTION_URL" in found.detail


@pytest.mark.parametrize(
    ("url", "says"), [("onnx:/nowhere", "There is no model in /nowhere"), ("triton://h?fallback=x", "fallback=onnx")]
)
def test_a_server_without_its_engine_does_not_start_and_says_why(tmp_path: Path, url: str, says: str) -> None:
    environment = {"TRUEPORT_DATA_DIR": str(tmp_path), "TRUEPORT_DETECTION_URL": url}

    done = CliRunner().invoke(main, ["serve"], env=environment)

    assert done.exit_code == 3
    assert says in done.stderr


def test_the_doctor_prints_it_among_the_others(tmp_path: Path) -> None:
    environment = {"TRUEPORT_DATA_DIR": str(tmp_path), "TRUEPORT_DETECTION_URL": "rules:"}

    done = CliRunner().invoke(main, ["doctor", "--json"], env=environment)

    parts = {one["part"]: one for one in json.loads(done.stdout)["findings"]}
    assert parts["detection"]["state"] == "ok"
