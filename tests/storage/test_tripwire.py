from collections.abc import Awaitable, Callable, Mapping

import pytest
from pymongo import InsertOne

from tests.support.storage import ACME, Things, thing
from trueport.storage.mongo import Client, Database, connect, database_of
from trueport.storage.tripwire import Noted, Tripwire

Deed = Callable[[Database], Awaitable[object]]


async def aggregated(database: Database, *stages: Mapping[str, object]) -> None:
    await (await database["things"].aggregate(list(stages))).to_list()


MATCH = {"$match": {"tenant_id": "ten_acme"}}
SILENT: list[Deed] = [
    lambda db: db["things"].find_one({"name": "x", "tenant_id": "ten_acme"}),
    lambda db: db["things"].find_one({"$and": [{"name": "x"}, {"tenant_id": "ten_acme"}]}),
    lambda db: db["things"].find_one({"tenant_id": {"$eq": "ten_acme"}}),
    lambda db: db["things"].insert_one({"tenant_id": "ten_acme"}),
    lambda db: aggregated(db, MATCH, {"$count": "n"}),
    lambda db: db["elsewhere"].find_one({}),
    lambda db: db["things"].create_index("name"),
]
LOUD: list[tuple[str, Deed]] = [
    ("find", lambda db: db["things"].find_one({})),
    ("find", lambda db: db["things"].find_one({"_id": "secret"})),
    ("find", lambda db: db["things"].find_one({"tenant_id": {"$ne": "ten_acme"}})),
    ("find", lambda db: db["things"].find_one({"tenant_id": {"$in": ["ten_acme", "ten_other"]}})),
    ("find", lambda db: db["things"].find_one({"$or": [{"tenant_id": "ten_acme"}, {"name": "x"}]})),
    ("find", lambda db: db["things"].find({"name": "x"}).to_list()),
    ("update", lambda db: db["things"].update_one({"_id": "x"}, {"$set": {"tenant_id": "ten_acme"}})),
    ("update", lambda db: db["things"].update_many({}, {"$set": {"name": "x"}})),
    ("update", lambda db: db["things"].replace_one({"_id": "x"}, {"tenant_id": "ten_acme"})),
    ("delete", lambda db: db["things"].delete_one({"_id": "x"})),
    ("delete", lambda db: db["things"].delete_many({})),
    ("findAndModify", lambda db: db["things"].find_one_and_delete({"_id": "x"})),
    ("distinct", lambda db: db["things"].distinct("name")),
    ("count", lambda db: db["things"].estimated_document_count()),
    ("aggregate", lambda db: db["things"].count_documents({})),
    ("aggregate", lambda db: aggregated(db, {"$sort": {"name": 1}}, MATCH)),
    ("aggregate", aggregated),
    ("aggregate", lambda db: aggregated(db, MATCH, {"$unionWith": "things"})),
    ("aggregate", lambda db: aggregated(db, MATCH, {"$facet": {"a": [{"$unionWith": "things"}]}})),
    ("insert", lambda db: db["things"].insert_one({"name": "x"})),
    ("insert", lambda db: db["things"].insert_many([{"tenant_id": "ten_acme"}, {"name": "x"}])),
    ("insert", lambda db: db["things"].bulk_write([InsertOne({"name": "x"})])),
]


@pytest.mark.parametrize(("command", "deed"), LOUD)
async def test_a_command_that_names_no_tenant_is_noted(
    database: Database, noted: list[Noted], command: str, deed: Deed
) -> None:
    await deed(database)

    assert noted == [Noted("things", command)]
    noted.clear()


@pytest.mark.parametrize("deed", SILENT)
async def test_a_command_that_names_its_tenant_or_needs_none_is_not_noted(
    database: Database, noted: list[Noted], deed: Deed
) -> None:
    await deed(database)

    assert noted == []


async def test_a_planted_query_behind_the_repository_is_caught(database: Database, noted: list[Noted]) -> None:
    things = Things(database, ACME)
    stored = await things.insert(thing())

    await things._collection.find_one({"_id": stored.id})

    assert [note.command for note in noted] == ["find"]
    noted.clear()


async def test_it_keeps_the_latest_notes_and_no_values(mongodb_uri: str, database: Database) -> None:
    wire = Tripwire({"things"})
    client: Client = connect(mongodb_uri, listeners=[wire])
    unscoped = database_of(client, database.name)["things"]

    for number in range(120):
        await unscoped.find_one({"name": f"secret {number}"})
    await client.close()

    assert len(wire.noted) == 100
    assert "secret" not in repr(wire.noted)


def test_operations_on_several_collections_at_once_are_noted() -> None:
    wire = Tripwire({"things"})

    class Event:
        command_name = "bulkWrite"
        command = {"bulkWrite": 1, "nsInfo": [{"ns": "db.things"}, {"ns": "db.elsewhere"}], "ops": []}  # noqa: RUF012

    wire.started(Event())  # type: ignore[arg-type]  # the embedded server has no such command to listen to

    assert list(wire.noted) == [Noted("things", "bulkWrite")]
