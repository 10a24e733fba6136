import asyncio
from datetime import UTC, datetime

import pytest
from odmantic import Model
from pymongo.errors import (
    AutoReconnect,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WTimeoutError,
)
from pymongo.uri_parser import parse_uri

from tests.support.storage import ACME, Thing, Things, Wire, thing
from trueport.kit.deadline import Deadline
from trueport.storage.indexes import IndexDiffers, ensure_indexes
from trueport.storage.mongo import (
    Database,
    Duplicate,
    StoreUnavailable,
    connect,
    database_of,
    ping,
    store_errors,
    within,
)


async def test_moments_come_back_aware_and_exact_to_the_millisecond(raw_database: Database) -> None:
    moment = datetime(2026, 11, 23, 1, 2, 3, 456_000, tzinfo=UTC)
    await raw_database["x"].insert_one({"_id": 1, "at": moment})

    found = await raw_database["x"].find_one({"_id": 1})

    assert found is not None
    assert found["at"] == moment
    assert found["at"].tzinfo is UTC


async def test_the_database_is_the_one_the_address_names() -> None:
    for uri, name in (("mongodb://127.0.0.1/", "trueport"), ("mongodb://127.0.0.1/gateway", "gateway")):
        client = connect(uri)
        assert database_of(client).name == name
        assert database_of(client, "other").name == "other"
        await client.close()


@pytest.mark.parametrize(
    "error",
    [
        ServerSelectionTimeoutError("x"),
        AutoReconnect("x"),
        NetworkTimeout("x"),
        NotPrimaryError("x"),
        WaitQueueTimeoutError("x"),
        ExecutionTimeout("x", 50),
        WTimeoutError("x", 64),
        OperationFailure("x", 189),
        OperationFailure("x", 10107),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_pass_is_told_as_an_unavailable_store(error: PyMongoError) -> None:
    with pytest.raises(StoreUnavailable) as told, store_errors():
        raise error

    assert (told.value.status, told.value.code, told.value.retry_after_s) == (503, "store_unavailable", 1)


def test_other_errors_of_the_driver_stay_what_they_are() -> None:
    with pytest.raises(OperationFailure), store_errors():
        raise OperationFailure("x", 2)


async def test_a_database_that_does_not_answer_is_unavailable(mongodb_uri: str) -> None:
    # One that refuses connections ends the same way, but pymongo forgets a socket when it is closed while connecting.
    async with Wire(parse_uri(mongodb_uri)["nodelist"][0][1]).running() as wire:
        wire.flows.clear()
        client = connect(wire.uri)
        database = database_of(client)

        with within(Deadline.after(0.3)), pytest.raises(StoreUnavailable):
            await Things(database, ACME).find()
        with within(Deadline.after(0.3)):
            assert not await ping(database)

        await client.close()


async def test_commands_end_by_the_deadline_they_are_given(database: Database) -> None:
    with within(Deadline.after(-1)), pytest.raises(StoreUnavailable):
        await Things(database, ACME).find()

    assert await Things(database, ACME).find() == []


async def test_a_call_does_not_queue_behind_a_slow_database_beyond_its_deadline(
    mongodb_uri: str, database: Database
) -> None:
    port = parse_uri(mongodb_uri)["nodelist"][0][1]
    async with Wire(port).running() as wire:
        client = connect(wire.uri, max_pool_size=1)
        things = Things(database_of(client, database.name), ACME)
        await things.count()
        wire.flows.clear()
        slow = asyncio.create_task(things.count())
        await wire.asked.wait()

        with within(Deadline.after(0.2)), pytest.raises(StoreUnavailable) as told:
            await things.count()

        assert isinstance(told.value.__cause__, WaitQueueTimeoutError)
        wire.flows.set()
        assert await slow == 0
        await client.close()


async def test_a_database_that_answers_says_so(database: Database) -> None:
    assert await ping(database)


async def test_indexes_are_created_once_by_many_at_once(database: Database) -> None:
    await asyncio.gather(*(ensure_indexes(database, [Thing]) for _ in range(6)))
    await ensure_indexes(database, [Thing])

    found = await database["things"].index_information()
    assert set(found) == {"_id_", "tenant_id_1_name_1", "tenant_id_1__id_1"}
    assert found["tenant_id_1_name_1"]["unique"] is True


async def test_an_index_that_differs_from_the_declared_one_is_told(database: Database) -> None:
    await database["things"].create_index([("tenant_id", 1), ("name", 1)])

    with pytest.raises(IndexDiffers, match="things"):
        await ensure_indexes(database, [Thing])


async def test_documents_that_break_a_unique_index_are_told(database: Database) -> None:
    await Things(database, ACME).insert(thing("same"))
    await Things(database, ACME).insert(thing("same"))

    with pytest.raises(Duplicate):
        await ensure_indexes(database, [Thing])


async def test_a_model_of_no_tenant_gets_only_what_it_declares(database: Database) -> None:
    class Plain(Model):
        name: str

    await ensure_indexes(database, [Plain])

    assert await database["plain"].index_information() in ({}, {"_id_": {"key": [("_id", 1)], "v": 2}})
