"""`trueport audit`, as an examiner and an operator use it."""

import json
from pathlib import Path

from click.testing import CliRunner

from tests.support.archives import SIGNER, honest, tampered
from trueport.cli.main import main


def written(folder: Path, objects: dict[str, bytes]) -> list[str]:
    for name, data in objects.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    key = folder.with_suffix(".key")
    key.write_text(str(SIGNER.verifier_key))
    return ["audit", "verify", str(folder), "--key", str(key)]


def test_a_clean_archive_ends_with_zero(tmp_path: Path) -> None:
    archive = honest(2)

    ran = CliRunner().invoke(main, [*written(tmp_path / "archive", archive.objects), "--json"])

    assert ran.exit_code == 0
    told = json.loads(ran.stdout)
    assert told["ok"] is True
    assert told["records"] == len(archive.records)


def test_a_tampered_archive_ends_with_one_and_says_where(tmp_path: Path) -> None:
    case = tampered(0)
    assert case is not None

    ran = CliRunner().invoke(main, written(tmp_path / "archive", case[1].objects))

    assert ran.exit_code == 1
    assert "TAMPERED" in ran.stdout


def test_what_cannot_be_checked_ends_with_two(tmp_path: Path) -> None:
    command = written(tmp_path / "archive", honest(2).objects)

    for wrong in ([*command[:2], str(tmp_path / "elsewhere"), *command[3:]], [*command[:4], str(tmp_path / "no.key")]):
        ran = CliRunner().invoke(main, wrong)
        assert ran.exit_code == 2
        assert ran.stdout == ""
