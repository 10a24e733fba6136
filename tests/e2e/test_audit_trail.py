"""From calls on a real server, one killed among them, to an export that somebody else's machine can check."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import PATIENCE_S, Installation, installation
from trueport.audit.notes import VerifierKey, open_checkpoint

ROUTES = [{"match": {"model": "*"}, "targets": [{"credential": "sim"}]}]
API = "/trueportai-services/api/v1/audit"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("trail") / "data") as made:
        made.set_up()
        made.configure(routes=ROUTES)
        made.serve()
        yield made
        made.stop()


@dataclass(frozen=True)
class Made:
    """What the answer to a call said of its records."""

    interaction: str
    receipt: str


def call(place: Installation, *, stream: bool = False) -> Made:
    body = {"model": "sim-model", "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    request = urllib.request.Request(
        f"{place.url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {place.key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        reply.read()
        return Made(reply.headers["x-trueport-interaction"], reply.headers["x-trueport-receipt"])


def proved(place: Installation, made: Made) -> dict[str, Any]:
    """The call's receipt, once there is one."""
    token = place.scoped_token()
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        status, receipt = place.ask(f"{API}/receipts/{made.interaction}", token=token)
        if status == 200 or time.monotonic() > deadline_s:
            assert status == 200, receipt
            return dict(receipt)
        time.sleep(0.2)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", *map(str, arguments)], check=False, capture_output=True, text=True, timeout=60
    )


def test_what_calls_left_behind_is_checked_by_the_exported_program_alone(place: Installation, tmp_path: Path) -> None:
    receipts = [call(place, stream=number % 2 == 0) for number in range(8)]
    place.stop(signal.SIGKILL)
    place.serve()
    receipts += [call(place) for _ in range(3)]
    folder = tmp_path / "export"
    deadline_s = time.monotonic() + PATIENCE_S
    # What the killed process had not shipped is adopted within a few seconds.
    while True:
        told = json.loads(place.run("audit", "export", "--tenant", "acme", "--to", str(folder), "--json"))
        if told["records"] >= 2 * len(receipts) or time.monotonic() > deadline_s:
            break
        time.sleep(0.5)
        folder = folder.with_name(f"{folder.name}_")

    named = [part for receipt in receipts for part in ("--receipt", receipt.receipt)]
    checked = run(folder / "verifier.py", folder, "--key", folder / "log.key", "--json", *named)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    report = json.loads(checked.stdout)
    assert report["records"] >= 22
    assert report["blobs"] >= 22
    assert report["open"] == 0

    data = next(folder.rglob("*.jsonl.zst"))
    data.write_bytes(data.read_bytes()[:-1])
    assert run(folder / "verifier.py", folder, "--key", folder / "log.key").returncode == 1


def test_a_call_is_under_a_signed_checkpoint_within_seconds(place: Installation) -> None:
    made = call(place)

    receipt = proved(place, made)

    assert receipt["leaf"] == made.receipt
    _, keys = place.ask(f"{API}/keys", token=place.scoped_token())
    checkpoint = open_checkpoint(
        receipt["checkpoint"]["note"].encode(), keys["origin"], [VerifierKey.parse(text) for text in keys["keys"]]
    )
    assert checkpoint.size > receipt["seq"]


def test_a_checkpoint_taken_home_is_continued_by_later_exports(place: Installation, tmp_path: Path) -> None:
    proved(place, call(place))
    note = tmp_path / "today.note"
    note.write_text(place.run("audit", "checkpoint", "--tenant", "acme"))
    proved(place, call(place))
    folder = tmp_path / "export"
    place.run("audit", "export", "--tenant", "acme", "--to", str(folder))

    ran = place.run("audit", "verify", str(folder), "--key", str(folder / "log.key"), "--checkpoint", str(note))

    assert ran.startswith("OK")


def test_an_export_does_not_mix_with_what_is_there(place: Installation, tmp_path: Path) -> None:
    (tmp_path / "something").write_text("else")

    with pytest.raises(AssertionError, match="is not empty"):
        place.run("audit", "export", "--tenant", "acme", "--to", str(tmp_path))
