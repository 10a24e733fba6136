"""One contract for whatever wraps keys, and the ways in which each may fail."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.azure_key_vault import StandInKeyVault, stand_in_key_vault
from tests.support.moto_server import Kms, moto_kms
from tests.support.ports import free_port
from tests.support.vault import TOKEN, StandInVault, serving, stand_in_vault
from trueport.kit.clock import SystemClock
from trueport.storage.wrapping.base import KeyRefused, KeyServiceUnavailable, KeyWrapper, UnknownWrapper
from trueport.storage.wrapping.opening import open_wrapper

KEY = bytes(range(32))
CONTEXT = {"tenant": "ten_a", "purpose": "tenant-key"}


@pytest.fixture(scope="module")
def kms() -> Iterator[Kms]:
    with moto_kms() as running:
        yield running


@pytest.fixture
async def vault() -> AsyncIterator[StandInVault]:
    async with stand_in_vault() as running:
        yield running


@pytest.fixture
async def azure(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StandInKeyVault]:
    async with stand_in_key_vault() as running:
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", f"http://127.0.0.1:{running.port}")
        monkeypatch.setenv("AZURE_TENANT_ID", "directory")
        monkeypatch.setenv("AZURE_CLIENT_ID", "app")
        monkeypatch.setenv("AZURE_CLIENT_SECRET", "app-secret")
        yield running


@pytest.fixture(params=["file", "aws-kms", "azure-kv", "vault"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    match request.param:
        case "file":
            (tmp_path / "kek").write_text(os.urandom(32).hex() + "\n")
            return f"file://{tmp_path}/kek"
        case "aws-kms":
            kms: Kms = request.getfixturevalue("kms")
            return kms.url
        case "azure-kv":
            azure: StandInKeyVault = request.getfixturevalue("azure")
            return f"azure-kv://127.0.0.1:{azure.port}/acme?tls=0"
        case _:
            vault: StandInVault = request.getfixturevalue("vault")
            return f"vault://127.0.0.1:{vault.port}/transit/acme?tls=0"


@pytest.fixture
def wrapper(url: str) -> KeyWrapper:
    return open_wrapper(url, SystemClock())


async def test_what_was_wrapped_opens_again_and_does_not_show(wrapper: KeyWrapper) -> None:
    one, two = await wrapper.wrap(KEY, CONTEXT), await wrapper.wrap(KEY, CONTEXT)

    assert await wrapper.unwrap(one, CONTEXT) == await wrapper.unwrap(two, CONTEXT) == KEY
    assert one != two
    assert KEY not in one


async def test_it_does_not_open_for_another_tenant(wrapper: KeyWrapper) -> None:
    wrapped = await wrapper.wrap(KEY, CONTEXT)

    with pytest.raises(KeyRefused):
        await wrapper.unwrap(wrapped, {**CONTEXT, "tenant": "ten_b"})


async def test_changed_bytes_do_not_open(wrapper: KeyWrapper) -> None:
    wrapped = await wrapper.wrap(KEY, CONTEXT)

    with pytest.raises(KeyRefused):
        await wrapper.unwrap(wrapped[:-6] + bytes(6), CONTEXT)


async def test_a_key_rotated_in_azure_opens_what_its_older_version_wrapped(azure: StandInKeyVault) -> None:
    wrapper = open_wrapper(f"azure-kv://127.0.0.1:{azure.port}/acme?tls=0", SystemClock())
    wrapped = await wrapper.wrap(KEY, CONTEXT)

    azure.rotate()

    assert await wrapper.unwrap(wrapped, CONTEXT) == KEY
    azure.versions.clear()
    with pytest.raises(KeyRefused):
        await wrapper.unwrap(wrapped, CONTEXT)


async def test_an_application_that_azure_does_not_know_is_refused(
    azure: StandInKeyVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "another")

    with pytest.raises(KeyRefused):
        await open_wrapper(f"azure-kv://127.0.0.1:{azure.port}/acme?tls=0", SystemClock()).wrap(KEY, CONTEXT)


@pytest.mark.parametrize("version", ["../../secrets/x", "", "a/b", "?x=1"])
async def test_what_was_kept_leads_nowhere_else_in_the_vault(azure: StandInKeyVault, version: str) -> None:
    wrapper = open_wrapper(f"azure-kv://127.0.0.1:{azure.port}/acme?tls=0", SystemClock())

    with pytest.raises(KeyRefused):
        await wrapper.unwrap(json.dumps({"version": version, "value": "eA"}).encode(), CONTEXT)


async def test_a_key_file_that_was_taken_away_opens_nothing(tmp_path: Path) -> None:
    file = tmp_path / "kek"
    file.write_text("s" * 64)
    wrapper = open_wrapper(f"file://{file}", SystemClock())
    wrapped = await wrapper.wrap(KEY, CONTEXT)
    file.unlink()

    with pytest.raises(KeyRefused):
        await wrapper.unwrap(wrapped, CONTEXT)


async def test_a_key_that_was_deleted_in_vault_opens_nothing(
    vault: StandInVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    wrapper = open_wrapper(f"vault://127.0.0.1:{vault.port}/transit/acme?tls=0", SystemClock())
    wrapped = await wrapper.wrap(KEY, CONTEXT)
    vault.keys.clear()

    with pytest.raises(KeyRefused):
        await wrapper.unwrap(wrapped, CONTEXT)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("DisabledException", KeyRefused),
        ("com.amazonaws.kms#AccessDeniedException", KeyRefused),
        ("KMSInvalidStateException", KeyRefused),
        ("InvalidCiphertextException", KeyRefused),
        ("ThrottlingException", KeyServiceUnavailable),
        ("com.amazonaws.kms#DependencyTimeoutException", KeyServiceUnavailable),
    ],
)
async def test_what_kms_refuses_for_good_is_told_from_what_may_pass(said: str, expected: type[Exception]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"__type": said, "message": "stand-in"}, status=400)

    async with serving("/", answer) as port:
        wrapper = open_wrapper(f"aws-kms://k?region=eu-central-1&endpoint=http://127.0.0.1:{port}", SystemClock())
        with pytest.raises(expected):
            await wrapper.unwrap(b"x", CONTEXT)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_service_in_trouble_is_unavailable_and_not_a_refusal(vault: StandInVault, status: int) -> None:
    vault.status = status

    with pytest.raises(KeyServiceUnavailable):
        await open_wrapper(f"vault://127.0.0.1:{vault.port}/transit/acme?tls=0", SystemClock()).wrap(KEY, CONTEXT)


async def test_a_service_that_is_not_there_is_unavailable() -> None:
    port = free_port()
    place = f"http://127.0.0.1:{port}"
    for url in (
        f"vault://127.0.0.1:{port}/transit/acme?tls=0",
        f"aws-kms://key?region=eu-central-1&endpoint={place}",
    ):
        with pytest.raises(KeyServiceUnavailable):
            await open_wrapper(url, SystemClock()).unwrap(b"x", CONTEXT)


async def test_a_token_that_does_not_hold_is_a_refusal(vault: StandInVault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "another")

    with pytest.raises(KeyRefused):
        await open_wrapper(f"vault://127.0.0.1:{vault.port}/transit/acme?tls=0", SystemClock()).wrap(KEY, CONTEXT)


async def test_a_short_secret_wraps_nothing(tmp_path: Path) -> None:
    (tmp_path / "kek").write_text("short")

    with pytest.raises(UnknownWrapper):
        await open_wrapper(f"file://{tmp_path}/kek", SystemClock()).wrap(KEY, CONTEXT)


@pytest.mark.parametrize(
    "url",
    ["", "kek", "file:kek", "file://host/kek", "aws-kms://key", "aws-kms://?region=eu", "vault://host", "vault://host/x",
     "vault:///transit/acme", "vault://host/a/b/c", "gcp-kms://x", "azure-kv://v.example", "azure-kv://v.example/a/b", "aws-kms://key?region=eu&endpoint=http://[x"],
)  # fmt: skip
def test_what_names_no_key_is_refused(url: str) -> None:
    with pytest.raises(UnknownWrapper):
        open_wrapper(url, SystemClock())


@pytest.mark.parametrize(
    "url",
    ["aws-kms://arn:aws:kms:eu-central-1:111122223333:key/1234?region=eu-central-1", "vault://vault.example/transit/k", "azure-kv://acme.vault.azure.net/kek",
     "aws-kms://alias/acme?region=eu-central-1"],
)  # fmt: skip
def test_the_forms_that_services_give_their_keys_are_known(url: str) -> None:
    open_wrapper(url, SystemClock())
