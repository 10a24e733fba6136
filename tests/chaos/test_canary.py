"""Strings that occur nowhere else go through the whole installation; afterwards they must be readable nowhere."""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import bson
import pymongo
from bson.raw_bson import RawBSONDocument

from tests.chaos.conftest import Cluster
from tests.support.chaos_load import chat, fetch
from tests.support.installation import PASSWORD, PATIENCE_S, Installation
from tests.support.redis_server import everything_in
from trueport.audit.sealing import open_content
from trueport.cli.session import with_resources
from trueport.domains.audit.api import SubjectKeys
from trueport.domains.auth.api import find_tenant, operator_scope
from trueport.domains.proxy.recorder import content_place
from trueport.settings import load_settings
from trueport.storage.documents import open_store
from trueport.web.domain import Resources

PROVIDER_KEY: Final = "sk-simulated-provider-key"


class Canaries:
    """Unique words by the place they are put; the words of `kept` are stored on purpose and show that we look well."""

    def __init__(self) -> None:
        self.kept = "kept-" + secrets.token_hex(12)
        self.hidden: dict[str, str] = {}

    def new(self, place: str) -> str:
        word = self.hidden[place] = "canary" + secrets.token_hex(12)
        return word


def _spellings(word: str) -> Iterator[bytes]:
    """The word as it is, in UTF-16, in hex, and in base64 wherever in a text it began."""
    plain = word.encode()
    yield plain
    yield word.encode("utf-16-le")
    yield plain.hex().encode()
    for shift in range(3):
        # The first and last characters depend on the neighbours.
        yield base64.b64encode(b"\x00" * shift + plain)[4:-4]


async def _session(cluster: Cluster, canaries: Canaries) -> dict[str, str]:
    """Calls of every kind with canaries everywhere. The interactions of those whose content is to be opened again."""
    new, url, key = canaries.new, cluster.place.url, cluster.new_key()
    canaries.hidden["api key"] = str(key["key"])
    canaries.hidden["secret part of the api key"] = str(key["key"])[35:70]
    headers = {
        "authorization": f"Bearer {key['key']}",
        "x-custom": new("header"),
        "user-agent": new("user agent"),
        "cookie": f"session={new('cookie')}",
        "x-request-id": canaries.kept,
    }
    said, tool = new("completion"), new("tool argument")
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"title": new("tool definition")}}}]
    calls: dict[str, dict[str, Any]] = {
        "plain": chat(f"{new('prompt')} [[say: {said}]]"),
        "stream": chat(f"{new('streamed prompt')} [[say: {said}]]", stream=True),
        "tool": chat(f'call [[tool: find {{"q": "{tool}"}}]]', tools=tools),
        "cut short": chat(f"{new('cut prompt')} [[fault: rst after=2]]", stream=True),
        "not json": chat(f"{new('prompt of a broken answer')} [[fault: not-json]]"),
        "provider error": chat(f"{new('prompt of an error')} [[fault: status=500]]"),
        "echoed key": chat(f"{new('prompt of an echo')} [[fault: echo-key]]"),
        "bad request": {"model": "sim-model", "messages": new("malformed messages")},
        "no such model": {**chat(new("prompt without a model")), "model": "missing-model"},
        "user": chat("n", user=new("user member"), metadata={"note": new("metadata")}),
    }
    found = {}
    async with aiohttp.ClientSession(headers=headers) as session:
        for name, body in calls.items():
            async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
                found[name] = reply.headers["x-trueport-interaction"]
                await _drained(reply)
        odd: list[tuple[str, dict[str, Any]]] = [
            ("/v1/chat/completions", {"data": f'{{"broken": "{new("broken JSON")}'.encode()}),
            ("/v1/chat/completions", {"data": f'{{"a": 1, "a": "{new("repeated member")}"}}'.encode()}),
            (f"/v1/chat/completions?note={new('query')}", {"json": chat("n")}),
            ("/v1/embeddings", {"json": {"model": "sim-model", "input": new("embedding input")}}),
            ("/v1/chat/completions", {"json": chat("n"), "headers": {"authorization": f"Bearer {new('wrong key')}"}}),
            ("/platform/api/global/auth/login", {"json": {"email": "a@b.example", "password": new("wrong password")}}),
            ("/trueportai-services/api/v1/keys", {"json": {new("unknown member"): new("unknown value")}}),
        ]
        for path, options in odd:
            async with session.post(f"{url}{path}", **options) as reply:
                await _drained(reply)
    return found


async def _drained(reply: aiohttp.ClientResponse) -> None:
    try:
        await reply.read()
    except aiohttp.ClientPayloadError:
        assert reply.status == 200, "only the stream that is cut short breaks off"


def _mongo(place: Installation) -> Iterator[tuple[str, bytes]]:
    """Every document of every collection, as the bytes it has on the wire."""
    port = json.loads((place.data_dir / "mongo" / "endpoint.json").read_text())["port"]
    options: bson.CodecOptions[RawBSONDocument] = bson.CodecOptions(document_class=RawBSONDocument)
    with pymongo.MongoClient[RawBSONDocument](
        "127.0.0.1", port, directConnection=True, document_class=RawBSONDocument
    ) as client:
        for name in ("admin", "config", "local", *client.list_database_names()):
            database = client.get_database(name, codec_options=options)
            for collection in database.list_collection_names():
                for document in database[collection].find({}):
                    yield f"mongo {name}.{collection}", bytes(document.raw)


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            try:
                yield f"file {path.relative_to(root)}", path.read_bytes()
            except FileNotFoundError:
                continue  # the database and the journal throw files away


def _everything(cluster: Cluster) -> Iterator[tuple[str, bytes]]:
    place = cluster.place
    yield from _mongo(place)
    yield from _files(place.data_dir)
    for kept in everything_in(cluster.redis.url):
        yield "redis", kept.name + b"\n" + kept.value
    yield "metrics", fetch(f"{place.url}/metrics")


def _traces(cluster: Cluster, words: dict[str, str]) -> set[tuple[str, str]]:
    """Which of the words is to be found where."""
    wanted = [(name, spelling) for name, word in words.items() for spelling in _spellings(word)]
    return {(name, where) for where, data in _everything(cluster) for name, spelling in wanted if spelling in data}


def _opened(place: Installation, interactions: dict[str, str]) -> dict[str, dict[str, bytes]]:
    """What the tenant's key makes of the stored content, by call and kind of record."""

    async def read(resources: Resources) -> dict[str, dict[str, bytes]]:
        tenant = await find_tenant(resources, place.tenant)
        assert tenant is not None
        scope = operator_scope(tenant)
        keys = SubjectKeys(resources)
        store = open_store(resources.settings.storage_url, resources.settings.data_dir)
        texts: dict[str, dict[str, bytes]] = {}
        for name, rid in interactions.items():
            cursor = resources.database["audit_records"].find({"rid": rid}, comment="trueport-platform")
            for record in await cursor.to_list():
                description, kept = json.loads(record["canonical"]).get("content"), record["content"]
                if description is None or kept is None:
                    continue
                data = (await store.get(kept["object"]))[kept["offset"] : kept["offset"] + kept["length"]]
                where = content_place(scope.tenant_id, rid, record["kind"])
                key = await keys.opening(scope, description["kid"])
                text = open_content(key, description, data, where)
                texts.setdefault(name, {})[record["kind"]] = text
        return texts

    return with_resources(load_settings(place.environment), read)


async def test_content_and_secrets_are_readable_nowhere_and_the_tenants_key_opens_them(cluster: Cluster) -> None:
    canaries = Canaries()

    interactions = await _session(cluster, canaries)

    until_s = time.monotonic() + PATIENCE_S
    opened: dict[str, dict[str, bytes]] = {}
    while not all("outcome" in opened.get(name, {}) for name in ("plain", "stream", "tool")):
        assert time.monotonic() < until_s, "the records did not arrive"
        await asyncio.sleep(0.2)
        opened = await asyncio.to_thread(_opened, cluster.place, interactions)
    secret_words = {**canaries.hidden, "provider key": PROVIDER_KEY, "password": PASSWORD}

    assert await asyncio.to_thread(_traces, cluster, secret_words) == set()

    # The search finds what is stored on purpose, in each kind of place that has it.
    control = await asyncio.to_thread(_traces, cluster, {"kept": canaries.kept})
    places = {where.split()[0] + " " + where.split()[1].split("/")[0] for _, where in control}
    assert any(place.startswith("mongo ") and place.endswith("interactions") for place in places), places
    assert "file spool" in places
    assert "file mongo" in places
    # And nothing was hidden by not being there at all.
    hidden = canaries.hidden
    assert hidden["prompt"].encode() in opened["plain"]["intent"]
    assert hidden["completion"].encode() in opened["plain"]["outcome"]
    assert hidden["streamed prompt"].encode() in opened["stream"]["intent"]
    assert hidden["completion"].encode() in opened["stream"]["outcome"]
    assert hidden["tool definition"].encode() in opened["tool"]["intent"]
    assert hidden["tool argument"].encode() in opened["tool"]["outcome"]
    assert (cluster.place.data_dir / "server.log").stat().st_size > 0
