"""Azure's dialect: which deployment and operation a path means, and that no body says otherwise."""

import json
from typing import Any

import pytest

from trueport.gateway.call import Request
from trueport.gateway.dialects.azure import AzureDialect, AzurePath, read_path
from trueport.kit.errors import InvalidRequest, NotFound, Unavailable

DIALECT = AzureDialect()
JSON = "application/json"
FORM = "multipart/form-data; boundary=b"


def read(path: str, body: Any = None, *, method: str = "POST", query: str = "", content_type: str = JSON) -> Request:
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return DIALECT.read(method, path, query, content_type, data)


def form(**fields: str) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    return ("".join(parts) + "--b--\r\n").encode()


CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("path", "account", "deployment", "operation"),
    [
        ("acme/gpt-4o/chat/completions", "acme", "gpt-4o", "chat/completions"),
        ("acme/gpt-4o/embeddings", "acme", "gpt-4o", "embeddings"),
        ("acme/gpt-4o/responses", "acme", "gpt-4o", "responses"),
        ("acme/gpt-4o/v1/chat/completions", "acme", "gpt-4o", "chat/completions"),
        ("acme/gpt-4o/deployments/gpt-5/chat/completions", "acme", "gpt-5", "chat/completions"),
        ("acme/gpt-4o/openai/deployments/gpt-5/audio/speech", "acme", "gpt-5", "audio/speech"),
        ("models/gpt-4o/chat/completions", "models", "gpt-4o", "chat/completions"),
        ("openai/deployments/d/chat/completions", None, "d", "chat/completions"),
        ("acme/openai/deployments/d/images/generations", "acme", "d", "images/generations"),
        ("deployments/d/completions", None, "d", "completions"),
        ("acme/deployments/d/completions", "acme", "d", "completions"),
        ("openai/v1/chat/completions", None, None, "chat/completions"),
        ("acme/openai/v1/responses", "acme", None, "responses"),
        ("openai/files", None, None, "files"),
        ("openai/files/file-1/content", None, None, "files/file-1/content"),
        ("acme/openai/batches/b-1/cancel", "acme", None, "batches/b-1/cancel"),
        ("openai/responses/resp_1", None, None, "responses/resp_1"),
        ("files/file-1/content", None, None, "files/file-1/content"),
        ("models", None, None, "models"),
        ("responses", None, None, "responses"),
    ],
)
def test_a_path_tells_resource_deployment_and_operation(
    path: str, account: str | None, deployment: str | None, operation: str
) -> None:
    assert read_path(path) == AzurePath(account, deployment, operation)


@pytest.mark.parametrize(
    "path",
    ["", "acme", "acme/gpt-4o", "openai", "openai/", "openai/v1", "openai/v1/", "deployments", "deployments/d",
     "openai/deployments/d", "openai/chat/completions", "acme/openai", "acme/../chat/completions",
     "acme/gpt 4o/chat/completions", "acme//chat/completions", "acme/gpt-4o//completions", "-x/d/embeddings",
     "acme/d%2e/embeddings", "/acme/d/embeddings", "acme/deployments/d", "acme/d?x/embeddings"],
)  # fmt: skip
def test_other_paths_are_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        read_path(path)


def test_the_deployment_is_the_model_and_the_resource_the_account() -> None:
    request = read("acme/gpt-4o-prod/chat/completions", {**CHAT, "stream": True, "max_tokens": 5})

    assert (request.operation, request.model, request.account) == ("chat/completions", "gpt-4o-prod", "acme")
    assert (request.kind, request.streams, request.most_output_tokens) == ("chat", True, 5)
    assert DIALECT.format_of(request) == "openai_chat"


@pytest.mark.parametrize("named", ["gpt-5-expensive", "", None, 7, ["x"]])
def test_what_the_body_calls_the_model_gives_way_to_the_deployment(named: Any) -> None:
    request = read("openai/deployments/cheap/chat/completions", {"model": named, **CHAT})

    assert request.model == "cheap"
    assert json.loads(request.body) == {"model": "cheap", **CHAT}
    assert request.members is not None
    assert request.members["model"] == "cheap"


def test_a_body_that_names_the_deployment_stays_the_very_same_bytes() -> None:
    body = b'{ "model" : "d", "messages":[], "temperature": 1.0 }'

    assert read("deployments/d/chat/completions", body).body == body


def test_a_body_without_a_model_is_given_the_deployment_for_targets_elsewhere() -> None:
    request = read("deployments/d/chat/completions", b'{"messages":[]}')

    assert request.body == b'{"messages":[],"model":"d"}'
    assert DIALECT.with_model(request, "other").body == b'{"messages":[],"model":"other"}'


def test_the_wish_for_usage_numbers_is_added_as_in_openais_dialect() -> None:
    request = read("deployments/d/chat/completions", {"model": "d", **CHAT, "stream": True})

    assert request.members is not None
    assert request.members["stream_options"] == {"include_usage": True}
    assert not request.wants_usage_event


def test_a_forms_model_gives_way_to_the_deployment() -> None:
    body = form(model="other", prompt="p")

    request = read("deployments/whisper/audio/transcriptions", body, content_type=FORM)

    assert request.model == "whisper"
    assert request.body == form(model="whisper", prompt="p")
    unnamed = read("deployments/whisper/audio/transcriptions", form(prompt="p"), content_type=FORM)
    assert (unnamed.model, unnamed.body) == ("whisper", form(prompt="p"))


def test_without_a_deployment_the_body_names_the_model() -> None:
    request = read("openai/v1/chat/completions", {"model": "gpt-4o", **CHAT})

    assert (request.model, request.account) == ("gpt-4o", None)
    assert read("acme/openai/responses", {"model": "gpt-4o", "input": "x"}).model == "gpt-4o"
    with pytest.raises(InvalidRequest):
        read("openai/v1/chat/completions", CHAT)


def test_files_and_lists_name_no_model_even_below_a_deployment() -> None:
    files = read("openai/files", method="GET", query="api-version=2024-10-21")
    models = read("acme/gpt-4o/models", method="GET")
    batch = read("acme/gpt-4o/batches", {"input_file_id": "f"})

    assert (files.model, files.kind, files.query) == (None, "state", "api-version=2024-10-21")
    assert (models.model, models.lists_models) == (None, True)
    assert (batch.model, batch.body) == (None, b'{"input_file_id": "f"}')


def test_the_query_is_kept_and_a_missing_version_is_no_error() -> None:
    assert read("deployments/d/embeddings", {"input": "x"}, query="api-version=v&a=b").query == "api-version=v&a=b"
    assert read("deployments/d/embeddings", {"input": "x"}).query == ""


@pytest.mark.parametrize("path", ["deployments/d/Chat/Completions", "acme/d/EMBEDDINGS", "openai/v1/Responses"])
def test_another_spelling_of_an_operation_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        read(path, {"model": "m", **CHAT})


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"model":"a","model":"b"}', b'{"a":NaN}', b"\xff"])
def test_a_body_that_reads_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read("deployments/d/chat/completions", body)


def test_a_body_in_another_charset_is_refused() -> None:
    body = json.dumps(CHAT).encode("utf-16")

    with pytest.raises(InvalidRequest):
        read("deployments/d/chat/completions", body, content_type="application/json; charset=utf-16")


def test_refusals_have_openais_shape_and_the_key_comes_in_azures_header() -> None:
    status, _, body = DIALECT.refusal(Unavailable("Try again."), "int_1", "req_1")

    assert status == 503
    assert json.loads(body)["error"]["code"] == "unavailable"
    assert DIALECT.credential([(b"api-key", b"sk-tp-1")], "") == "sk-tp-1"
    assert (DIALECT.name, DIALECT.wire) == ("azure", "openai")
