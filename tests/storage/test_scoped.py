import asyncio
from datetime import UTC, datetime

import pytest
from odmantic import query

from tests.support.storage import ACME, NOON, OTHER, Colour, Part, Thing, Things, names, thing
from trueport.kit.errors import InvalidRequest, NotFound
from trueport.storage.indexes import ensure_indexes
from trueport.storage.mongo import Database, Duplicate
from trueport.storage.scoped import StaleRevision, UnscopedQuery
from trueport.storage.shape import UnreadableDocument


@pytest.fixture
def things(database: Database) -> Things:
    return Things(database, ACME)


@pytest.fixture
async def foreign(database: Database) -> Thing:
    """A document of another tenant."""
    return await Things(database, OTHER).insert(thing("theirs", OTHER, size=7))


async def test_a_document_comes_back_as_it_was_stored(things: Things) -> None:
    stored = await things.insert(
        thing(colour=Colour.BLUE, parts=[Part(size=3, made_at=NOON)], labels={"a": "b"}, seen_at=NOON, size=9)
    )

    found = await things.get(stored.id)

    assert found == stored
    assert found.created_at == NOON
    assert found.created_at.tzinfo is UTC
    assert found.parts[0].made_at.tzinfo is not None


async def test_another_tenants_document_is_not_found(things: Things, foreign: Thing) -> None:
    with pytest.raises(NotFound):
        await things.get(foreign.id)
    assert await things.find_one(query.eq(Thing.id, foreign.id)) is None
    assert await things.named("theirs") is None


async def test_another_tenants_list_is_empty(things: Things, foreign: Thing) -> None:
    assert await things.find() == []
    assert (await things.page(limit=10)).items == []
    assert [item async for item in things.each()] == []
    assert await things.count() == 0
    assert await things.aggregate([{"$group": {"_id": None, "n": {"$sum": 1}}}]) == []


async def test_an_or_does_not_reach_another_tenants_documents(things: Things, foreign: Thing) -> None:
    await things.insert(thing("mine"))

    found = await things.find(query.or_(query.eq(Thing.name, "mine"), query.eq(Thing.name, "theirs")))
    not_red = await things.find(query.nor_(query.eq(Thing.colour, Colour.BLUE)))

    assert names(found) == ["mine"]
    assert names(not_red) == ["mine"]


async def test_changing_or_deleting_another_tenants_document_changes_nothing(
    things: Things, foreign: Thing, raw_database: Database
) -> None:
    before = await raw_database["things"].find_one({"_id": foreign.id})

    assert await things.update(foreign.id, {"size": 99}) is None
    with pytest.raises(NotFound):
        await things.delete(foreign.id)
    with pytest.raises(NotFound):
        await things.replace(foreign.model_copy(update={"tenant_id": ACME.tenant_id, "size": 99}))
    assert await things.delete_many() == 0

    assert await raw_database["things"].find_one({"_id": foreign.id}) == before


async def test_a_document_of_another_tenant_is_not_stored(things: Things, raw_database: Database) -> None:
    for store in (things.insert, things.replace):
        with pytest.raises(UnscopedQuery):
            await store(thing(scope=OTHER))
    with pytest.raises(UnscopedQuery):
        await things.insert_missing([thing("mine"), thing("theirs", OTHER)])

    assert await raw_database["things"].count_documents({}) == 0


@pytest.mark.parametrize(
    "sneaky",
    [
        query.eq(Thing.tenant_id, OTHER.tenant_id),
        query.eq(Thing.name, "x") & query.eq(Thing.tenant_id, OTHER.tenant_id),
        query.or_(query.eq(Thing.name, "x"), query.eq(Thing.tenant_id, OTHER.tenant_id)),
        {"tenant_id": OTHER.tenant_id},
        {"password": "x"},
        query.QueryExpression({"name": {"$where": "1"}}),
        query.QueryExpression({"$expr": {"$eq": [1, 1]}}),
    ],
)
async def test_a_filter_that_names_a_tenant_or_something_strange_is_refused(
    things: Things, sneaky: dict[str, object]
) -> None:
    with pytest.raises(UnscopedQuery):
        await things.find(sneaky)


@pytest.mark.parametrize(
    "value", [{"$ne": None}, {"$gt": ""}, {"a": [{"$ne": 1}]}, [{"$ne": None}], {"$regex": ".*"}], ids=str
)
async def test_an_operator_in_the_place_of_a_value_is_refused(things: Things, value: object) -> None:
    await things.insert(thing())

    for wanted in ({"name": value}, query.eq(Thing.name, value), query.in_(Thing.name, [value])):
        with pytest.raises(InvalidRequest):
            await things.find_one(wanted)
    with pytest.raises(InvalidRequest):
        await things.get(value)  # type: ignore[arg-type]  # what a caller without types would do


async def test_filters_on_one_field_are_all_applied(things: Things) -> None:
    for size in range(6):
        await things.insert(thing(f"n{size}", size=size))

    between = await things.find(query.gte(Thing.size, 2), query.lt(Thing.size, 5), query.ne(Thing.size, 3))
    contradictory = await things.find(query.eq(Thing.size, 2), query.eq(Thing.size, 3))

    assert names(between) == ["n2", "n4"]
    assert contradictory == []


async def test_filters_are_sent_flat_with_the_identifier_first_and_the_tenant_last(things: Things) -> None:
    sent = things._wanted([query.eq(Thing.name, "x"), query.gt(Thing.size, 1), query.eq(Thing.id, "thg_1")])

    assert list(sent.items()) == [("_id", "thg_1"), ("name", "x"), ("sz", {"$gt": 1}), ("tenant_id", "ten_acme")]


async def test_a_query_spelt_out_by_a_repository_stays_inside_the_tenant(things: Things) -> None:
    assert things.spelt_out({"sz": {"$gt": 1}, "$or": [{"name": "a"}, {"name": {"$lt": "b"}}]}) == {
        "sz": {"$gt": 1},
        "$and": [{"$or": [{"name": "a"}, {"name": {"$lt": "b"}}]}],
        "tenant_id": "ten_acme",
    }
    with pytest.raises(UnscopedQuery):
        things.spelt_out({"$or": [{"tenant_id": "ten_other"}]})


async def test_pages_lead_through_the_whole_list_once(things: Things, foreign: Thing) -> None:
    stored = [(await things.insert(thing(f"n{number}"))).id for number in range(7)]

    for newest_first, order in ((True, sorted(stored, reverse=True)), (False, sorted(stored))):
        seen: list[str] = []
        after = None
        for _ in range(4):
            page = await things.page(limit=2, after=after, newest_first=newest_first)
            seen += [item.id for item in page.items]
            after = page.next
        assert after is None
        assert seen == order


async def test_a_full_last_page_has_no_next(things: Things) -> None:
    await things.insert(thing("a"))
    await things.insert(thing("b"))

    assert (await things.page(limit=2)).next is None


async def test_a_page_keeps_its_filters_beside_the_cursor(things: Things) -> None:
    stored = [await things.insert(thing(f"n{number}")) for number in range(4)]
    first = await things.page(query.ne(Thing.id, stored[1].id), limit=1, newest_first=False)

    rest = await things.page(query.ne(Thing.id, stored[1].id), limit=9, after=first.next, newest_first=False)

    assert names(rest.items) == ["n2", "n3"]


async def test_a_changed_cursor_is_refused(things: Things, database: Database) -> None:
    for number in range(3):
        await things.insert(thing(f"n{number}"))
    cursor = (await things.page(limit=1)).next
    assert cursor is not None

    changed = [cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :] for place in range(20)]
    for tampered in [
        *changed,
        cursor + "=",
        cursor + "A",
        cursor[:-1],
        "",
        "x" * 5,
        "é" * 9,
        '{"$gt":""}',
        " " + cursor,
    ]:
        with pytest.raises(InvalidRequest):
            await things.page(limit=1, after=tampered)


async def test_a_cursor_of_another_tenant_or_direction_is_refused(things: Things, database: Database) -> None:
    theirs = Things(database, OTHER)
    for number in range(3):
        await theirs.insert(thing(f"n{number}", OTHER))
        await things.insert(thing(f"n{number}"))
    foreign_cursor = (await theirs.page(limit=1)).next
    own_cursor = (await things.page(limit=1)).next

    with pytest.raises(InvalidRequest):
        await things.page(limit=1, after=foreign_cursor)
    with pytest.raises(InvalidRequest):
        await things.page(limit=1, after=own_cursor, newest_first=False)


@pytest.mark.parametrize("limit", [0, -1, 201])
async def test_a_page_has_from_1_to_200_items(things: Things, limit: int) -> None:
    with pytest.raises(InvalidRequest):
        await things.page(limit=limit)


async def test_each_gives_more_documents_than_one_round_trip(things: Things, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trueport.storage.scoped._AT_ONCE", 3)
    for number in range(7):
        await things.insert(thing(f"n{number}"))

    assert names([item async for item in things.each()]) == [f"n{number}" for number in range(7)]


async def test_replacing_counts_the_revision_up(things: Things) -> None:
    first = await things.insert(thing())

    second = await things.replace(first.model_copy(update={"size": 5}))

    assert (second.size, second.revision) == (5, 1)
    assert await things.get(first.id) == second


async def test_of_two_who_read_the_same_revision_one_may_replace_it(things: Things) -> None:
    read = await things.insert(thing())

    outcomes = await asyncio.gather(
        *(things.replace(read.model_copy(update={"size": size})) for size in range(8)), return_exceptions=True
    )

    assert sum(isinstance(outcome, StaleRevision) for outcome in outcomes) == 7
    assert (await things.get(read.id)).revision == 1


async def test_replacing_what_is_gone_is_not_found(things: Things) -> None:
    with pytest.raises(NotFound):
        await things.replace(thing())


async def test_replacing_keeps_members_of_a_newer_version(things: Things, raw_database: Database) -> None:
    read = await things.insert(thing())
    await raw_database["things"].update_one({"_id": read.id}, {"$set": {"invented_later": 1}})

    await things.replace(read.model_copy(update={"size": 2}))

    stored = await raw_database["things"].find_one({"_id": read.id})
    assert stored is not None
    assert stored["invented_later"] == 1


async def test_an_update_sets_only_the_named_fields(things: Things) -> None:
    stored = await things.insert(thing(size=4))

    changed = await things.update(
        stored.id, {"name": "two", "colour": Colour.BLUE, "parts": [Part(size=1, made_at=NOON)]}
    )

    assert changed is not None
    assert (changed.name, changed.colour, changed.size, changed.revision) == ("two", Colour.BLUE, 4, 1)
    assert changed.parts[0].made_at == NOON
    assert await things.get(stored.id) == changed


async def test_an_update_uses_the_stored_name_of_a_field(things: Things, raw_database: Database) -> None:
    stored = await things.insert(thing())

    await things.update(stored.id, {"size": 8})

    document = await raw_database["things"].find_one({"_id": stored.id})
    assert document is not None
    assert document["sz"] == 8
    assert "size" not in document


@pytest.mark.parametrize("name", ["tenant_id", "id", "_id", "revision", "created_at", "sz", "invented", "$set"])
async def test_an_update_does_not_set_identity_tenant_or_unknown_fields(things: Things, name: str) -> None:
    stored = await things.insert(thing())

    with pytest.raises(UnscopedQuery):
        await things.update(stored.id, {name: "ten_other"})

    assert await things.get(stored.id) == stored


async def test_an_update_does_not_store_what_the_model_cannot_hold(things: Things) -> None:
    stored = await things.insert(thing())

    with pytest.raises(UnscopedQuery):
        await things.update(stored.id, {"size": "many"})

    assert await things.get(stored.id) == stored


async def test_of_several_updates_under_one_condition_one_succeeds(things: Things) -> None:
    stored = await things.insert(thing(colour=Colour.RED))

    outcomes = await asyncio.gather(
        *(things.update(stored.id, {"colour": Colour.BLUE}, query.eq(Thing.colour, Colour.RED)) for _ in range(8))
    )

    assert sum(outcome is not None for outcome in outcomes) == 1


async def test_a_unique_index_holds_inside_a_tenant_and_not_between_tenants(things: Things, database: Database) -> None:
    await ensure_indexes(database, [Thing])
    await things.insert(thing("same"))
    second = await things.insert(thing("second"))

    await Things(database, OTHER).insert(thing("same", OTHER))
    with pytest.raises(Duplicate):
        await things.insert(thing("same"))
    with pytest.raises(Duplicate):
        await things.update(second.id, {"name": "same"})
    with pytest.raises(Duplicate):
        await things.replace(second.model_copy(update={"name": "same"}))


async def test_sending_the_same_documents_again_stores_the_missing_ones(things: Things) -> None:
    batch = [thing(f"n{number}") for number in range(4)]
    await things.insert(batch[1])

    assert await things.insert_missing(batch) == {batch[0].id, batch[2].id, batch[3].id}
    assert await things.insert_missing(batch) == set()
    assert await things.insert_missing([]) == set()
    assert await things.count() == 4


async def test_a_batch_with_a_taken_name_is_told(things: Things, database: Database) -> None:
    await ensure_indexes(database, [Thing])
    await things.insert(thing("taken"))

    with pytest.raises(Duplicate):
        await things.insert_missing([thing("taken"), thing("free")])

    assert await things.named("free") is not None


async def test_aggregation_counts_this_tenants_documents_by_day(things: Things, foreign: Thing) -> None:
    for number, day in enumerate((1, 1, 2)):
        await things.insert(thing(f"n{number}", size=number, created_at=datetime(2026, 5, day, 9, tzinfo=UTC)))

    days = await things.aggregate(
        [
            {
                "$group": {
                    "_id": {"$dateTrunc": {"date": "$created_at", "unit": "day"}},
                    "n": {"$sum": 1},
                    "large": {"$sum": {"$cond": [{"$gt": ["$sz", 0]}, 1, 0]}},
                }
            },
            {"$sort": {"_id": 1}},
        ]
    )

    assert days == [
        {"_id": datetime(2026, 5, 1, tzinfo=UTC), "n": 2, "large": 1},
        {"_id": datetime(2026, 5, 2, tzinfo=UTC), "n": 1, "large": 1},
    ]


async def test_aggregation_takes_filters_or_a_first_match(things: Things, foreign: Thing) -> None:
    for number in range(4):
        await things.insert(thing(f"n{number}", size=number))
    count = [{"$count": "n"}]

    assert await things.aggregate(count, query.gt(Thing.size, 1)) == [{"n": 2}]
    assert await things.aggregate([{"$match": {"sz": {"$gt": 1}}}, *count]) == [{"n": 2}]
    assert await things.aggregate([{"$match": {"$or": [{"sz": 7}, {"sz": 3}]}}, *count]) == [{"n": 1}]


@pytest.mark.parametrize(
    "stage",
    [
        {"$lookup": {"from": "things", "pipeline": [], "as": "x"}},
        {"$graphLookup": {"from": "things"}},
        {"$unionWith": "things"},
        {"$out": "elsewhere"},
        {"$merge": {"into": "elsewhere"}},
        {"$facet": {"a": [{"$match": {}}, {"$lookup": {"from": "things"}}]}},
        {"$facet": {"a": ({"$facet": {"b": [{"$unionWith": "things"}]}},)}},
        {"$project": {"x": {"$function": {"body": "function() {}", "args": [], "lang": "js"}}}},
        {"$match": {"$where": "true"}},
        {"$match": {"tenant_id": "ten_other"}},
    ],
    ids=lambda stage: next(iter(stage)),
)
async def test_aggregation_does_not_reach_beyond_the_tenant(things: Things, stage: dict[str, object]) -> None:
    with pytest.raises(UnscopedQuery):
        await things.aggregate([stage])


async def test_a_moment_without_time_zone_is_neither_stored_nor_looked_for(things: Things) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - the point of the test
    stored = await things.insert(thing())

    with pytest.raises(ValueError, match="time zone"):
        await things.insert(thing("two", parts=[Part(size=1, made_at=naive)]))
    with pytest.raises(ValueError, match="time zone"):
        await things.update(stored.id, {"seen_at": naive})
    with pytest.raises(ValueError, match="time zone"):
        await things.find(query.gt(Thing.created_at, naive))


async def test_a_document_that_does_not_fit_its_model_is_told_without_its_values(
    things: Things, raw_database: Database
) -> None:
    await raw_database["things"].insert_one({"_id": "thg_odd", "tenant_id": "ten_acme", "name": ["secret"]})

    with pytest.raises(UnreadableDocument) as told:
        await things.get("thg_odd")

    assert "secret" not in str(told.value)
    assert told.value.status == 500
