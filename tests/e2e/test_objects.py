"""Two tenants at one account of one provider: what one of them has made is not there for the other."""

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import openai
import pytest

from tests.e2e.conftest import ROUTES, Gateway, Reply
from tests.support.installation import PASSWORD, Installation

FORM = {"content-type": "multipart/form-data; boundary=x"}
NEVER = "file-that-never-was"
MANAGEMENT = "/trueportai-services/api/v1"


def upload_form(content: bytes, purpose: str = "batch", name: str = "in.jsonl") -> bytes:
    return (
        b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n%b\r\n'
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n--x--\r\n'
    ) % (purpose.encode(), name.encode(), content)


LINE = (
    b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions",'
    b'"body":{"model":"sim-model","messages":[{"role":"user","content":"Hello"}]}}\n'
)


class Client:
    """One key's way through the gateway."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self.gateway = gateway
        self.key = key

    async def get(self, path: str) -> Reply:
        return await self.gateway.call(method="GET", path=path, key=self.key, headers=self._headers(path))

    async def delete(self, path: str) -> Reply:
        return await self.gateway.call(method="DELETE", path=path, key=self.key, headers=self._headers(path))

    async def post(self, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> Reply:
        return await self.gateway.call(
            body, path=path, key=self.key, headers={**self._headers(path), **(headers or {})}
        )

    async def uploads(self, content: bytes = LINE) -> str:
        reply = await self.post("/v1/files", upload_form(content), FORM)
        assert reply.status == 200, reply.body
        return str(json.loads(reply.body)["id"])

    async def responds(self, **members: Any) -> str:
        # The simulator's ids follow from what it was asked, so every question here is another one.
        reply = await self.post("/v1/responses", {"model": "sim-model", "input": question(), **members})
        assert reply.status == 200, reply.body
        return str(json.loads(reply.body)["id"])

    async def batches(self) -> str:
        asked = {"input_file_id": await self.uploads(), "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        reply = await self.post("/v1/batches", asked)
        assert reply.status == 200, reply.body
        return str(json.loads(reply.body)["id"])

    async def message_batches(self) -> str:
        asked = {"requests": [{"custom_id": "a", "params": message()}]}
        reply = await self.post("/anthropic/v1/messages/batches", asked)
        assert reply.status == 200, reply.body
        return str(json.loads(reply.body)["id"])

    def _headers(self, path: str) -> dict[str, str]:
        return {"anthropic-version": "2023-06-01"} if "anthropic" in path else {}


def question() -> str:
    return f"What is {uuid.uuid4()}?"


def message(**members: Any) -> dict[str, Any]:
    return {"model": "claude-sim", "max_tokens": 20, "messages": [{"role": "user", "content": "Hello"}], **members}


@pytest.fixture(scope="module")
def theirs(place: Installation, gateway: Gateway) -> Client:
    """A second tenant, with the same account at the provider."""
    status, login = place.ask(
        "/platform/api/global/auth/login", body={"email": "owner@acme.example", "password": PASSWORD}
    )
    assert status in (200, 201), login
    token = login["access_token"]
    status, tenant = place.ask("/platform/api/global/tenants", body={"name": "Rival", "slug": "rival"}, token=token)
    assert status == 201, tenant
    sim = {"provider": "openai", "base_url": f"{place.simulator.url}/v1", "secret": {"env": "SIM_KEY"}}
    at_anthropic = {**sim, "provider": "anthropic", "base_url": place.simulator.url}
    routes = [route for route in ROUTES if route["targets"][0]["credential"] in ("sim", "anthropic")]  # type: ignore[index]  # a list of targets
    place.configure("rival", credentials={"sim": sim, "anthropic": at_anthropic}, routes=routes)
    status, scoped = place.ask("/platform/api/global/auth/select-tenant", body={"tenant_id": tenant["id"]}, token=token)
    assert status in (200, 201), scoped
    body = {"name": "theirs", "env": "prod", "requests_per_minute": 10_000}
    status, made = place.ask(f"{MANAGEMENT}/keys", body=body, token=scoped["access_token"])
    assert status == 201, made
    return Client(gateway, made["key"])


@pytest.fixture
def ours(gateway: Gateway) -> Client:
    return Client(gateway, gateway.key)


def was_asked(gateway: Gateway, reply: Reply) -> bool:
    """Whether the provider heard of this call at all."""
    try:
        gateway.seen_upstream(reply.interaction)
    except urllib.error.HTTPError:
        return False
    return True


def bare(reply: Reply) -> tuple[int, bytes]:
    """Status and body without what is the call's own."""
    body = reply.body.replace(reply.interaction.encode(), b"").replace(reply.headers["x-request-id"].encode(), b"")
    return reply.status, body


# --- by path


async def test_a_tenant_lives_with_its_own_files(ours: Client) -> None:
    name = await ours.uploads()

    assert json.loads((await ours.get(f"/v1/files/{name}")).body)["id"] == name
    assert (await ours.get(f"/v1/files/{name}/content")).body == LINE
    assert json.loads((await ours.delete(f"/v1/files/{name}")).body)["deleted"] is True
    assert (await ours.get(f"/v1/files/{name}")).error["code"] == "object_not_found"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/v1/files/{file}"),
        ("get", "/v1/files/{file}/content"),
        ("delete", "/v1/files/{file}"),
        ("get", "/openai/v1/files/{file}"),
        ("get", "/trueportai-services/openai/v1/files/{file}"),
        ("get", "/v1/batches/{batch}"),
        ("post", "/v1/batches/{batch}/cancel"),
        ("get", "/v1/responses/{response}"),
        ("get", "/v1/responses/{response}?stream=true"),
        ("get", "/v1/responses/{response}/input_items"),
        ("post", "/v1/responses/{response}/cancel"),
        ("delete", "/v1/responses/{response}"),
        ("get", "/v1/files?after={file}"),
        ("get", "/v1/batches?limit=1&after={batch}"),
        ("get", "/anthropic/v1/messages/batches/{message_batch}"),
        ("get", "/anthropic/v1/messages/batches/{message_batch}/results"),
        ("post", "/anthropic/v1/messages/batches/{message_batch}/cancel"),
        ("delete", "/anthropic/v1/messages/batches/{message_batch}"),
        ("get", "/anthropic/v1/messages/batches?after_id={message_batch}"),
    ],
)
async def test_what_another_tenant_made_is_what_never_was(
    gateway: Gateway, ours: Client, theirs: Client, method: str, path: str
) -> None:
    made = {
        "file": await ours.uploads(),
        "batch": await ours.batches() if "{batch}" in path else "",
        "response": await ours.responds() if "{response}" in path else "",
        "message_batch": await ours.message_batches() if "{message_batch}" in path else "",
    }

    refused = await getattr(theirs, method)(path.format(**made))
    nothing = await getattr(theirs, method)(path.format(**dict.fromkeys(made, NEVER)))

    assert refused.status == 404
    assert bare(refused) == bare(nothing)
    assert not was_asked(gateway, refused)
    for kind, root in (("file", "files"), ("batch", "batches"), ("response", "responses")):
        if made[kind]:
            assert (await ours.get(f"/v1/{root}/{made[kind]}")).status == 200


async def test_keys_of_another_environment_see_nothing_of_it(
    gateway: Gateway, ours: Client, new_key: Callable[..., dict[str, Any]]
) -> None:
    name = await ours.uploads()
    developer = Client(gateway, new_key(env="dev")["key"])

    refused = await developer.get(f"/v1/files/{name}")

    assert refused.status == 404
    assert not was_asked(gateway, refused)
    assert name not in (await developer.get("/v1/files")).body.decode()


async def test_an_idempotency_key_brings_nothing_of_another_tenant(ours: Client, theirs: Client) -> None:
    asked, key = {"model": "sim-model", "input": question()}, {"idempotency-key": "the-same"}
    await ours.post("/v1/responses", asked, key)
    again = await ours.post("/v1/responses", asked, key)
    other = await theirs.post("/v1/responses", asked, key)

    assert again.headers["x-idempotent-replay"] == "true"
    assert other.status == 200
    assert "x-idempotent-replay" not in other.headers


# --- inside bodies


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"input": "Hi", "previous_response_id": "{response}"}),
        ("/v1/responses", {"input": "Hi", "conversation": "{response}"}),
        ("/v1/responses", {"input": "Hi", "conversation": {"id": "{response}"}}),
        ("/v1/responses", {"input": [{"type": "item_reference", "id": "{item}"}]}),
        ("/v1/responses", {"input": [{"id": "{item}"}]}),
        ("/v1/responses", {"input": [{"type": "reasoning", "id": "{item}", "summary": []}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "{file}"}]}]}),
        ("/v1/responses/input_tokens", {"input": "Hi", "previous_response_id": "{response}"}),
        ("/v1/responses", {"input": "Hi", "tools": [{"type": "file_search", "vector_store_ids": ["{file}"]}]}),
        ("/v1/responses", {"input": "Hi", "tools": [{"type": "code_interpreter", "container": "{file}"}]}),
        (
            "/v1/responses",
            {
                "input": "Hi",
                "tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["{file}"]}}],
            },
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "{file}"}}]}]},
        ),
        ("/v1/batches", {"input_file_id": "{file}", "endpoint": "/v1/chat/completions", "completion_window": "24h"}),
        ("/v1/fine_tuning/jobs", {"training_file": "{file}"}),
        ("/v1/fine_tuning/jobs", {"training_file": None, "validation_file": "{file}"}),
        ("/v1/vector_stores", {"file_ids": ["{file}"]}),
        (
            "/anthropic/v1/messages",
            message(messages=[{"role": "user", "content": [{"type": "document", "source": {"file_id": "{file}"}}]}]),
        ),
        ("/anthropic/v1/messages", message(container="{file}")),
    ],
)
async def test_neither_is_it_inside_a_body(
    gateway: Gateway, ours: Client, theirs: Client, path: str, body: dict[str, Any]
) -> None:
    made = {"file": await ours.uploads(), "response": await ours.responds()}
    stored = await ours.get(f"/v1/responses/{made['response']}")
    made["item"] = json.loads(stored.body)["output"][0]["id"]
    text = json.dumps({"model": "sim-model", **body})

    def naming(names: dict[str, str]) -> bytes:
        filled = text
        for name, value in names.items():
            filled = filled.replace(f"{{{name}}}", value)
        return filled.encode()

    refused = await theirs.post(path, naming(made))
    nothing = await theirs.post(path, naming(dict.fromkeys(made, NEVER)))

    assert refused.status == 404, refused.body
    assert bare(refused) == bare(nothing)
    assert not was_asked(gateway, refused)


async def test_an_escaped_name_of_a_member_is_still_read(gateway: Gateway, ours: Client, theirs: Client) -> None:
    body = (
        rb'{"model":"sim-model","input":"Hi","previous\u005fresponse\u005fid":"%b"}' % (await ours.responds()).encode()
    )

    refused = await theirs.post("/v1/responses", body)

    assert refused.status == 404
    assert not was_asked(gateway, refused)


async def test_the_lines_of_a_batch_name_only_what_is_the_tenants_own(
    gateway: Gateway, ours: Client, theirs: Client
) -> None:
    def line(response: str) -> bytes:
        body = {"model": "sim-model", "input": "Hi", "previous_response_id": response}
        return json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}).encode()

    name = await ours.responds()

    refused = await theirs.post("/v1/files", upload_form(LINE + line(name)), FORM)
    taken = await ours.post("/v1/files", upload_form(LINE + line(name)), FORM)

    assert refused.status == 404
    assert not was_asked(gateway, refused)
    assert taken.status == 200


# --- responses


async def test_a_response_is_stored_continued_read_and_deleted(ours: Client) -> None:
    first = await ours.responds()
    second = await ours.responds(previous_response_id=first)

    items = await ours.get(f"/v1/responses/{second}/input_items")
    assert items.status == 200
    told = json.loads((await ours.get(f"/v1/responses/{second}")).body)
    assert (told["id"], told["previous_response_id"]) == (second, first)
    assert (await ours.delete(f"/v1/responses/{second}")).status == 200
    assert (await ours.get(f"/v1/responses/{second}")).status == 404


async def test_an_item_of_an_earlier_response_can_be_named(gateway: Gateway, ours: Client) -> None:
    stored = json.loads((await ours.get(f"/v1/responses/{await ours.responds()}")).body)
    asked = {"model": "sim-model", "input": [{"type": "item_reference", "id": stored["output"][0]["id"]}]}

    reply = await ours.post("/v1/responses", asked)

    assert was_asked(gateway, reply)


async def test_a_streamed_response_can_be_read_as_soon_as_its_id_is_known(ours: Client, theirs: Client) -> None:
    reply = await ours.post("/v1/responses", {"model": "sim-model", "input": question(), "stream": True})
    created = next(event for event in reply.events if b"response.created" in event)
    name = json.loads(created.partition(b"data: ")[2])["response"]["id"]

    assert (await ours.get(f"/v1/responses/{name}")).status == 200
    assert (await theirs.get(f"/v1/responses/{name}")).status == 404


async def test_a_response_that_is_not_stored_is_nobodys(gateway: Gateway, ours: Client) -> None:
    name = await ours.responds(store=False)

    refused = await ours.get(f"/v1/responses/{name}")

    assert refused.status == 404
    assert not was_asked(gateway, refused)


# --- batches and lists


async def test_the_output_of_a_batch_belongs_to_whoever_made_the_batch(ours: Client, theirs: Client) -> None:
    name = await ours.batches()
    told = json.loads((await ours.get(f"/v1/batches/{name}")).body)
    output = told["output_file_id"]

    assert (await ours.get(f"/v1/files/{output}/content")).status == 200
    assert (await theirs.get(f"/v1/files/{output}/content")).status == 404


async def test_so_it_does_where_only_a_list_has_told_of_it(ours: Client) -> None:
    name = await ours.batches()
    listed = json.loads((await ours.get("/v1/batches?limit=100")).body)["data"]
    output = next(batch["output_file_id"] for batch in listed if batch["id"] == name)

    assert (await ours.get(f"/v1/files/{output}/content")).status == 200


@pytest.mark.parametrize("root", ["/v1/files", "/v1/batches"])
async def test_a_list_shows_only_the_tenants_own(ours: Client, theirs: Client, root: str) -> None:
    make = Client.uploads if root == "/v1/files" else Client.batches
    mine = await make(ours)
    rivals = [await make(theirs), await make(theirs)]
    also_mine = await make(ours)

    own = json.loads((await ours.get(f"{root}?limit=100")).body)
    other = json.loads((await theirs.get(f"{root}?limit=100")).body)

    names = [each["id"] for each in own["data"]]
    assert {mine, also_mine} <= set(names)
    assert (own["first_id"], own["last_id"]) == (names[0], names[-1])
    assert not set(rivals) & set(names)
    assert set(rivals) <= {each["id"] for each in other["data"]}
    assert not {mine, also_mine} & {each["id"] for each in other["data"]}


async def test_lists_of_message_batches_too(ours: Client, theirs: Client) -> None:
    mine, other = await ours.message_batches(), await theirs.message_batches()

    listed = json.loads((await ours.get("/anthropic/v1/messages/batches?limit=100")).body)

    names = [each["id"] for each in listed["data"]]
    assert mine in names
    assert other not in names
    assert (listed["first_id"], listed["last_id"]) == (names[0], names[-1])


# --- the official SDKs


@pytest.fixture
async def sdk(gateway: Gateway) -> AsyncIterator[Callable[[str], openai.AsyncOpenAI]]:
    clients = []

    def of(key: str) -> openai.AsyncOpenAI:
        clients.append(openai.AsyncOpenAI(api_key=key, base_url=f"{gateway.url}/v1", max_retries=0))
        return clients[-1]

    yield of
    for client in clients:
        await client.close()


async def test_the_sdk_of_openai_finds_its_own_and_nothing_else(
    sdk: Callable[[str], openai.AsyncOpenAI], ours: Client, theirs: Client
) -> None:
    own, other = sdk(ours.key), sdk(theirs.key)
    file = await own.files.create(file=("in.jsonl", LINE), purpose="batch")
    batch = await own.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    done = await own.batches.retrieve(batch.id)
    assert done.output_file_id is not None
    assert b"custom_id" in (await own.files.content(done.output_file_id)).content
    assert file.id in [each.id async for each in own.files.list()]
    assert file.id not in [each.id async for each in other.files.list()]

    async with own.responses.stream(model="sim-model", input=question()) as stream:
        first = await stream.get_final_response()
    second = await own.responses.create(model="sim-model", input=question(), previous_response_id=first.id)
    assert (await own.responses.retrieve(second.id)).id == second.id
    assert [item async for item in own.responses.input_items.list(second.id)]

    for attempt in (
        other.files.retrieve(file.id),
        other.batches.retrieve(batch.id),
        other.responses.retrieve(first.id),
        other.responses.create(model="sim-model", input=question(), previous_response_id=first.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await attempt
    await own.responses.delete(second.id)
    assert (await own.files.delete(file.id)).deleted


async def test_the_sdk_of_anthropic_finds_its_own_and_nothing_else(
    gateway: Gateway, ours: Client, theirs: Client
) -> None:
    base = f"{gateway.url}/anthropic"
    async with (
        anthropic.AsyncAnthropic(api_key=ours.key, base_url=base, max_retries=0) as own,
        anthropic.AsyncAnthropic(api_key=theirs.key, base_url=base, max_retries=0) as other,
    ):
        batch = await own.messages.batches.create(requests=[{"custom_id": "a", "params": message()}])  # type: ignore[typeddict-item]  # built here

        assert (await own.messages.batches.retrieve(batch.id)).id == batch.id
        assert [line async for line in await own.messages.batches.results(batch.id)]
        assert batch.id in [each.id async for each in own.messages.batches.list()]
        assert batch.id not in [each.id async for each in other.messages.batches.list()]
        with pytest.raises(anthropic.NotFoundError):
            await other.messages.batches.retrieve(batch.id)


# --- lists that others fill


async def test_a_list_goes_on_until_something_of_the_tenants_own_is_on_it(
    sdk: Callable[[str], openai.AsyncOpenAI], ours: Client, theirs: Client
) -> None:
    mine = await ours.uploads()
    rivals = [await theirs.uploads() for _ in range(4)]

    page = await ours.get("/v1/files?limit=2")
    everything = [each.id async for each in sdk(ours.key).files.list(limit=1)]

    assert json.loads(page.body)["data"][0]["id"] == mine
    assert page.headers["x-trueport-attempts"] == "3"
    assert mine in everything
    assert not set(rivals) & set(everything)
