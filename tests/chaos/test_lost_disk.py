"""A whole server whose journal's disk is taken away while calls come."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chaos_load import chat
from tests.support.disks import block_disk, break_disk
from tests.support.installation import Installation
from trueport.audit.canonical import parse


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with block_disk(tmp_path / "disk") as mounted:
        yield mounted


def _ask(place: Installation) -> int:
    status, _ = place.ask("/v1/chat/completions", body=chat("hi [[tokens: 5]]"), token=place.key)
    return status


def _kinds(place: Installation, calls: int) -> list[str]:
    return sorted(str(one["kind"]) for one in place.settled_call_records(2 * calls))


def test_a_server_with_a_second_disk_goes_on_when_the_first_dies(place: Installation, disk: Path) -> None:
    second = disk.parent / "second"
    place.serve(
        TRUEPORT_SPOOL_DIRECTORY=str(disk), TRUEPORT_SPOOL_SECOND_DIRECTORY=str(second), TRUEPORT_SPOOL_SEGMENT_MIB="1"
    )
    before = [_ask(place) for _ in range(5)]
    assert _kinds(place, 5) == ["intent"] * 5 + ["outcome"] * 5
    break_disk(disk)

    after = [_ask(place) for _ in range(10)]

    assert before == [200] * 5
    # Only the call that met the failure may be refused: its intent was not known to be safe.
    assert after.count(503) <= 1
    assert after[1:] == [200] * 9
    assert _kinds(place, 15) == ["intent"] * 15 + ["outcome"] * 15


def test_a_server_whose_only_folder_is_deleted_refuses_calls(place: Installation) -> None:
    place.serve()
    assert _ask(place) == 200
    shutil.rmtree(place.data_dir / "spool")

    statuses = [_ask(place) for _ in range(30)]
    while statuses[-1] == 200 and len(statuses) < 2_000:
        statuses.append(_ask(place))

    # Noticed within a second, and for good.
    assert statuses[-1] == 503
    assert [_ask(place) for _ in range(3)] == [503] * 3
    served = statuses.count(200) + 1
    # Those that were served are in the trail, although their file was deleted; so are refusals, where they can be.
    kinds = _kinds(place, served)
    assert (kinds.count("intent"), kinds.count("outcome") >= served) == (served, True)


def test_a_server_in_best_effort_goes_on_without_its_folder_and_says_what_is_missing(place: Installation) -> None:
    place.serve(TRUEPORT_AUDIT_MODE="best_effort")
    assert _ask(place) == 200
    shutil.rmtree(place.data_dir / "spool")

    statuses: list[int] = []
    deadline_s = time.monotonic() + 10
    while not (gaps := _gaps(place)) and time.monotonic() < deadline_s:
        statuses += [_ask(place) for _ in range(10)]

    assert set(statuses) == {200}
    assert gaps
    assert all(parse(gap["canonical"])["intents"] > 0 for gap in gaps)


def _gaps(place: Installation) -> list[dict[str, Any]]:
    return [record for record in place.documents("audit_records") if record["kind"] == "gap"]
