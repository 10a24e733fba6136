from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.analytics import Trail
from tests.support.mongo import database, mongo_client, mongodb_uri, noted
from tests.support.web import House, open_house, settings_of
from trueport.app import installed_domains
from trueport.domains.analytics import domain
from trueport.domains.analytics.sink import MongoSink
from trueport.storage.documents import FolderStore
from trueport.storage.indexes import ensure_indexes
from trueport.storage.mongo import Database

__all__ = ["database", "mongo_client", "mongodb_uri", "noted"]


@pytest.fixture
async def house(tmp_path: Path, database: Database) -> AsyncIterator[House]:
    """An application that hosts accounts and analytics."""
    await ensure_indexes(database, domain.documents)
    async with open_house(settings_of(tmp_path), database, [*installed_domains(["auth"]), domain]) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "content")


@pytest.fixture
def sink(database: Database, store: FolderStore) -> MongoSink:
    return MongoSink(database, store)


@pytest.fixture
def trail() -> Trail:
    return Trail()
