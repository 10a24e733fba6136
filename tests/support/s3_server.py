"""S3 as moto's server plays it, with Object Lock, in a process of its own; skipped where moto is not installed."""

import importlib.util
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.ports import free_port

PATIENCE_S = 60.0
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class S3Server:
    """An S3 whose buckets are made by tests; `client` is boto3's, for what the product never does."""

    endpoint: str
    client: Any
    process: subprocess.Popen[bytes]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @property
    def environ(self) -> dict[str, str]:
        return {**KEYS, "AWS_ENDPOINT_URL": self.endpoint}

    def bucket(self, name: str, *, is_locked: bool = True) -> str:
        self.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=is_locked)
        return name


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One for all tests of a process: each makes its own bucket."""
    if importlib.util.find_spec("moto") is None:
        pytest.skip("moto is not installed")
    import boto3  # type: ignore[import-untyped]  # boto3 has no types
    from botocore.config import Config  # type: ignore[import-untyped]  # neither has botocore

    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _until_there(endpoint)
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(proxies={}, retries={"max_attempts": 1}),
        )
        yield S3Server(endpoint, client, server)
        client.close()
    finally:
        server.terminate()
        server.wait(20)


def _until_there(endpoint: str) -> None:
    ends_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=10).close()
        except OSError:
            assert time.monotonic() < ends_s, "moto does not start"
            time.sleep(0.1)
        else:
            return
