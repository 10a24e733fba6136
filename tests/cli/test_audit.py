"""`trueport audit`, as an examiner and an operator use it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.archives import SIGNER, honest, tampered
from trueport.audit.cosignatures import Cosigner
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
    archive = honest(4)

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
    command = written(tmp_path / "archive", honest(4).objects)

    for wrong in ([*command[:2], str(tmp_path / "elsewhere"), *command[3:]], [*command[:4], str(tmp_path / "no.key")]):
        ran = CliRunner().invoke(main, wrong)
        assert ran.exit_code == 2
        assert ran.stdout == ""


def examine(folder: Path, objects: dict[str, bytes]) -> list[str]:
    return ["audit", "examine", *written(folder, objects)[2:]]


def test_an_examiner_gets_each_answer_with_its_proof(tmp_path: Path) -> None:
    archive = honest(4)

    ran = CliRunner().invoke(main, [*examine(tmp_path / "archive", archive.objects), "--json"])

    told = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert told["ok"] is True
    assert [answer["question"] for answer in told["answers"]] == ["modified", "deleted", "inserted", "amended", "keys"]
    assert all(answer["proofs"] and answer["limits"] for answer in told["answers"])


def test_an_answer_that_is_not_reassuring_ends_with_one(tmp_path: Path) -> None:
    case = tampered(0)
    assert case is not None

    ran = CliRunner().invoke(main, [*examine(tmp_path / "archive", case[1].objects), "--question", "modified"])

    assert ran.exit_code == 1
    assert "Was a record changed" in ran.stdout
    assert "Was a record deleted" not in ran.stdout


def test_what_cannot_be_examined_ends_with_two(tmp_path: Path) -> None:
    command = examine(tmp_path / "archive", honest(4).objects)
    history = tmp_path / "keys.json"
    history.write_text("nothing")

    for wrong in ([*command[:2], str(tmp_path / "elsewhere"), *command[3:]], [*command, "--key-history", str(history)]):
        ran = CliRunner().invoke(main, wrong)
        assert ran.exit_code == 2
        assert ran.stdout == ""


def exported(tmp_path: Path) -> list[str]:
    """An archive and its key in files, as arguments of what is made of it."""
    command = written(tmp_path / "archive", honest(4).objects)
    return [*command[2:], "--out", str(tmp_path / "out")]


def test_some_records_are_taken_out_and_the_command_for_checking_takes_them(tmp_path: Path) -> None:
    arguments = exported(tmp_path)
    wanted = ["--kind", "outcome", "--equal", "status=200", "--by", "dpo", "--reason", "asked for", "--json"]

    ran = CliRunner().invoke(main, ["audit", "disclose", *arguments, *wanted])
    checked = CliRunner().invoke(main, ["audit", "verify", str(tmp_path / "out"), *arguments[1:3], "--json"])

    assert ran.exit_code == checked.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["records"] == json.loads(checked.stdout)["records"] > 0
    records = (tmp_path / "out/records.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["status"] for line in records} == {200}
    assert json.loads((tmp_path / "out/custody.json").read_bytes())["made_by"] == "dpo"


def test_an_evidence_pack_is_made_of_an_exported_archive(tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["audit", "evidence", *exported(tmp_path), "--framework", "soc2", "--json"])

    told = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert told["shown"] > 0
    assert told["records"] == len(honest(4).records)
    assert Path(told["page"]).read_text("utf-8").startswith("<!doctype html>")


def test_a_pack_of_an_archive_that_does_not_hold_ends_with_one_and_says_so(tmp_path: Path) -> None:
    seed = next(seed for seed in range(0, 2_000, 31) if (case := tampered(seed)) and len(case[1].bounds) > 2)
    case = tampered(seed)
    assert case is not None
    arguments = [*written(tmp_path / "archive", case[1].objects)[2:], "--out", str(tmp_path / "out")]

    ran = CliRunner().invoke(main, ["audit", "evidence", *arguments, "--framework", "soc2"])

    assert ran.exit_code == 1


def test_a_folder_with_something_in_it_is_not_written_to(tmp_path: Path) -> None:
    arguments = exported(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")

    ran = CliRunner().invoke(main, ["audit", "disclose", *arguments])

    assert ran.exit_code == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_period_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    period = ["--from", "2026-03-02", "--to", "2026-03-01"]

    ran = CliRunner().invoke(main, ["audit", "evidence", *exported(tmp_path), "--framework", "soc2", *period])

    assert ran.exit_code == 2


def test_a_witness_is_made_told_of_logs_and_not_made_again(tmp_path: Path) -> None:
    place, key = str(tmp_path / "witness"), tmp_path / "log.key"
    key.write_text(f"# a log\n{SIGNER.verifier_key}\n")
    made = CliRunner().invoke(main, ["witness", "init", place, "--name", "witness.example/w1", "--json"])
    told = [json.loads(CliRunner().invoke(main, ["witness", "trust", place, str(key), "--json"]).stdout) for _ in "12"]

    assert json.loads(made.stdout)["key"].startswith("witness.example/w1+")
    assert [each["added"] for each in told] == [1, 0]
    for wrong in (["init", place, "--name", "other"], ["serve", str(tmp_path)], ["trust", str(tmp_path), str(key)]):
        assert CliRunner().invoke(main, ["witness", *wrong]).exit_code == 2


@pytest.mark.parametrize("command", ["verify", "examine"])
def test_witnesses_are_asked_for(command: str, tmp_path: Path) -> None:
    archive = honest(4)
    arguments = ["audit", command, *written(tmp_path / "archive", archive.objects)[2:]]
    stranger = str(Cosigner("other.example/w9", bytes(32)).witness_key)
    outside = [tmp_path / f"{number}.note" for number in range(len(archive.earlier))]
    for path, note in zip(outside, archive.earlier, strict=True):
        path.write_bytes(note)
    arguments += [part for path in outside for part in ("--checkpoint", str(path))]

    told = [
        CliRunner().invoke(main, [*arguments, "--witness", key]).exit_code
        for key in (archive.witnesses[0], stranger, "nobody")
    ]

    assert told == [0, 1, 2]
