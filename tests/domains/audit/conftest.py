from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.analytics import Trail
from tests.support.mongo import database, mongo_client, mongodb_uri, noted
from tests.support.web import House, open_house, settings_of
from trueport.app import installed_domains
from trueport.domains.analytics.sink import MongoSink
from trueport.storage.documents import FolderStore
from trueport.storage.mongo import Database

__all__ = ["database", "mongo_client", "mongodb_uri", "noted"]


@pytest.fixture
async def house(tmp_path: Path, database: Database) -> AsyncIterator[House]:
    """An application that hosts accounts, analytics and the trail."""
    domains = installed_domains(["auth", "analytics", "audit"])
    async with open_house(settings_of(tmp_path), database, domains) as opened:
        yield opened


@pytest.fixture
def sink(house: House, tmp_path: Path) -> MongoSink:
    return MongoSink(house.resources.database, FolderStore(tmp_path / "content"), events=house.events)


@pytest.fixture
def trail() -> Trail:
    return Trail()
