"""Imports point down, and the check that says so notices one that does not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINTER = Path(sys.executable).with_name("lint-imports")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINTER, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def copy_of_the_package(folder: Path) -> Path:
    shutil.copytree(ROOT / "trueport", folder / "trueport", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_package_keeps_its_contracts(tmp_path: Path) -> None:
    done = lint(copy_of_the_package(tmp_path))

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("gateway/routing.py", "import litestar", "the engine knows no framework and no store"),
        ("audit/spool.py", "import pymongo", "the engine knows no framework and no store"),
        ("kit/clock.py", "import trueport.settings", "imports point down"),
        ("storage/mongo.py", "import trueport.web.domain", "imports point down"),
        ("domains/auth/keys.py", "import trueport.domains.proxy.http", "domains import in one direction"),
        ("domains/proxy/source.py", "import trueport.domains.auth.repository", "entered through its api: auth"),
        ("storage/embedded.py", "import secantus", "the embedded database is a program, never a library"),
        ("simulator/http.py", "import aiohttp", "the simulator stands alone"),
    ],
)
def test_a_planted_import_breaks_the_contract_it_is_against(
    tmp_path: Path, file: str, line: str, contract: str
) -> None:
    planted = copy_of_the_package(tmp_path) / "trueport" / file
    planted.write_text(f"{planted.read_text()}\n{line}\n")

    done = lint(tmp_path)

    assert done.returncode != 0
    assert any(contract in text and "BROKEN" in text for text in done.stdout.splitlines()), done.stdout
