"""Archives that a tenant names: nothing of this process's environment gets in, and no connection goes astray."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.s3_stub import refusing
from trueport.kit.clock import SystemClock
from trueport.kit.errors import InvalidRequest
from trueport.kit.secret import Secret
from trueport.storage.archives import ArchiveStore, ArchiveUnavailable
from trueport.storage.own_archives import ArchivePlace, Provider, check_credentials, open_place
from trueport.storage.s3_archives import Permits

KEYS = {"access_key_id": "AKIATEST", "secret_access_key": "not-to-be-shown"}


def opened(place: ArchivePlace, credentials: dict[str, str], permits: Permits = bool) -> ArchiveStore:
    secrets = {name: Secret(text) for name, text in credentials.items()}
    return open_place(place, secrets, Path("/nowhere"), SystemClock(), permits)


def service_account(**members: object) -> str:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    said = {"type": "service_account", "client_email": "a@acme.example", "private_key": key.decode()}
    return json.dumps({**said, "private_key_id": "1", **members})


@contextmanager
def listening() -> Iterator[tuple[int, threading.Event]]:
    """A port on which nobody is to knock."""
    knocked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)

        def wait() -> None:
            try:
                server.accept()[0].close()
            except OSError:
                return
            knocked.set()

        thread = threading.Thread(target=wait)
        thread.start()
        yield server.getsockname()[1], knocked
        thread.join(5)


async def test_no_connection_is_made_to_an_address_that_is_not_permitted() -> None:
    """Whatever its name said when it was saved."""
    asked: list[str] = []

    def permits(address: str) -> bool:
        asked.append(address)
        return False

    with listening() as (port, knocked):
        place = ArchivePlace("s3", "trail", location="us-east-1", endpoint=f"http://localhost:{port}")
        store = opened(place, KEYS, permits)
        with pytest.raises(ArchiveUnavailable) as raised:
            await store.get("audit/x")

    assert raised.value.reason == "address_refused"
    assert "127.0.0.1" in asked
    assert not knocked.is_set()


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    with refusing(307, "TemporaryRedirect") as endpoint:
        store = opened(ArchivePlace("s3", "trail", location="us-east-1", endpoint=endpoint), KEYS, lambda _: True)
        with pytest.raises(ArchiveUnavailable) as raised:
            await store.get("audit/x")

    assert raised.value.reason == "307 TemporaryRedirect"


def test_an_account_at_azure_is_reached_at_its_own_address_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("obstore")
    from obstore.store import AzureStore

    from trueport.storage.object_archives import ObjectArchive

    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://169.254.169.254")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "operators")

    store = opened(ArchivePlace("azure", "trail", account="acme"), {"account_key": "a2V5"})

    assert isinstance(store, ObjectArchive)
    assert isinstance(store._store, AzureStore)
    config = store._store.config
    assert (config["account_name"], config["endpoint"]) == ("acme", "https://acme.blob.core.windows.net")
    assert "account_key" not in config


def test_a_service_account_brings_no_address_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    from obstore.store import GCSStore

    from trueport.storage.object_archives import ObjectArchive

    monkeypatch.setenv("GOOGLE_BASE_URL", "http://169.254.169.254")
    text = service_account(
        gcs_base_url="http://169.254.169.254", token_uri="http://169.254.169.254", disable_oauth=True
    )

    store = opened(ArchivePlace("gcs", "trail"), {"service_account": text})

    assert isinstance(store, ObjectArchive)
    assert isinstance(store._store, GCSStore)
    config = store._store.config
    assert config["base_url"] == "https://storage.googleapis.com"
    assert "169.254" not in str(config)


@pytest.mark.parametrize(
    ("provider", "given"),
    [
        ("s3", {"access_key_id": "a"}),
        ("s3", {"access_key_id": "a", "secret_access_key": ""}),
        ("s3", {"access_key_id": "a", "secret_access_key": "b\r\nx: y"}),
        ("azure", {"account_key": "a", "access_key_id": "b"}),
        ("folder", {"account_key": "a"}),
        ("gcs", {"service_account": "no JSON"}),
        ("gcs", {"service_account": json.dumps({"type": "external_account"})}),
        ("gcs", {"service_account": json.dumps({"type": "service_account", "client_email": "a"})}),
    ],
)
def test_credentials_are_exactly_what_the_provider_needs(provider: Provider, given: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as raised:
        check_credentials(provider, given)

    assert not any(text in raised.value.message for text in given.values() if len(text) > 1)
