"""What the commands say when something is missing, and what they leave alone."""

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from trueport.cli.doctor import examine
from trueport.cli.main import main
from trueport.settings import load_settings
from trueport.storage import embedded

SECRETS = {"TRUEPORT_SECRET_KEY": "s" * 40, "TRUEPORT_KEK": "k" * 40}


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    """Commands set up logging and signals for a process of their own; this one goes on."""
    root = logging.getLogger()
    handlers, level, handler = root.handlers[:], root.level, signal.getsignal(signal.SIGTERM)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    signal.signal(signal.SIGTERM, handler)


def trueport(folder: Path, *arguments: str, **environment: str) -> Result:
    # What a command puts into the environment of its process goes away with the runner.
    unset = dict.fromkeys(("TRUEPORT_EGRESS_ALLOW", "TRUEPORT_MONGODB_URI", "TRUEPORT_CONFIG"))
    given = {**unset, "TRUEPORT_DATA_DIR": str(folder / "data"), **environment}
    return CliRunner().invoke(main, list(arguments), env=given)


def test_checking_the_settings_leaves_nothing_behind(tmp_path: Path) -> None:
    done = trueport(tmp_path, "config", "check", "--json", TRUEPORT_PROT="9000")

    assert done.exit_code == 0
    shown = json.loads(done.stdout)
    assert shown["warnings"] == ["TRUEPORT_PROT is not a setting and is ignored"]
    assert (shown["secret_key"], shown["kek"], shown["port"]) == ("generated", "generated", 8080)
    assert list(tmp_path.iterdir()) == []


def test_checked_settings_show_no_secret(tmp_path: Path) -> None:
    done = trueport(
        tmp_path, "config", "check", **SECRETS, TRUEPORT_MONGODB_URI="mongodb://u:hunter2@db",
        TRUEPORT_REDIS_URL="redis://:hunter2@cache",
    )  # fmt: skip

    assert done.exit_code == 0
    assert "***@db" in done.output
    assert not any(secret in done.output for secret in ("hunter2", "s" * 40, "k" * 40))


def test_settings_come_from_the_file_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "trueport.toml"
    file.write_text('port = 9000\nworkers = 2\nkek = "short"\nprot = 1\n')

    done = trueport(tmp_path, "config", "check", "--config", str(file))
    by_environment = trueport(tmp_path, "config", "check", TRUEPORT_CONFIG=str(file))

    assert (done.exit_code, by_environment.exit_code) == (2, 2)
    assert done.output == by_environment.output
    for part in ("TRUEPORT_WORKERS=2", "TRUEPORT_KEK", "unknown setting prot"):
        assert part in done.output


@pytest.mark.parametrize(
    "command",
    [("keys", "list", "--tenant", "acme"), ("demo", "--once"), ("init", "--tenant", "a", "--email", "a@b.example",
     "--password-stdin"), ("config", "export", "--tenant", "acme"), ("serve",)],
    ids=lambda command: command[0],
)  # fmt: skip
def test_a_database_that_is_not_installed_is_something_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(embedded, "find_program", lambda: None)

    done = trueport(tmp_path, *command)

    assert done.exit_code == 3
    assert "TRUEPORT_MONGODB_URI" in done.output
    assert "Traceback" not in done.output


def test_a_database_that_does_not_answer_is_something_that_is_away(tmp_path: Path) -> None:
    # In a process of its own: the driver leaves the socket of an attempt that was given up to the collector.
    done = subprocess.run(
        [sys.executable, "-m", "trueport", "keys", "list", "--tenant", "acme"],
        env={"TRUEPORT_DATA_DIR": str(tmp_path), "TRUEPORT_MONGODB_URI": "mongodb://127.0.0.1:1"},
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 3
    assert "not available" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [("keys", "create", "--tenant", "acme"), ("keys", "create", "--tenant", "a", "--name", "n", "--env", "qa"),
     ("keys", "rotate", "key_x", "--tenant", "a", "--overlap-s", "604801"), ("init",), ("config", "apply", "/nowhere"),
     ("serve", "--port", "0"), ("simulate", "--port", "65536"), ("nonsense",)],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_ends_with_code_2(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = trueport(tmp_path, *command)

    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_programs_version_and_its_commands_are_shown(tmp_path: Path) -> None:
    assert trueport(tmp_path, "--version").output.startswith("trueport, version ")
    shown = trueport(tmp_path, "-h").output
    assert all(name in shown for name in ("demo", "serve", "init", "doctor", "config", "keys", "simulate"))


def test_a_file_for_another_tenant_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "acme.yaml"
    file.write_text("version: 1\ntenant: acme\n")

    done = trueport(tmp_path, "config", "apply", str(file), "--tenant", "rival")

    assert done.exit_code == 1
    assert "'acme', not for 'rival'" in done.output


def test_a_file_that_is_no_text_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "acme.yaml"
    file.write_bytes(b"\xff\xfe")

    assert trueport(tmp_path, "config", "apply", str(file), "--tenant", "acme").exit_code == 3


async def test_the_doctor_names_a_folder_it_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spool").write_text("in the way")
    (tmp_path / "storage").write_text("in the way")
    monkeypatch.setattr(embedded, "find_program", lambda: None)
    settings = load_settings({"TRUEPORT_DATA_DIR": str(tmp_path), "TRUEPORT_PROT": "1", **SECRETS})

    findings = {finding.part: finding for finding in await examine(settings)}

    states = {part: finding.state for part, finding in findings.items()}
    assert states == {
        "python": "ok", "settings": "warning", "secrets": "ok", "spool": "failed", "prices": "ok", "database": "failed",
        "limits": "ok", "storage": "failed", "detection": "ok", "archive": "ok",
    }  # fmt: skip
    assert all(finding.advice for finding in findings.values() if finding.state != "ok")
    assert "TRUEPORT_DATA_DIR" in findings["spool"].advice
    assert "trueport[embedded]" in findings["database"].detail


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({"ARCHIVE_URL": "file:"}, "failed"),
        ({"ARCHIVE_URL": "file:", "ALLOW_MUTABLE_ARCHIVE": "1"}, "warning"),
        ({"ARCHIVE_URL": "s3://trail"}, "failed"),
    ],
)
async def test_the_doctor_looks_whether_the_archive_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], state: str
) -> None:
    monkeypatch.setattr(embedded, "find_program", lambda: None)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    environ = {f"TRUEPORT_{name}": value for name, value in given.items()}
    settings = load_settings({"TRUEPORT_DATA_DIR": str(tmp_path), **environ, **SECRETS})

    (archive,) = [finding for finding in await examine(settings) if finding.part == "archive"]

    assert (archive.state, archive.advice != "") == (state, True)


async def test_the_doctor_reads_a_redis_address_that_makes_no_sense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_program", lambda: None)
    settings = load_settings(
        {"TRUEPORT_DATA_DIR": str(tmp_path), "TRUEPORT_REDIS_URL": "redis://:hunter2@127.0.0.1/first", **SECRETS}
    )

    (limits,) = [finding for finding in await examine(settings) if finding.part == "limits"]

    assert limits.state == "failed"
    assert "hunter2" not in limits.detail
