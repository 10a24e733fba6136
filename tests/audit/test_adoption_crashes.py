"""Adopters that die while they finish what others left: no intent is closed twice, whoever comes next."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.spool import Shelf, assert_chains_are_whole, open_spool, ship_everything
from trueport.audit.shipper import ShippedRecord, Shipper
from trueport.audit.spool import Spool

TENANT = "ten_00000000000000000000000001"
INTENTS = 5


class _Killed(Exception):
    pass


class StrictShelf(Shelf):
    """A sink that notices when one name is given to two records: whoever comes second has a gap in its chain."""

    async def store(self, batch: Sequence[ShippedRecord]) -> None:
        await super().store(batch)
        assert all(self.records[record.id].leaf == record.leaf for record in batch)


def _dead_writer_with_open_intents(root: Path) -> None:
    died = open_spool(root)
    for number in range(INTENTS):
        died.append("intent", f"int_{number}", TENANT, {})
    died.close()


async def _adopter_dies(root: Path, shelf: Shelf) -> None:
    adopter = open_spool(root)
    with pytest.raises(_Killed):
        await Shipper(adopter, root, shelf).adopt()
    adopter.close()


def _assert_closed_once(shelf: Shelf) -> None:
    closed = [record for record in shelf.records.values() if record.record["kind"] == "abandoned"]
    assert len(closed) == INTENTS
    assert_chains_are_whole(list(shelf.records.values()))


async def test_an_adopter_that_dies_while_it_deletes_closes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dead_writer_with_open_intents(tmp_path)
    shelf = StrictShelf()

    def deletes_one_file(directory: Path) -> None:
        (directory / "adopted-by").unlink()
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr("trueport.audit.adoption.shutil.rmtree", deletes_one_file)
        await _adopter_dies(tmp_path, shelf)

    await ship_everything(tmp_path, shelf)

    _assert_closed_once(shelf)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


async def test_adopters_that_die_one_after_the_other_close_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dead_writer_with_open_intents(tmp_path)
    shelf = StrictShelf()
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Spool, "append", _dying_after(2, Spool.append))
            await _adopter_dies(tmp_path, shelf)

    await ship_everything(tmp_path, shelf)

    _assert_closed_once(shelf)


def _dying_after(count: int, append: Callable[..., Any]) -> Callable[..., Any]:
    left = [count]

    def dying(*args: Any, **kwargs: Any) -> Any:
        if not left[0]:
            raise _Killed
        left[0] -= 1
        return append(*args, **kwargs)

    return dying


async def test_what_an_earlier_adopter_had_finished_is_only_deleted(tmp_path: Path) -> None:
    _dead_writer_with_open_intents(tmp_path)
    (directory,) = (path for path in tmp_path.iterdir() if path.is_dir())
    shutil.move(directory, tmp_path / f".gone-{directory.name}")
    shelf = StrictShelf()

    await ship_everything(tmp_path, shelf)

    assert shelf.records == {}
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
