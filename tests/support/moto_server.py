"""AWS KMS as moto's server plays it, in a process of its own; skipped where moto is not installed."""

import importlib.util
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.support.ports import free_port

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Kms:
    """A KMS with one key."""

    endpoint: str
    key_id: str

    @property
    def url(self) -> str:
        return f"aws-kms://{self.key_id}?region=eu-central-1&endpoint={self.endpoint}"

    def ask(self, operation: str, **members: object) -> dict[str, object]:
        return _ask(self.endpoint, operation, members)


@contextmanager
def moto_kms() -> Iterator[Kms]:
    if importlib.util.find_spec("moto") is None:
        pytest.skip("moto is not installed")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        _until_there(endpoint)
        made = _ask(endpoint, "CreateKey", {})["KeyMetadata"]
        assert isinstance(made, dict)
        yield Kms(endpoint, made["KeyId"])
    finally:
        server.terminate()
        server.wait(20)


def _until_there(endpoint: str) -> None:
    ends_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            _ask(endpoint, "ListKeys", {})
        except OSError:
            assert time.monotonic() < ends_s, "moto does not start"
            time.sleep(0.1)
        else:
            return


def _ask(endpoint: str, operation: str, members: dict[str, object]) -> dict[str, object]:
    request = urllib.request.Request(
        endpoint,
        data=json.dumps(members).encode(),
        headers={
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": f"TrentService.{operation}",
            "authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/eu-central-1/kms/aws4_request, "
            "SignedHeaders=host, Signature=0",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        answer: dict[str, object] = json.loads(reply.read() or b"{}")
        return answer
