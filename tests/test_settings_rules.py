"""Each rule of the settings, one by one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trueport.settings import Settings, SettingsError, load_settings, without_password

SECRETS = {"SECRET_KEY": "s" * 40, "KEK": "k" * 40}
SERVERS = {"MONGODB_URI": "mongodb://db.example/trueport", "REDIS_URL": "redis://cache.example"}


def load(folder: Path, config_file: Path | None = None, /, **values: str) -> Settings:
    environ = {"DATA_DIR": str(folder / "data"), **values}
    return load_settings({f"TRUEPORT_{name}": text for name, text in environ.items()}, config_file=config_file)


def problems_of(folder: Path, config_file: Path | None = None, /, **values: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load(folder, config_file, **values)
    return refused.value.problems


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"), ("PORT", "-1"), ("PORT", "80 81"), ("PORT", "８０"), ("PORT", "9" * 5_000),
        ("WORKERS", "0"), ("WORKERS", "257"), ("WORKERS", "1.5"),
        ("MONGODB_URI", "embedded"), ("MONGODB_URI", "mongodb://"), ("MONGODB_URI", "mongodb://h:99999"),
        ("MONGODB_URI", "mongodb://a,:27017"), ("MONGODB_URI", "mongodb://["), ("MONGODB_URI", "http://db"),
        ("REDIS_URL", "memory"), ("REDIS_URL", "redis://"), ("REDIS_URL", "redis://h:port"), ("REDIS_URL", "unix://"),
        ("STORAGE_URL", "/var/lib"), ("STORAGE_URL", "s3://"), ("STORAGE_URL", "file://"),
        ("DETECTION_URL", "triton://"), ("DETECTION_URL", "cuda:"), ("DETECTION_URL", "onnx:models"),
        ("PUBLIC_URL", "https://"), ("PUBLIC_URL", "gw.example.com"), ("PUBLIC_URL", "http://h:99999"),
        ("EGRESS_ALLOW", "10.0.0.0/33"), ("EGRESS_ALLOW", "http://vllm.internal"), ("EGRESS_ALLOW", "a b"),
        ("EGRESS_ALLOW", "vllm.internal:8000"), ("EGRESS_ALLOW", "*.internal"),
        ("TRUSTED_PROXIES", "proxy.internal"), ("TRUSTED_PROXIES", "10.0.0.0/8 10.1.0.0/16"),
        ("OPERATIONS_ALLOW", "everybody"), ("OPERATIONS_ALLOW", "::/129"),
        ("ENVIRONMENT", "PROD"), ("AUDIT_MODE", "none"), ("LOG_LEVEL", "info"), ("LIMITER_LOSS", "panic"),
        ("RATE_WINDOW", "hopping"), ("DOMAINS", "auth;config"), ("SPOOL_SEGMENT_MIB", "0"),
        ("SPOOL_CAPACITY_MIB", "3"), ("SECRET_KEY", "s" * 31), ("SECRET_KEY", "s" * 40 + "," + "t" * 31),
        ("KEK", "k" * 31), ("AUDIT_SYNC", "yes"),
    ],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_the_one_problem(tmp_path: Path, name: str, value: str) -> None:
    (problem,) = problems_of(tmp_path, **{name: value})

    assert problem.startswith(f"TRUEPORT_{name}: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"), ("WORKERS", "1"), ("MONGODB_URI", "mongodb://a:27017,b:27018,[::1]:27019/db?replicaSet=r"),
        ("MONGODB_URI", "mongodb+srv://u:p%40ss@cluster.example/?w=1"),
        ("MONGODB_URI", "mongodb://%2Ftmp%2Fmongodb.sock"), ("REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("REDIS_URL", "rediss://:p@cache.example:6380/2"), ("STORAGE_URL", "file:///var/lib/trueport"),
        ("STORAGE_URL", "s3://bucket/prefix"), ("DETECTION_URL", "triton://gpu:8001"), ("DETECTION_URL", "rules:"),
        ("DETECTION_URL", "onnx:"), ("DETECTION_URL", "onnx:/models/guard"),
        ("DETECTION_URL", "triton://gpu?models=pii&fallback=none"),
        ("PUBLIC_URL", "https://gw.example.com/"), ("EGRESS_ALLOW", "10.0.0.0/8, vllm.internal ,::1,127.0.0.1"),
        ("TRUSTED_PROXIES", "10.1.2.3/8,fd00::/8"), ("SECRET_KEY", "s" * 32 + ", " + "t" * 32), ("PORT", " 8081 "),
        ("DATA_DIR", "~/nowhere-yet"), ("SPOOL_DIRECTORY", "/fast/disk"), ("AUDIT_SYNC", "1"),
        ("SPOOL_SECOND_DIRECTORY", "/other/disk"), ("SPOOL_SECOND_DIRECTORY", ""),
    ],
)  # fmt: skip
def test_a_value_of_any_documented_form_is_taken(tmp_path: Path, name: str, value: str) -> None:
    load_settings({"TRUEPORT_DATA_DIR": str(tmp_path), f"TRUEPORT_{name}": value}, generate_secrets=False)


def test_an_empty_value_is_the_default(tmp_path: Path) -> None:
    settings = load(tmp_path, PORT="", MONGODB_URI=" ", EGRESS_ALLOW="")

    assert (settings.server.port, settings.embeds_mongodb, settings.egress_allow) == (8080, True, ())


@pytest.mark.parametrize("stage", ["staging", "prod"])
@pytest.mark.parametrize("missing", ["SECRET_KEY", "KEK"])
def test_beyond_development_no_secret_is_generated(tmp_path: Path, stage: str, missing: str) -> None:
    given = {name: text for name, text in SECRETS.items() if name != missing}

    (problem,) = problems_of(tmp_path, ENVIRONMENT=stage, **SERVERS, **given)

    assert f"TRUEPORT_{missing}: must be set in {stage}" in problem
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("name", "embedded"), [("MONGODB_URI", "embedded:"), ("REDIS_URL", "memory:")])
def test_production_refuses_an_embedded_part_and_says_how_to_allow_it(tmp_path: Path, name: str, embedded: str) -> None:
    given = {**SECRETS, **SERVERS, name: embedded, "ENVIRONMENT": "prod"}

    (problem,) = problems_of(tmp_path, **given)

    assert name in problem
    assert "TRUEPORT_ALLOW_EMBEDDED=1" in problem
    load(tmp_path, **given, ALLOW_EMBEDDED="1")
    load(tmp_path, **{**given, "ENVIRONMENT": "staging"})
    for nearly in ("0", "true", "yes", ""):
        assert problems_of(tmp_path, **given, ALLOW_EMBEDDED=nearly) == [problem]


def test_a_redis_on_a_socket_is_no_embedded_part(tmp_path: Path) -> None:
    given = {**SECRETS, **SERVERS, "REDIS_URL": "unix:///run/redis.sock", "ENVIRONMENT": "prod"}

    assert load(tmp_path, **given).uses_redis


def test_only_production_insists_on_tls_everywhere(tmp_path: Path) -> None:
    assert not load(tmp_path, **SECRETS, **SERVERS, ENVIRONMENT="prod").allows_plain_http
    assert load(tmp_path, **SECRETS, **SERVERS, ENVIRONMENT="staging").allows_plain_http


def test_problems_of_the_file_and_of_the_environment_come_together(tmp_path: Path) -> None:
    file = tmp_path / "trueport.toml"
    file.write_text('prot = 9000\nworkers = 3\n[nested]\nport = 1\nlog_level = "loud"\n')

    told = "\n".join(problems_of(tmp_path, file, PORT="http", KEK="short"))

    for part in ("unknown setting prot", "unknown setting nested", "WORKERS=3", "TRUEPORT_PORT", "TRUEPORT_KEK"):
        assert part in told
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, tmp_path / "none.toml")

    assert "cannot be read" in problem


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hunter2@cache:6379/0", "redis://***@cache:6379/0"),
        ("mongodb://u:hunter2@a,b/db", "mongodb://***@a,b/db"),
        ("mongodb://u:hun/te@r2@db/x", "mongodb://***@db/x"),
        ("redis://cache/?password=hunter2&db=1", "redis://cache/?password=***&db=1"),
        ("mongodb://db/?tlsCertificateKeyFilePassword=hunter2", "mongodb://db/?tlsCertificateKeyFilePassword=***"),
        ("mongodb://db/?authMechanismProperties=AWS_SESSION_TOKEN:hunter2", "mongodb://db/?authMechanismProperties=***"),
        ("mongodb://db/x?retryWrites=true", "mongodb://db/x?retryWrites=true"),
        ("embedded:", "embedded:"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_what_opens_it(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_refused_url_is_quoted_without_its_password(tmp_path: Path) -> None:
    told = "\n".join(
        problems_of(tmp_path, MONGODB_URI="mysql://u:hunter2@db", REDIS_URL="redis://:hun/ter2@cache",
                    STORAGE_URL="ftp://u:hunter2@files")
    )  # fmt: skip

    assert told.count("***@") == 3
    assert "ter2" not in told


def test_nothing_that_is_shown_holds_a_password(tmp_path: Path) -> None:
    settings = load(
        tmp_path, **SECRETS, MONGODB_URI="mongodb://u:hunter2@db", REDIS_URL="redis://:hunter2@cache",
        STORAGE_URL="s3://id:hunter2@bucket", DETECTION_URL="triton://u:hunter2@gpu:8001",
    )  # fmt: skip

    assert "hunter2" not in json.dumps(settings.masked())
    assert settings.mongodb_uri.reveal() == "mongodb://u:hunter2@db"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"secret_key": "x"}', "\x00"])
def test_kept_secrets_that_cannot_be_read_are_a_problem_and_stay_as_they_are(tmp_path: Path, content: str) -> None:
    kept = tmp_path / "data" / "secrets.json"
    kept.parent.mkdir()
    kept.write_text(content)

    (problem,) = problems_of(tmp_path)

    assert str(kept) in problem
    assert kept.read_text() == content


def test_a_data_folder_that_cannot_be_made_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in its place")

    (problem,) = problems_of(tmp_path)

    assert problem.startswith("TRUEPORT_DATA_DIR: ")


def test_one_given_secret_and_one_generated_go_together(tmp_path: Path) -> None:
    first = load(tmp_path, KEK="k" * 40)

    assert first.keys.kek.reveal() == "k" * 40
    assert first.keys.are_generated
    assert load(tmp_path, KEK="k" * 40).keys.token_secrets == first.keys.token_secrets


def test_processes_that_start_at_once_agree_on_the_generated_secrets(tmp_path: Path) -> None:
    program = (
        "import os, sys; from trueport.settings import load_settings; sys.stdin.readline();"
        "keys = load_settings(os.environ).keys; print(keys.kek.reveal(), keys.token_secrets[0].reveal())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program], env={"TRUEPORT_DATA_DIR": str(tmp_path / "data")},
            cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0] for process in started]

    assert [process.returncode for process in started] == [0] * 4
    assert len(set(answers)) == 1
    assert len(answers[0]) == 130
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secrets.json"]


def test_who_comes_second_takes_the_secrets_of_who_came_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, first = os.fsync, list[Settings]()

    def sync_slowly(handle: int) -> None:
        if not first:
            monkeypatch.setattr("trueport.settings.os.fsync", sync)
            first.append(load(tmp_path))
        sync(handle)

    monkeypatch.setattr("trueport.settings.os.fsync", sync_slowly)
    second = load(tmp_path)

    assert second.keys.kek == first[0].keys.kek
    assert second.keys.token_secrets == first[0].keys.token_secrets == load(tmp_path).keys.token_secrets
