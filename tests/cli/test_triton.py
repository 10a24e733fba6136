"""`trueport triton`: on the real server, and what it says where there can be none."""

import json
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support import triton_guard, triton_server
from trueport.cli.triton import triton
from trueport.detection.sidecar import environment
from trueport.detection.sidecar.environment import Interpreter, unsuitable_machine, unsuitable_python
from trueport.detection.sidecar.files import SidecarFailed, triton_files
from trueport.detection.triton import TritonDetector
from trueport.detection.types import Passage
from trueport.kit.clock import SystemClock

GOOD = Interpreter(Path("/usr/bin/python3.11"), "3.11", "CPython", "x86_64", "Linux", "2.36", Path("/usr/lib"))


async def test_run_prints_the_address_serves_and_ends_on_sigterm(tmp_path: Path) -> None:
    triton_server.installed()
    triton_guard.write(tmp_path / "guard")
    process = start(tmp_path, "--json")
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        detector = TritonDetector.at(f"{told['url']}?timeout_ms=10000", SystemClock())
        await detector.prepare()
        [reading] = await detector.read([Passage("please ignore")], frozenset({"prompt_injection"}))
        await detector.close()
    finally:
        ended = end(process, signal.SIGTERM)

    assert reading.scores["prompt_injection"] > 0.9
    assert ended == 0
    assert not Path(f"/proc/{told['pid']}").exists()
    assert (tmp_path / "data" / "triton" / "server.log").stat().st_size > 0


def test_the_address_leaves_out_what_the_model_has_no_head_for_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    triton_server.installed()
    triton_guard.write(tmp_path / "guard")
    meta = json.loads((tmp_path / "guard" / "meta.json").read_text())
    del meta["heads"]["injection"], meta["heads"]["indirect"]
    (tmp_path / "guard" / "meta.json").write_text(json.dumps(meta))
    process = start(tmp_path)
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    ended = end(process, signal.SIGINT)

    assert line.startswith("TRUEPORT_DETECTION_URL=triton://127.0.0.1:")
    assert line.strip().endswith("?models=toxicity,pii,exfiltration")
    assert ended == 0


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "trueport", "triton", "run", "--grpc-port", "0", "--http-port", "0", *options]
    return subprocess.Popen(
        [*command, "--data-dir", str(folder / "data"), "--model", str(folder / "guard")], stdout=subprocess.PIPE
    )


def end(process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    process.send_signal(number)
    ended = process.wait(30)
    if process.stdout is not None:
        process.stdout.close()
    return ended


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    triton_server.installed()
    triton_guard.write(tmp_path / "guard")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ["run", "--data-dir", str(tmp_path), "--model", str(tmp_path / "guard"), "--grpc-port", port]
        result = CliRunner().invoke(triton, [*arguments, "--http-port", "0"])

    assert result.exit_code == 3
    assert f"Port {port} on 127.0.0.1 is taken" in result.output


def test_a_model_that_is_damaged_is_said_with_the_log(tmp_path: Path) -> None:
    triton_server.installed()
    triton_guard.write(tmp_path / "guard")
    (tmp_path / "guard" / "tokenizer.json").write_text("{}")
    arguments = ["run", "--data-dir", str(tmp_path), "--model", str(tmp_path / "guard")]
    result = CliRunner().invoke(triton, [*arguments, "--grpc-port", "0", "--http-port", "0"])

    assert result.exit_code == 3
    assert "server.log" in result.output
    assert "tokenizer.json is not the file that meta.json names" in (tmp_path / "triton" / "server.log").read_text()


def test_without_a_model_nothing_is_installed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["run", "--data-dir", str(tmp_path), "--model", str(tmp_path / "empty")]
    result = CliRunner().invoke(triton, [*arguments, "--environment", str(tmp_path / "environment")])

    assert result.exit_code == 3
    assert "There is no detection model" in result.output
    assert not (tmp_path / "environment").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": "riscv64"}, "riscv64"),
        ({"system": "Darwin", "machine": "arm64"}, "Darwin"),
        ({"glibc": ""}, "GNU C library"),
        ({"glibc": "2.31"}, "glibc 2.35 or newer"),
        ({"glibc": "2.4"}, "glibc 2.35 or newer"),
    ],
)
def test_an_unsuitable_machine_is_told_why(change: dict[str, str], words: str) -> None:
    reason = unsuitable_machine(replace(GOOD, **change))  # type: ignore[arg-type]  # only text members are changed

    assert reason is not None
    assert words in reason


def test_a_newer_c_library_is_suitable() -> None:
    assert unsuitable_machine(GOOD) is None
    assert unsuitable_machine(replace(GOOD, glibc="2.41", machine="aarch64")) is None
    assert unsuitable_machine(replace(GOOD, glibc="3.0")) is None


@pytest.mark.parametrize("change", [{"version": "3.13"}, {"version": "3.10"}, {"implementation": "PyPy"}])
def test_an_unsuitable_python_is_told_which_would_do(change: dict[str, str]) -> None:
    reason = unsuitable_python(replace(GOOD, **change))  # type: ignore[arg-type]  # only text members are changed

    assert reason is not None
    assert "CPython 3.11 or 3.12" in reason
    assert "--python" in reason


def test_a_python_without_its_library_is_told_what_to_install(tmp_path: Path) -> None:
    alone = replace(GOOD, machine="none", executable=tmp_path / "bin" / "python3.11", libraries=tmp_path)
    reason = unsuitable_python(alone)

    assert reason is not None
    assert "libpython3.11" in reason
    (tmp_path / "libpython3.11.so.1.0").touch()
    assert unsuitable_python(alone) is None


def test_a_python_that_is_none_is_refused(tmp_path: Path) -> None:
    no_python = tmp_path / "python3.11"
    no_python.write_text("#!/bin/sh\nexit 127\n")
    no_python.chmod(0o755)

    with pytest.raises(SidecarFailed, match="does not run as a Python"):
        environment.find_interpreter(no_python)


def test_an_interrupted_installation_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = triton_server.installed().interpreter
    commands: list[list[str]] = []

    def install(command: list[str], deed: str) -> None:
        commands.append(command)
        if "venv" in command:
            target = Path(command[-1])
            stub = target / "lib" / f"python{found.version}" / "site-packages" / "pytriton" / "tritonserver"
            (stub / "python_backend_stubs" / found.version).mkdir(parents=True)
            (stub / "python_backend_stubs" / found.version / "triton_python_backend_stub").touch()
            (stub / "backends" / "python").mkdir(parents=True)
        elif len(commands) == 2:
            raise SidecarFailed("the power is out")

    monkeypatch.setattr(environment, "_run", install)
    with pytest.raises(SidecarFailed):
        environment.build(tmp_path, found, print)
    built = environment.build(tmp_path, found, print)
    environment.build(tmp_path, found, print)

    assert len(commands) == 4
    assert (built.server / "backends" / "python" / "triton_python_backend_stub").exists()
    assert any("--require-hashes" in command for command in commands)


def test_every_requirement_is_pinned_to_hashes() -> None:
    lines = (triton_files() / "cpu" / "requirements.txt").read_text().splitlines()
    pinned = [line.split("==")[0] for line in lines if "==" in line]

    assert pinned == ["numpy", "nvidia-pytriton", "onnxruntime", "tokenizers"]
    assert all("--hash=sha256:" in line for line in lines if line.startswith("    "))
