"""The official Node SDKs, unchanged, with nothing but a base URL and a key."""

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Gateway
from tests.e2e.test_sdk_matrix import CALLED, MODELS, SAID

HERE = Path(__file__).parent / "node"
PATIENCE_S = 60


@pytest.fixture(scope="session")
def packages() -> Path:
    """The SDKs in the folder of their lock file, installed by whichever test process comes first."""
    if shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed")
    lock = HERE / "package-lock.json"
    installed = HERE / "node_modules" / ".package-lock.json"
    with (HERE / ".installing").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            done = subprocess.run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=HERE,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-2000:]
            installed.touch()
    return HERE


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sdk", ["openai_chat", "openai_responses", "azure", "anthropic", "google"])
def test_a_node_sdk_gets_the_same_from_every_provider(packages: Path, gateway: Gateway, sdk: str, model: str) -> None:
    done = subprocess.run(
        ["node", "ask.mjs", sdk, model],
        cwd=packages,
        env={**os.environ, "GATEWAY_URL": gateway.url, "GATEWAY_KEY": gateway.key},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout)

    assert told["whole"] == SAID
    assert told["stream"] == SAID
    assert told["image"] == SAID
    assert [tuple(call) for call in told["tools"]] == CALLED
    assert set(told["schema"]) == {"name", "age"}
