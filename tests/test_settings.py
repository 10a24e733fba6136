"""Settings: one value or every problem at once."""

import json
import stat
from pathlib import Path

import pytest

from trueport.settings import MEANINGS, Settings, SettingsError, load_settings

SECRETS = {"TRUEPORT_SECRET_KEY": "s" * 40, "TRUEPORT_KEK": "k" * 40}


def load(folder: Path, **values: str) -> Settings:
    environ = {f"TRUEPORT_{name}": value for name, value in values.items()}
    return load_settings({"TRUEPORT_DATA_DIR": str(folder / "data"), **environ})


def problems_of(folder: Path, **values: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(folder, **values)
    return "\n".join(refused.value.problems)


def test_nothing_has_to_be_set(tmp_path: Path) -> None:
    settings = load(tmp_path)

    assert (settings.environment, settings.server.port, settings.server.workers) == ("local", 8080, 1)
    assert settings.embeds_mongodb
    assert not settings.uses_redis


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    told = problems_of(
        tmp_path, ENVIRONMENT="production", PORT="http", WORKERS="0", MONGODB_URI="mysql://x",
        EGRESS_ALLOW="10.0.0.0/99", AUDIT_MODE="lax", DOMAINS="auth,nonsense", KEK="short", TRUSTED_PROXIES="here",
    )  # fmt: skip

    for name in ("ENVIRONMENT", "PORT", "WORKERS", "MONGODB_URI", "EGRESS_ALLOW", "AUDIT_MODE", "DOMAINS", "KEK",
                 "TRUSTED_PROXIES"):  # fmt: skip
        assert f"TRUEPORT_{name}" in told


def test_production_wants_its_own_secrets_and_servers(tmp_path: Path) -> None:
    told = problems_of(tmp_path, ENVIRONMENT="prod")

    for name in ("SECRET_KEY", "KEK", "MONGODB_URI", "REDIS_URL"):
        assert f"TRUEPORT_{name}" in told
    assert not (tmp_path / "data").exists()


def test_production_may_be_allowed_embedded_parts(tmp_path: Path) -> None:
    settings = load_settings(
        {"TRUEPORT_ENVIRONMENT": "prod", "TRUEPORT_ALLOW_EMBEDDED": "1", "TRUEPORT_DATA_DIR": str(tmp_path), **SECRETS}
    )

    assert not settings.keys.are_generated
    assert not settings.allows_plain_http


def test_several_workers_need_redis(tmp_path: Path) -> None:
    assert "TRUEPORT_REDIS_URL" in problems_of(tmp_path, WORKERS="2")
    assert load(tmp_path, WORKERS="2", REDIS_URL="redis://127.0.0.1").server.workers == 2


def test_the_second_folder_of_the_journal_is_another_than_the_first(tmp_path: Path) -> None:
    here = str(tmp_path / "data" / "spool")

    assert "TRUEPORT_SPOOL_SECOND_DIRECTORY" in problems_of(tmp_path, SPOOL_SECOND_DIRECTORY=here)
    second = str(tmp_path / "second")
    assert load(tmp_path, SPOOL_SECOND_DIRECTORY=second).spool.second_directory == tmp_path / "second"
    assert load(tmp_path).spool.second_directory is None


def test_records_are_not_both_left_out_and_waited_for(tmp_path: Path) -> None:
    assert "TRUEPORT_AUDIT_SYNC" in problems_of(tmp_path, AUDIT_SYNC="1", AUDIT_MODE="best_effort")
    assert load(tmp_path, AUDIT_SYNC="1").spool.is_bypassed


def test_generated_secrets_are_kept_for_their_owner_only(tmp_path: Path) -> None:
    first, second = load(tmp_path), load(tmp_path)
    path = tmp_path / "data" / "secrets.json"

    assert first.keys.kek == second.keys.kek
    assert first.keys.token_secrets == second.keys.token_secrets
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.keys.purpose_key("a") != first.keys.purpose_key("b")
    assert set(json.loads(path.read_text())) == {"secret_key", "kek"}


def test_a_check_leaves_nothing_behind(tmp_path: Path) -> None:
    load_settings({"TRUEPORT_DATA_DIR": str(tmp_path / "data")}, generate_secrets=False)

    assert not (tmp_path / "data").exists()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "trueport.toml"
    file.write_text('port = 9000\nhost = "0.0.0.0"\negress_allow = ["10.0.0.0/8", "vllm.internal"]\n')
    settings = load_settings({"TRUEPORT_DATA_DIR": str(tmp_path / "data"), "TRUEPORT_PORT": "9001"}, config_file=file)

    assert (settings.server.port, settings.server.host) == (9001, "0.0.0.0")
    assert settings.egress_allow == ("10.0.0.0/8", "vllm.internal")


def test_an_unknown_name_is_a_problem_in_the_file_and_a_warning_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "trueport.toml"
    file.write_text("prot = 9000\n")

    with pytest.raises(SettingsError, match="prot"):
        load_settings({"TRUEPORT_DATA_DIR": str(tmp_path / "data")}, config_file=file)
    assert load(tmp_path, PROT="9000").warnings == ("TRUEPORT_PROT is not a setting and is ignored",)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"= nothing", b"port"])
def test_a_file_that_is_not_toml_is_one_of_the_problems(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "trueport.toml"
    file.write_bytes(content)

    with pytest.raises(SettingsError, match="TOML"):
        load_settings({"TRUEPORT_DATA_DIR": str(tmp_path / "data")}, config_file=file)


def test_what_is_shown_holds_no_secret(tmp_path: Path) -> None:
    settings = load(
        tmp_path, MONGODB_URI="mongodb://user:pass-canary@db/", REDIS_URL="redis://:pass-canary@cache", **{
            name.removeprefix("TRUEPORT_"): value for name, value in SECRETS.items()}
    )  # fmt: skip
    shown = json.dumps(settings.masked()) + repr(settings)

    assert "pass-canary" not in shown
    assert "s" * 40 not in shown
    assert "k" * 40 not in shown


def test_every_setting_of_the_table_is_explained() -> None:
    assert all(meaning for meaning in MEANINGS.values())
