"""The commands, as a person and a script use them."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from tests.support.installation import PASSWORD, Installation, installation
from tests.support.ports import free_port
from trueport.cli.main import main
from trueport.storage.embedded import EmbeddedMongo


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("cli") / "data") as found:
        # Each command would else start and stop a database of its own.
        embedded = EmbeddedMongo(found.data_dir)
        embedded.start()
        try:
            found.set_up()
            yield found
        finally:
            found.stop()
            embedded.stop()


def trueport(place: Installation, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trueport", *arguments], env=place.environment, input=stdin, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [["demo"], ["serve"], ["init"], ["doctor"], ["config", "check"], ["config", "apply"], ["config", "export"],
     ["keys", "create"], ["keys", "list"], ["keys", "disable"], ["keys", "enable"], ["keys", "rotate"],
     ["keys", "delete"], ["simulate"], ["audit", "keys", "list"], ["audit", "keys", "rotate"]],
    ids=" ".join,
)  # fmt: skip
def test_every_command_explains_itself_with_an_example(command: list[str]) -> None:
    done = CliRunner().invoke(main, [*command, "--help"])

    assert done.exit_code == 0
    assert "Example" in done.stdout


def test_init_says_what_a_script_needs(place: Installation) -> None:
    assert {"tenant_id", "user_id", "api_key"} <= set(place.access)
    assert place.access["tenant_id"].startswith("ten_")
    assert place.access["user_id"].startswith("usr_")
    assert place.access["api_key"].startswith("sk-tp-")


def test_the_signing_key_is_changed_and_both_are_listed(place: Installation) -> None:
    rotated = trueport(place, "audit", "keys", "rotate", "--reason", "yearly change", "--json")
    listed = json.loads(trueport(place, "audit", "keys", "list", "--tenant", "acme", "--json").stdout)["keys"]

    assert rotated.returncode == 0, rotated.stderr
    assert json.loads(rotated.stdout)["logs"] == 1
    assert [key["retires_at"] is None for key in listed] == [False, True]


def test_init_leaves_an_installation_alone_that_is_set_up(place: Installation) -> None:
    done = trueport(place, "init", "--tenant", "other", "--email", "a@b.example", "--password-stdin", stdin=PASSWORD)

    assert done.returncode == 1
    assert "set up already" in done.stderr


def test_a_key_is_shown_once_and_listed_without_its_text(place: Installation) -> None:
    made = place.create_key(env="dev")
    listed = json.loads(trueport(place, "keys", "list", "--tenant", "acme", "--json").stdout)["data"]

    assert made["id"] in {key["id"] for key in listed}
    assert made["key"] not in json.dumps(listed)


def test_a_key_can_be_switched_off_rotated_and_deleted(place: Installation) -> None:
    made = place.create_key()
    off = json.loads(trueport(place, "keys", "disable", made["id"], "--tenant", "acme", "--json").stdout)
    on = json.loads(trueport(place, "keys", "enable", made["id"], "--tenant", "acme", "--json").stdout)
    rotated = json.loads(trueport(place, "keys", "rotate", made["id"], "--tenant", "acme", "--json").stdout)
    deleted = trueport(place, "keys", "delete", made["id"], "--tenant", "acme")
    again = trueport(place, "keys", "delete", made["id"], "--tenant", "acme")

    assert (off["status"], on["status"]) == ("disabled", "active")
    assert rotated["key"] != made["key"]
    assert (deleted.returncode, again.returncode) == (0, 1)


def test_an_unknown_tenant_is_named(place: Installation) -> None:
    done = trueport(place, "keys", "list", "--tenant", "nobody")

    assert done.returncode == 1
    assert "nobody" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_changes_nothing_and_an_export_applies_again(place: Installation, tmp_path: Path) -> None:
    before = trueport(place, "config", "export", "--tenant", "acme").stdout
    file = tmp_path / "acme.yaml"
    file.write_text("version: 1\n")

    assert trueport(place, "config", "apply", str(file), "--tenant", "acme", "--dry-run").returncode == 0
    assert trueport(place, "config", "export", "--tenant", "acme").stdout == before
    file.write_text(before)
    assert trueport(place, "config", "apply", str(file), "--tenant", "acme").returncode == 0
    assert trueport(place, "config", "export", "--tenant", "acme").stdout == before


def test_a_bad_file_is_refused_with_its_reasons(place: Installation, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("version: 1\npolicies: [{name: x}]\nroutes: [{match: {}, targets: [{credential: gone}]}]\n")

    done = trueport(place, "config", "apply", str(file), "--tenant", "acme")

    assert done.returncode == 1
    assert "policies" in done.stderr
    assert "gone" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_that_make_no_sense_end_with_code_2_and_every_reason(place: Installation) -> None:
    place.environment.update(TRUEPORT_PORT="http", TRUEPORT_WORKERS="many")
    try:
        done = trueport(place, "config", "check")
    finally:
        place.environment.update(TRUEPORT_PORT=str(place.port))
        del place.environment["TRUEPORT_WORKERS"]

    assert done.returncode == 2
    assert "TRUEPORT_PORT" in done.stderr
    assert "TRUEPORT_WORKERS" in done.stderr


def test_the_doctor_finds_everything_well(place: Installation) -> None:
    done = trueport(place, "doctor", "--json")

    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["ok"] is True


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("TRUEPORT_REDIS_URL", "redis://127.0.0.1:1", "limits"),
        ("TRUEPORT_MONGODB_URI", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300", "database"),
        ("TRUEPORT_PRICES_FILE", "/nowhere/prices.toml", "prices"),
        ("TRUEPORT_STORAGE_URL", "s3://bucket/prefix", "storage"),
    ],
)
def test_the_doctor_says_what_is_wrong_and_what_to_do(place: Installation, name: str, value: str, part: str) -> None:
    before = place.environment.get(name)
    place.environment[name] = value
    try:
        done = trueport(place, "doctor", "--json")
    finally:
        place.environment.pop(name)
        if before is not None:
            place.environment[name] = before
    findings = {finding["part"]: finding for finding in json.loads(done.stdout)["findings"]}

    assert done.returncode == 3
    assert findings[part]["state"] == "failed"
    assert findings[part]["advice"]


def test_a_command_beside_a_running_server_is_seen_by_it_within_a_second(place: Installation) -> None:
    place.serve()
    try:
        made = place.create_key()
        assert models_status(place, made["key"]) == 200
        trueport(place, "keys", "disable", made["id"], "--tenant", "acme")
        time.sleep(1)
        assert models_status(place, made["key"]) == 401
    finally:
        place.stop()


def models_status(place: Installation, key: str) -> int:
    return place.ask("/v1/models", token=key)[0]


def test_the_demonstration_answers_and_leaves_nothing_running(tmp_path: Path) -> None:
    environment = {"TRUEPORT_DATA_DIR": str(tmp_path / "data"), "TRUEPORT_SPOOL_SEGMENT_MIB": "4",
                   "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}  # fmt: skip
    command = [sys.executable, "-m", "trueport", "demo", "--once", "--json", "--port", str(free_port())]
    runs = [
        json.loads(subprocess.run(command, env=environment, capture_output=True, timeout=90, check=True).stdout)
        for _ in range(2)
    ]

    assert [len(run["samples"]) for run in runs] == [3, 3]
    assert all(sample["answer"] for run in runs for sample in run["samples"])
    assert runs[0]["api_key"] == runs[1]["api_key"]
    assert left_running(tmp_path) == []


def left_running(folder: Path) -> list[list[str]]:
    found = []
    for process in psutil.process_iter():
        try:
            # The database knows the folder by its arguments, everything else by the environment.
            if any(str(folder) in text for text in (*process.cmdline(), *process.environ().values())):
                found.append(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
