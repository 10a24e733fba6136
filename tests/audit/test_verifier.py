"""The verifier against a corpus of tamperings, against honest archives, and alone on a bare Python."""

import json
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.archives import LOST, NEXT, SIGNER, TAMPERINGS, WITNESS, Archive, honest, tampered
from trueport.audit import verifier
from trueport.audit.cosignatures import Cosigner
from trueport.audit.verifier import Folder, Unreadable, read_keys, told, verify

SOURCE = Path(verifier.__file__)


def written(archive: Archive, folder: Path) -> Path:
    for name, data in archive.objects.items():
        path = folder / "audit/v1/t=ten_00000000000000000000000001" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    key = folder / "log.key"
    key.write_text(f"# the log's public key\n{SIGNER.verifier_key}\n")
    return key


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    # Isolated: the program may find nothing of the gateway.
    return subprocess.run(
        [sys.executable, "-I", SOURCE, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("seed", range(60))
def test_an_honest_archive_raises_no_alarm(seed: int) -> None:
    archive = honest(seed)

    report = archive.check()

    assert report.problems == []
    assert report.records == report.size == len(archive.records)
    assert report.checkpoints == report.manifests == len(archive.bounds)
    assert report.open == 1 + len(report.lost_writers)


@pytest.mark.parametrize("number", range(len(TAMPERINGS)), ids=lambda number: TAMPERINGS[number].__name__)
def test_a_tampering_is_found(number: int) -> None:
    found = 0
    for seed in range(number, len(TAMPERINGS) * 25, len(TAMPERINGS)):
        case = tampered(seed)
        if case is not None:
            found += 1
            assert case[1].check().problems, f"seed {seed}"
    assert found >= 5


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("insider_cuts_the_end_of_a_dead_writers_chain", {"chain_cut"}),
        ("insider_removes_a_dead_writer", {"chain_cut"}),
        ("insider_cuts_a_chain_before_it_came_to_rest", {"writer_silent"}),
        ("insider_cuts_a_chain_at_a_heartbeat_with_an_open_call", {"writer_silent"}),
        ("insider_hides_that_a_writer_was_lost", {"writer_silent", "outcome_missing"}),
    ],
)
def test_what_is_missing_at_the_end_of_a_chain_is_seen_without_any_checkpoint_from_before(
    name: str, codes: set[str]
) -> None:
    tampering = next(each for each in TAMPERINGS if each.__name__ == name)

    changed = tampering(honest(1), random.Random(1))

    assert changed is not None
    assert {problem.code for problem in changed.check().problems} == codes


def test_a_lost_writer_is_told_and_not_held_against_the_archive() -> None:
    report = honest(1).check()

    assert report.problems == []
    assert report.lost_writers == [LOST]
    assert f"writer {LOST}" in told(report)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_ten_thousand_tamperings_are_found_and_a_thousand_honest_archives_pass() -> None:
    assert [seed for seed in range(1_000) if honest(seed).check().problems] == []
    tried = missed = seed = 0
    while tried < 10_000:
        case = tampered(seed)
        if case is not None:
            tried += 1
            missed += not case[1].check().problems
        seed += 1
    assert missed == 0


def test_every_kind_of_problem_is_in_the_corpus() -> None:
    known = set(re.findall(r'add\(\s*"([a-z_]+)"', SOURCE.read_text("utf-8")))
    seen = {
        problem.code
        for seed in range(len(TAMPERINGS) * 25)
        if (case := tampered(seed)) is not None
        for problem in case[1].check().problems
    }

    assert known - seen == set()


def test_the_program_runs_alone_and_says_what_it_found(tmp_path: Path) -> None:
    key = written(honest(1), tmp_path)

    ran = run(tmp_path, "--key", key, "--json")

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["ok"] is True


def test_the_program_ends_with_one_where_something_was_changed(tmp_path: Path) -> None:
    case = tampered(0)
    assert case is not None
    key = written(case[1], tmp_path)

    ran = run(tmp_path, "--key", key)

    assert ran.returncode == 1
    assert "TAMPERED" in ran.stdout


def test_earlier_checkpoints_and_receipts_are_given_on_the_command_line(tmp_path: Path) -> None:
    archive = honest(3)
    key = written(archive, tmp_path)
    note = tmp_path / "earlier.note"
    note.write_bytes(archive.earlier[0])
    receipt = archive.receipts[0]

    assert run(tmp_path, "--key", key, "--checkpoint", note, "--receipt", receipt).returncode == 0
    assert run(tmp_path, "--key", key, "--receipt", "0" * 64).returncode == 1


def test_a_witness_is_asked_for_on_the_command_line(tmp_path: Path) -> None:
    archive = honest(0)
    key = written(archive, tmp_path)
    stranger = str(Cosigner("other.example/w9", bytes(32)).witness_key)

    fine = run(tmp_path, "--key", key, "--witness", archive.witnesses[0], "--json")
    missing = run(tmp_path, "--key", key, "--witness", archive.witnesses[0], "--witness", stranger, "--json")
    unusable = run(tmp_path, "--key", key, "--witness", "nobody")

    assert fine.returncode == 0
    assert json.loads(fine.stdout)["witnessed"] == {WITNESS.witness_key.name: archive.bounds[1]}
    assert [problem["code"] for problem in json.loads(missing.stdout)["problems"]] == ["cosignature_missing"]
    assert (missing.returncode, unusable.returncode) == (1, 2)


def test_the_program_follows_the_log_to_a_key_that_was_not_given(tmp_path: Path) -> None:
    key = written(honest(2), tmp_path)

    ran = run(tmp_path, "--key", key)

    assert ran.returncode == 0
    assert f"announced in the log, not given: {NEXT.verifier_key}" in ran.stdout


def test_an_archive_whose_newest_checkpoint_is_older_than_one_received_was_rolled_back() -> None:
    archive = honest(1)
    last = f"checkpoint/{archive.bounds[-1]:016d}.note"
    rolled_back = replace(archive, objects={n: data for n, data in archive.objects.items() if n != last})

    report = rolled_back.check()

    assert {problem.code for problem in report.problems} == {"rolled_back"}
    assert rolled_back.check(outside=False).problems == []


@pytest.mark.parametrize("key", ["", "nonsense\n", "a+00000000+AAAA\n"])
def test_without_a_usable_key_nothing_is_said_to_be_fine(tmp_path: Path, key: str) -> None:
    written(honest(1), tmp_path)
    (tmp_path / "log.key").write_text(key)

    ran = run(tmp_path, "--key", tmp_path / "log.key")

    assert ran.returncode == 2
    assert ran.stdout == ""


def test_a_folder_without_an_archive_is_told_apart_from_a_clean_one(tmp_path: Path) -> None:
    key = tmp_path / "log.key"
    key.write_text(str(SIGNER.verifier_key))

    assert run(tmp_path, "--key", key).returncode == 2
    assert run(tmp_path / "nothing", "--key", key).returncode == 2


def test_archives_of_several_tenants_are_checked_one_at_a_time(tmp_path: Path) -> None:
    written(honest(1), tmp_path)
    (tmp_path / "audit/v1/t=ten_2").mkdir()

    with pytest.raises(Unreadable, match="2 tenants"):
        Folder(tmp_path)
    folder = Folder(tmp_path / "audit/v1/t=ten_00000000000000000000000001")
    assert verify(folder, read_keys(str(SIGNER.verifier_key))).problems == []


def test_the_verifier_needs_nothing_of_the_gateway() -> None:
    imported = re.findall(r"^(?:from|import) ([\w.]+)", SOURCE.read_text("utf-8"), re.MULTILINE)

    assert {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) == {"cryptography", "zstandard"}
