"""A real MongoDB wire server for tests: MONGODB_URI where it is set, else the embedded one on a temporary folder."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

from trueport.storage.embedded import EmbeddedMongo, find_program
from trueport.storage.mongo import Client, Database, connect, database_of
from trueport.storage.scoped import TenantRepository
from trueport.storage.tripwire import Noted, Tripwire

TENANT_COLLECTIONS: set[str] = set()
"""What the tripwire watches besides the collections of tenant repositories; domains' tests add theirs."""


class EveryTenantCollection:
    """TENANT_COLLECTIONS, and the collections of all tenant repositories that are defined by the time of asking."""

    def __contains__(self, collection: object) -> bool:
        return collection in TENANT_COLLECTIONS or any(
            +model == collection for model in map(_model, _below(TenantRepository)) if model is not None
        )


def _below(base: type[Any]) -> Iterator[type[Any]]:
    for each in base.__subclasses__():
        yield each
        yield from _below(each)


def _model(repository: type[Any]) -> Any:
    return getattr(repository, "model", None)


@pytest.fixture(scope="session")
def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for the tests of a process."""
    given = os.environ.get("MONGODB_URI")
    if given:
        yield given
        return
    if find_program() is None:
        pytest.skip("no MONGODB_URI and no secantusdb installed")
    embedded = EmbeddedMongo(Path(tmp_path_factory.mktemp("mongo")))
    yield embedded.start()
    embedded.stop()


@pytest.fixture
def noted() -> list[Noted]:
    """Commands that named no tenant; a test that expects some clears the list."""
    return []


@pytest.fixture
async def mongo_client(mongodb_uri: str, noted: list[Noted]) -> AsyncIterator[Client]:
    tripwire = Tripwire(EveryTenantCollection(), noted.append)
    client = connect(mongodb_uri, listeners=[tripwire])
    yield client
    await client.close()
    assert not noted, f"commands without a tenant: {noted}"


@pytest.fixture
async def database(mongo_client: Client) -> AsyncIterator[Database]:
    """A fresh database, gone after the test. Commands on it that name no tenant fail the test."""
    name = f"test_{secrets.token_hex(6)}"
    yield database_of(mongo_client, name)
    # Longer than the product waits for anything: the embedded server takes its time over files when the disk is busy.
    with pymongo.timeout(60):
        await mongo_client.drop_database(name)


@pytest.fixture
async def raw_database(mongodb_uri: str, database: Database) -> AsyncIterator[Database]:
    """The same database unwatched: to look behind the product's back, and to plant what it would not write."""
    client = connect(mongodb_uri)
    yield database_of(client, database.name)
    await client.close()
