"""A part of the trail handed out: a stranger checks it with the verifier in it and a public key alone."""

import asyncio
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.archives import OTHER, SIGNER, honest, public_keys
from tests.support.bundles import CHANGES, Bundle, changed_bundle, honest_bundle
from tests.support.large_archives import large
from trueport.audit.canonical import canonical, parse
from trueport.audit.disclosure import Custody, Files, NothingSigned, Wanted, bundle_of, ground_of, select, signed_bundle
from trueport.audit.notes import KeySigner
from trueport.audit.reading import read
from trueport.audit.verifier import Unreadable, Witness, read_keys, verify_bundle
from trueport.kit.clock import from_epoch_us

CUSTODY = Custody(datetime(2026, 3, 1, tzinfo=UTC), "usr_1", "request of an authority")
OUTCOMES = Wanted(kinds=("outcome",))


def bundle(wanted: Wanted = OUTCOMES, signer: KeySigner | None = SIGNER) -> Files:
    archive = large(600)
    ground = ground_of(archive, read(archive, public_keys()), public_keys())
    found = select(archive, wanted.takes)
    files = bundle_of(found, ground, CUSTODY, wanted.shown())
    return asyncio.run(signed_bundle(files, ground.origin, [signer])) if signer else files


def written(files: Files, folder: Path) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_a_stranger_checks_a_bundle_with_the_verifier_in_it(tmp_path: Path) -> None:
    folder = written(bundle(), tmp_path)
    key = tmp_path / "noted.key"
    key.write_text(str(SIGNER.verifier_key))

    ran = subprocess.run(
        [sys.executable, "-I", folder / "verifier.py", folder, "--key", key, "--json"],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    said = json.loads(ran.stdout)
    assert ran.returncode == 0, ran.stderr
    assert said["ok"] is True
    assert said["records"] == len((folder / "records.jsonl").read_bytes().splitlines()) > 100
    assert said["manifests"] == 1


def test_custody_says_who_when_why_what_and_how_many() -> None:
    wanted = Wanted(since=from_epoch_us(1), kinds=("outcome",), fields=(("status", "429"),))

    files = bundle(wanted)

    custody = json.loads(files["custody.json"])
    assert custody["made_by"] == "usr_1"
    assert custody["reason"] == "request of an authority"
    assert custody["query"]["equal"] == {"status": "429"}
    assert custody["count"] == len(files["records.jsonl"].splitlines()) > 0
    assert all(parse(line)["status"] == 429 for line in files["records.jsonl"].splitlines())


def test_a_period_takes_its_first_moment_and_not_its_last() -> None:
    records = [parse(record.canonical) for record in large(600).records]
    first, last = records[100]["at"], records[200]["at"]

    files = bundle(Wanted(since=from_epoch_us(first), until=from_epoch_us(last)))

    times = [parse(line)["at"] for line in files["records.jsonl"].splitlines()]
    # A moment of the product has milliseconds; what it takes begins there.
    assert first // 1_000 * 1_000 <= min(times)
    assert max(times) < last
    assert records[150]["at"] in times


def test_a_bundle_that_no_key_of_the_log_signed_says_that_nobody_signed_who_made_it(tmp_path: Path) -> None:
    report = verify_bundle(written(bundle(signer=None), tmp_path), public_keys())

    assert report.problems == []
    assert report.manifests == 0


def _edited(name: str, change: Callable[[bytes], bytes]) -> Callable[[Files], Files]:
    return lambda files: {**files, name: change(files[name])}


def _described_again(files: Files) -> Files:
    """With a custody that fits the files, as somebody without the key can write it."""
    custody = json.loads(files["custody.json"])
    custody["objects"] = [
        {"name": each, "bytes": len(files[each]), "sha256": hashlib.sha256(files[each]).hexdigest()}
        for each in ("records.jsonl", "proofs.jsonl", "checkpoint.note")
    ]
    custody["count"] = len(files["records.jsonl"].splitlines())
    return {
        name: data for name, data in {**files, "custody.json": canonical(custody)}.items() if "json.note" not in name
    }


def _other_status(data: bytes) -> bytes:
    return data.replace(b"200", b"201")


def _loose(data: bytes) -> bytes:
    return data.replace(b'"v":1', b'"v": 1')


def _anew(name: str, change: Callable[[bytes], bytes]) -> Callable[[Files], Files]:
    return lambda files: _described_again(_edited(name, change)(files))


def _drop(line: int) -> Callable[[bytes], bytes]:
    return lambda data: b"".join(each for n, each in enumerate(data.splitlines(keepends=True)) if n != line)


def _swap(data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join([lines[1], lines[0], *lines[2:]])


def _both(change: Callable[[bytes], bytes]) -> Callable[[Files], Files]:
    return lambda files: _edited("proofs.jsonl", change)(_edited("records.jsonl", change)(files))


@pytest.mark.parametrize(
    ("code", "tamper"),
    [
        ("root_differs", _anew("records.jsonl", _other_status)),
        ("root_differs", _anew("records.jsonl", _swap)),
        ("not_canonical", _anew("records.jsonl", _loose)),
        ("reordered", lambda files: _described_again(_both(_swap)(files))),
        ("count_differs", _anew("proofs.jsonl", _drop(0))),
        ("count_differs", _edited("custody.json", lambda d: d.replace(b'"count":', b'"count":1'))),
        ("object_changed", _edited("records.jsonl", _drop(0))),
        ("object_changed", _anew("proofs.jsonl", lambda d: b"x" + d)),
        ("manifest_changed", _edited("custody.json", lambda d: d.replace(b"usr_1", b"usr_2"))),
        ("checkpoint_unsigned", _edited("checkpoint.note", lambda d: d.replace(b"\n6", b"\n7"))),
    ],
)  # fmt: skip
def test_what_is_changed_in_a_bundle_is_found(code: str, tamper: Callable[[Files], Files], tmp_path: Path) -> None:
    files = bundle()
    changed = tamper(files)
    assert changed != files

    report = verify_bundle(written(changed, tmp_path), public_keys())

    assert code in {problem.code for problem in report.problems}


def checked(bundle_: Bundle, folder: Path) -> set[str]:
    witnesses = [Witness.parse(text) for text in bundle_.witnesses]
    report = verify_bundle(bundle_.write(folder), public_keys(), earlier=bundle_.earlier, witnesses=witnesses)
    return {problem.code for problem in report.problems}


@pytest.mark.parametrize("seed", range(8))
def test_an_honest_bundle_raises_no_alarm(seed: int, tmp_path: Path) -> None:
    assert checked(honest_bundle(seed), tmp_path / "bundle") == set()


@pytest.mark.parametrize("number", range(len(CHANGES)), ids=lambda number: CHANGES[number].__name__)
def test_no_change_to_a_bundle_goes_unnoticed(number: int, tmp_path: Path) -> None:
    cases = [changed_bundle(seed) for seed in range(number, len(CHANGES) * 10, len(CHANGES))]
    found = [checked(case[1], tmp_path / str(place)) for place, case in enumerate(cases) if case is not None]

    assert len(found) >= 2
    assert all(found)


def test_a_bundle_signed_by_another_key_is_not_believed(tmp_path: Path) -> None:
    folder = written(bundle(signer=OTHER), tmp_path)

    assert {problem.code for problem in verify_bundle(folder, public_keys()).problems} == {"manifest_unsigned"}
    other = verify_bundle(folder, read_keys(str(OTHER.verifier_key)))
    assert "checkpoint_unsigned" in {problem.code for problem in other.problems}


def test_a_bundle_whose_custody_is_none_cannot_be_checked(tmp_path: Path) -> None:
    folder = written({**bundle(), "custody.json": b"[]"}, tmp_path)

    with pytest.raises(Unreadable):
        verify_bundle(folder, public_keys())


def test_nothing_is_handed_out_of_an_archive_that_nothing_signed_holds_for() -> None:
    archive = honest(1)
    keys = read_keys(str(OTHER.verifier_key))

    with pytest.raises(NothingSigned):
        ground_of(archive, read(archive, keys), keys)
