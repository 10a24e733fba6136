from collections.abc import Awaitable, Callable

import pytest

from tests.support.storage import ACME, NOON, OPERATOR, OTHER, AllThings, Things, names, thing
from trueport.kit.errors import NotFound
from trueport.kit.tenancy import PlatformScope
from trueport.storage.mongo import Database, Duplicate


async def test_it_reads_across_tenants_without_setting_off_the_tripwire(database: Database) -> None:
    mine = await Things(database, ACME).insert(thing("mine"))
    await Things(database, OTHER).insert(thing("theirs", OTHER))
    everything = AllThings(database, OPERATOR)

    assert names(await everything.find({})) == ["mine", "theirs"]
    assert (await everything.get(mine.id)).created_at == NOON
    assert await everything.count({}) == 2
    assert await everything.aggregate([{"$count": "n"}]) == [{"n": 2}]


async def test_what_does_not_exist_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound):
        await AllThings(database, OPERATOR).get("thg_none")


async def test_an_update_holds_its_conditions_by_id_and_without(database: Database) -> None:
    everything = AllThings(database, OPERATOR)
    stored = await everything.insert(thing(size=1))

    assert await everything.update({"_id": stored.id, "sz": 2}, {"name": "no"}) is None
    by_id = await everything.update({"_id": stored.id, "sz": 1}, {"size": 2})
    by_name = await everything.update({"name": "one"}, {"size": 3})

    assert by_id is not None
    assert (by_id.size, by_id.revision) == (2, 1)
    assert by_name is not None
    assert (by_name.size, by_name.revision) == (3, 2)


async def test_an_identifier_that_exists_is_told(database: Database) -> None:
    everything = AllThings(database, OPERATOR)
    stored = await everything.insert(thing())

    with pytest.raises(Duplicate):
        await everything.insert(stored)


@pytest.mark.parametrize(
    ("verb", "deed"),
    [
        ("find_one", lambda repository: repository.find_one({})),
        ("find", lambda repository: repository.find({})),
        ("count", lambda repository: repository.count({})),
        ("insert", lambda repository: repository.insert(thing())),
        ("update", lambda repository: repository.update({"name": "x"}, {"size": 1})),
        ("delete_many", lambda repository: repository.delete_many({})),
        ("aggregate", lambda repository: repository.aggregate([])),
    ],
)
async def test_each_use_is_recorded(
    database: Database, verb: str, deed: Callable[[AllThings], Awaitable[object]]
) -> None:
    uses: list[tuple[PlatformScope, str, str]] = []
    repository = AllThings(database, OPERATOR, lambda *use: uses.append(use))

    await deed(repository)

    assert uses == [(OPERATOR, "things", verb)]
