"""One simulator and one set-up data folder for the whole run; every test works on a copy of it."""

import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.chaos_load import forget
from tests.support.installation import Installation, installation
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, private_redis
from trueport.storage.embedded import EmbeddedMongo

KEYS = "/trueportai-services/api/v1/keys"


@dataclass
class Cluster:
    """A server of two workers with Redis and the embedded database, and its owner's access."""

    place: Installation
    redis: RedisServer
    token: str

    def api(self, path: str, body: Any = None, *, method: str = "POST") -> Any:
        """A management call that has to succeed."""
        status, answer = self.place.ask(f"{KEYS}{path}", body=body, token=self.token, method=method)
        assert status < 300, (path, status, answer)
        return answer

    def new_key(self, *, requests_per_minute: int = 100_000) -> dict[str, Any]:
        made: dict[str, Any] = self.api("", {"name": "test", "env": "prod", "requests_per_minute": requests_per_minute})
        return made


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with a tenant, a route to the simulator and a key without limits; never served itself."""
    with installation(tmp_path_factory.mktemp("template") / "data") as place:
        # Running beside the commands, so that none of them has to start it.
        database = EmbeddedMongo(place.data_dir)
        database.start()
        try:
            place.set_up()
        finally:
            database.stop()
        yield place


def _copy(template: Installation, data_dir: Path, **settings: str) -> Installation:
    shutil.copytree(template.data_dir, data_dir)
    port = free_port()
    own = {"TRUEPORT_DATA_DIR": str(data_dir), "TRUEPORT_PORT": str(port)}
    environment = {**template.environment, **own, **settings}
    return Installation(data_dir, environment, port, template.simulator, access=dict(template.access))


@pytest.fixture
def place(template: Installation, tmp_path: Path) -> Iterator[Installation]:
    """A fresh installation, not yet served; the provider's books are empty."""
    forget(template.simulator)
    found = _copy(template, tmp_path / "data")
    try:
        yield found
    finally:
        found.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def cluster(template: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running one, shared: a test makes keys of its own and leaves Redis as it found it."""
    with private_redis() as redis:
        data_dir = tmp_path_factory.mktemp("cluster") / "data"
        found = _copy(template, data_dir, TRUEPORT_WORKERS="2", TRUEPORT_REDIS_URL=redis.url)
        try:
            found.serve()
            yield Cluster(found, redis, found.scoped_token())
        finally:
            found.stop(signal.SIGKILL)
