"""Objects at a provider: where requests name them, what answers make, and what a tenant sees of a list."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.objects import DIALECTS, KeptInMemory, admitted, asked, credential
from trueport.gateway.call import Wire
from trueport.gateway.dialects.body import TooMany
from trueport.gateway.objects.answers import deleted, made, made_in_event, marks
from trueport.gateway.objects.base import Made, ObjectNotFound, ObjectsApart
from trueport.gateway.objects.lists import listed, next_page, only_own
from trueport.gateway.objects.ownership import EventNotes, bind, further, noted
from trueport.gateway.objects.place import is_list
from trueport.gateway.objects.references import MOST_REFERENCES, references
from trueport.gateway.objects.tables import COLLECTIONS, CURSORS, ITEMS, MADE, MEMBERS, OPAQUE, snake
from trueport.gateway.providers.registry import WIRE_OF
from trueport.gateway.snapshot import Target
from trueport.kit.errors import InvalidRequest, NotFound, Unavailable
from trueport.kit.ids import CredentialId

WIRES: tuple[Wire, ...] = ("openai", "anthropic", "google")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def named(wire: Wire, line: str, body: Any = None, **options: Any) -> set[tuple[str, str]]:
    return {(each.kind, each.id) for each in references(wire, asked(wire, line, body, **options))}


# --- paths and queries


@pytest.mark.parametrize(
    ("wire", "line", "expected"),
    [
        ("openai", "GET files/f", {("file", "f")}),
        ("openai", "HEAD files/f", {("file", "f")}),
        ("openai", "DELETE files/f", {("file", "f")}),
        ("openai", "GET files/f/content", {("file", "f")}),
        ("openai", "POST uploads/u/complete", {("upload", "u")}),
        ("openai", "GET batches/b", {("batch", "b")}),
        ("openai", "GET responses/r/input_items?after=item&limit=2", {("response", "r")}),
        ("openai", "GET responses/input_tokens", {("response", "input_tokens")}),
        ("openai", "GET chat/completions/c/messages", {("chat_completion", "c")}),
        ("openai", "POST chat/completions/c", {("chat_completion", "c")}),
        ("openai", "GET fine_tuning/jobs/j/events", {("fine_tuning_job", "j")}),
        ("openai", "GET threads/t/runs/r/steps/s", {("thread", "t")}),
        ("openai", "POST conversations/c/items", {("conversation", "c")}),
        ("openai", "GET vector_stores/v/files/f", {("vector_store", "v")}),
        ("openai", "GET containers/c/files/f/content", {("container", "c")}),
        ("openai", "GET something/new", {("something", "new")}),
        ("openai", "DELETE something/new", {("something", "new")}),
        ("openai", "POST something/new/started", {("something", "new")}),
        ("openai", "POST fim/completions", set()),
        ("openai", "DELETE models/ft:gpt-4o:mine", {("model", "ft:gpt-4o:mine")}),
        ("openai", "GET models/gpt-4o", set()),
        ("openai", "GET models", set()),
        ("openai", "GET files", set()),
        ("openai", "GET files?after=f", {("file", "f")}),
        ("openai", "GET files?after=mine&After=f&%61fter=g", {("file", "mine"), ("file", "f"), ("file", "g")}),
        ("openai", "GET batches?before=b&limit=2", {("batch", "b")}),
        ("openai", "GET chat/completions?after=c", {("chat_completion", "c")}),
        ("openai", "POST threads/runs", set()),
        ("anthropic", "GET messages/batches/b/results", {("batch", "b")}),
        ("anthropic", "POST messages/batches/b/cancel", {("batch", "b")}),
        ("anthropic", "GET messages/batches?after_id=b", {("batch", "b")}),
        ("anthropic", "GET messages/batches?before_id=b", {("batch", "b")}),
        ("anthropic", "GET files/f/content", {("file", "f")}),
        ("anthropic", "GET v1/files/f", {("file", "f")}),
        ("anthropic", "DELETE skills/s", {("skill", "s")}),
        ("anthropic", "GET organizations/me", {("organizations", "me")}),
        ("google", "GET v1beta/files/f", {("file", "files/f")}),
        ("google", "GET v1beta/files/f:download", {("file", "files/f")}),
        ("google", "GET download/v1beta/files/f:download?alt=media", {("file", "files/f")}),
        ("google", "PATCH v1beta/cachedContents/c", {("cached_content", "cachedContents/c")}),
        ("google", "GET v1/projects/p/locations/l/cachedContents/c", {("cached_content", "cachedContents/c")}),
        ("google", "POST v1beta/batches/b:cancel", {("batch", "batches/b")}),
        ("google", "GET v1beta/operations/o", {("operation", "operations/o")}),
        ("google", "GET v1beta/models/veo/operations/o", {("operation", "models/veo/operations/o")}),
        ("google", "GET v1beta/tunedModels/t", {("tuned_model", "tunedModels/t")}),
        ("google", "GET v1beta/tunedModels/t/operations/o", {("tuned_model", "tunedModels/t")}),
        ("google", "DELETE v1beta/tunedModels/t", {("tuned_model", "tunedModels/t")}),
        ("google", "POST v1beta/fileSearchStores/s:importFile", {("file_search_store", "fileSearchStores/s")}),
        ("google", "POST upload/v1beta/fileSearchStores/s:uploadToFileSearchStore",
         {("file_search_store", "fileSearchStores/s")}),
        ("google", "GET v1beta/interactions/i", {("interaction", "i")}),
        ("google", "GET v1beta/models/gemini-2.5-pro", set()),
        ("google", "GET v1beta/files?pageSize=2", set()),
    ],
)  # fmt: skip
def test_a_path_and_the_cursors_of_a_list_name_objects(wire: Wire, line: str, expected: set[tuple[str, str]]) -> None:
    assert named(wire, line) == expected


def test_a_tuned_model_is_named_by_whoever_asks_it() -> None:
    body = {"contents": [{"parts": [{"text": "Hello"}]}]}

    assert named("google", "POST v1beta/tunedModels/t:generateContent", body) == {("tuned_model", "tunedModels/t")}


@pytest.mark.parametrize(("wire", "collection"), [(wire, name) for wire in WIRES for name in COLLECTIONS[wire]])
def test_every_collection_has_objects_and_a_list(wire: Wire, collection: str) -> None:
    root = f"v1beta/{collection}" if wire == "google" else collection

    assert {kind for kind, _ in named(wire, f"GET {root}/x")} == {COLLECTIONS[wire][collection]}
    assert is_list(wire, asked(wire, f"GET {root}"))
    assert not is_list(wire, asked(wire, f"GET {root}/x"))
    assert deleted(wire, asked(wire, f"DELETE {root}/x"), 200) != ()
    assert deleted(wire, asked(wire, f"DELETE {root}/x"), 404) == ()
    assert deleted(wire, asked(wire, f"DELETE {root}/x/files/y"), 200) == ()


# --- bodies


def line_of(wire: Wire) -> str:
    return {"openai": "POST responses", "anthropic": "POST messages", "google": "POST v1beta/models/m:generateContent"}[
        wire
    ]


def around(wire: Wire, part: dict[str, Any]) -> dict[str, Any]:
    """A body of the wire with `part` somewhere deep inside."""
    match wire:
        case "openai":
            return {"model": "m", "input": [{"role": "user", "type": "message", "content": [{"x": [part]}]}]}
        case "anthropic":
            return {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [{"x": [part]}]}]}
        case _:
            return {"contents": [{"parts": [{"x": [part]}]}]}


def value_for(wire: Wire, member: str) -> str:
    if wire != "google":
        return "the-id"
    return {"source": "corpora/the-id"}.get(member, "files/the-id")


@pytest.mark.parametrize(("wire", "member"), [(wire, name) for wire in WIRES for name in MEMBERS[wire]])
@pytest.mark.parametrize("form", ["id", "ids", "object"])
def test_every_member_is_read_wherever_it_stands(wire: Wire, member: str, form: str) -> None:
    name = value_for(wire, member)
    value = {"id": name, "ids": [name, name], "object": {"id": name}}[form]

    for spelling in {member, snake(member)} if wire == "google" else {member}:
        body = around(wire, {"type": "custom", spelling: value})
        assert named(wire, line_of(wire), body) == {(MEMBERS[wire][member], name)}


@pytest.mark.parametrize(("wire", "holder"), [(wire, name) for wire in WIRES for name in OPAQUE[wire]])
def test_below_the_clients_own_words_nothing_is_a_name(wire: Wire, holder: str) -> None:
    member = "cachedContent" if wire == "google" else "file_id"

    assert named(wire, line_of(wire), around(wire, {holder: {member: "x"}})) == set()


@pytest.mark.parametrize("value", [None, "", 7, True, {}, [], [None, 7], {"type": "auto"}, {"id": 7}])
def test_what_is_no_id_names_nothing(value: Any) -> None:
    assert named("openai", "POST responses", {"model": "m", "input": "Hi", "container": value}) == set()


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"type": "item_reference", "id": "i"}, {("item", "i")}),
        ({"id": "i"}, {("item", "i")}),
        ({"id": "i", "type": None}, {("item", "i")}),
        ({"type": "reasoning", "id": "i", "summary": []}, {("item", "i")}),
        ({"type": "reasoning", "id": "i", "encrypted_content": None}, {("item", "i")}),
        ({"type": "reasoning", "id": "i", "encrypted_content": ""}, {("item", "i")}),
        ({"type": "reasoning", "id": "i", "encrypted_content": "sealed"}, set()),
        ({"type": "image_generation_call", "id": "i"}, {("item", "i")}),
        ({"type": "image_generation_call", "id": "i", "result": "cGl4ZWxz"}, set()),
        ({"type": "message", "id": "i", "role": "assistant", "content": []}, set()),
        ({"id": "i", "role": "assistant", "content": []}, set()),
        ({"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": "{}"}, set()),
        ({"type": "code_interpreter_call", "id": "i", "container_id": "c", "outputs": [{"type": "logs", "logs": ""}]},
         {("container", "c")}),
    ],
)  # fmt: skip
def test_input_items_that_stand_for_earlier_ones_are_names(item: Any, expected: set[tuple[str, str]]) -> None:
    assert named("openai", "POST responses", {"model": "m", "input": [item]}) == expected
    assert named("openai", "POST conversations", {"items": [item]}) == expected


@pytest.mark.parametrize(
    ("line", "body", "expected"),
    [
        (
            "POST chat/completions",
            {**CHAT, "messages": [{"role": "assistant", "audio": {"id": "a"}}]},
            {("audio", "a")},
        ),
        ("POST chat/completions", {**CHAT, "audio": {"voice": "x", "format": "wav"}}, set()),
        ("POST chat/completions", {**CHAT, "messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, set()),
        ("POST chat/completions", {**CHAT, "metadata": {"file_id": "x"}}, set()),
        (
            "POST chat/completions",
            {**CHAT, "tools": [{"function": {"parameters": {"properties": {"p": {"default": {"file_id": "x"}}}}}}]},
            set(),
        ),
        (
            "POST threads",
            {"messages": [{"attachments": [{"file_id": "f"}]}], "tool_resources": {"x": {"vector_store_ids": ["v"]}}},
            {("file", "f"), ("vector_store", "v")},
        ),
        (
            "POST evals/e/runs",
            {"data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "f"}}},
            {("eval", "e"), ("file", "f")},
        ),
        ("POST evals", {"data_source_config": {"type": "logs"}}, {("logs", "*")}),
        ("POST evals", {"data_source_config": {"type": "stored_completions"}}, {("stored_completions", "*")}),
    ],
)
def test_further_places_of_openai(line: str, body: Any, expected: set[tuple[str, str]]) -> None:
    assert named("openai", line, body) == expected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://generativelanguage.googleapis.com/v1beta/files/f", {("file", "files/f")}),
        ("HTTPS://GenerativeLanguage.GoogleAPIs.com./v1beta/files/f", {("file", "files/f")}),
        ("https://generativelanguage.googleapis.com:443/v1beta/files/%66", {("file", "files/f")}),
        ("https://x@generativelanguage.googleapis.com/download/v1beta/files/f:download?alt=media",
         {("file", "files/f")}),
        ("https://main.example/proxied/v1beta/files/f", {("file", "files/f")}),
        ("files/f", {("file", "files/f")}),
        # No file's address, but one of the host's: that it is nobody's is enough.
        ("https://generativelanguage.googleapis.com/x", {("file", "/x")}),
        ("https://elsewhere.example/files/f", set()),
        ("https://storage.googleapis.com/bucket/files/f", set()),
        ("https://www.youtube.com/watch?v=files/f", set()),
        ("gs://bucket/files/f", set()),
    ],
)  # fmt: skip
def test_an_address_at_google_is_a_name_and_one_elsewhere_is_not(uri: str, expected: set[tuple[str, str]]) -> None:
    body = {"contents": [{"parts": [{"fileData": {"fileUri": uri}}]}]}
    request = asked("google", "POST v1beta/models/m:generateContent", body)

    found = {(each.kind, each.id) for each in references("google", request, {"main.example"})}

    assert found == expected


@pytest.mark.parametrize(("type_", "expected"), [("custom", {("skill", "xlsx")}), ("anthropic", set())])
def test_the_skills_that_anthropic_brings_are_everybodys(type_: str, expected: set[tuple[str, str]]) -> None:
    body = {**CHAT, "max_tokens": 1, "container": {"skills": [{"type": type_, "skill_id": "xlsx"}]}}

    assert named("anthropic", "POST messages", body) == expected


@pytest.mark.parametrize("escaped", [rb"previous\u005fresponse_id", rb"\u0070revious_response_id"])
def test_an_escape_hides_no_member(escaped: bytes) -> None:
    body = b'{"model":"m","input":"Hi","%b":"r"}' % escaped

    assert named("openai", "POST responses", body) == {("response", "r")}


FORM = (
    b'--x\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n%b\r\n--x--\r\n'
)


def form(name: bytes, value: bytes, file: bytes = b"") -> dict[str, Any]:
    return {"body": FORM % (name, value, file), "content_type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"file_id", b"f", {("file", "f")}),
        (b"input_reference[file_id]", b"f", {("file", "f")}),
        (b"input_reference", b'{"file_id":"f"}', {("file", "f")}),
        (b"purpose", b"vision", set()),
    ],
)
def test_the_fields_of_a_form_name_objects(name: bytes, value: bytes, expected: set[tuple[str, str]]) -> None:
    assert named("openai", "POST videos", **form(name, value)) == expected


def test_a_list_of_objects_in_a_form_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        named("openai", "POST containers", **form(b"file_ids[]", b"f"))


def test_other_types_of_body_are_read_as_a_lenient_provider_would() -> None:
    body = b' {"input_file_id":"f"}'

    assert named("openai", "POST batches", body, content_type="text/plain") == {("file", "f")}
    encoded = {"content_type": "application/x-www-form-urlencoded"}
    assert named("openai", "POST batches", b"a=b&input_file_id=f", **encoded) == {("file", "f")}


def test_the_lines_of_a_batch_are_read_and_those_of_other_files_are_not() -> None:
    lines = b"\n".join(
        [
            b'{"url":"/v1/responses","body":{"input":[{"id":"i"}],"previous_response_id":"r"}}',
            b'{"url":"/v1/chat/completions","body":{"messages":[{"content":[{"file":{"file_id":"f"}}]}]}}',
            b'{"url":"/v1/responses","body":',
            b"[1]",
        ]
    )

    assert named("openai", "POST files", **form(b"purpose", b"batch", lines)) == {
        ("item", "i"),
        ("response", "r"),
        ("file", "f"),
    }
    assert named("openai", "POST files", **form(b"purpose", b"user_data", lines)) == set()


def test_there_is_an_end_to_how_much_one_request_can_name() -> None:
    ids = [f"f{number}" for number in range(MOST_REFERENCES + 1)]

    assert len(named("openai", "POST vector_stores", {"file_ids": ids[1:]})) == MOST_REFERENCES
    with pytest.raises(TooMany):
        named("openai", "POST vector_stores", {"file_ids": ids})


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=4)
    | st.dictionaries(
        st.sampled_from([*MEMBERS["openai"], *MEMBERS["google"], "id", "type", "input", "data", "has_more", "audio",
                         "name", "output", "content", "container", "nextPageToken"]),
        children | st.sampled_from([*ITEMS, "https://[", "files/f", "x_tool_result"]), max_size=5,
    ),
    max_leaves=30,
)  # fmt: skip


@given(JSON_VALUES)
def test_no_json_makes_the_readers_fail(value: object) -> None:
    body = msgspec.json.encode(value)
    whole = msgspec.json.encode({"model": "m", "input": value, "items": value, "requests": value})
    for wire in WIRES:
        for line in ("POST responses", "POST batches", "POST messages", "POST v1beta/cachedContents"):
            try:
                request = asked(wire, line, whole)
            except (InvalidRequest, NotFound):
                continue  # the dialect has refused it
            references(wire, request)
            made(wire, request, 200, body)
            made_in_event(wire, request, b"data: %b\n\n" % body)
        next_page(wire, asked(wire, "GET v1beta/files" if wire == "google" else "GET files"), body)
    assert set(listed(only_own(body, {"x"}))) <= {"x"}


# --- answers


@pytest.mark.parametrize(
    ("wire", "line", "body", "answer", "expected"),
    [
        ("openai", "POST files", b"--x", {"id": "f"}, [("file", "f")]),
        ("openai", "POST uploads/u/complete", {}, {"id": "u", "file": {"id": "f"}}, [("file", "f")]),
        ("openai", "POST batches", {"input_file_id": "i"}, {"id": "b", "input_file_id": "i"}, [("batch", "b")]),
        ("openai", "GET batches/b", None, {"id": "b", "output_file_id": "o", "error_file_id": None}, [("file", "o")]),
        ("openai", "GET batches", None, {"data": [{"id": "b", "error_file_id": "e"}]}, [("file", "e")]),
        ("openai", "GET fine_tuning/jobs/j", None, {"id": "j", "result_files": ["a", "b"]},
         [("file", "a"), ("file", "b")]),
        ("openai", "POST vector_stores/v/files", {"file_id": "f"}, {"id": "f"}, []),
        ("openai", "POST conversations/c/items", {"items": []}, {"data": [{"id": "i"}]}, []),
        ("openai", "GET responses/r/input_items", None, {"data": [{"id": "i"}]}, []),
        ("openai", "POST threads/runs", {}, {"id": "run", "thread_id": "t"}, [("thread", "t")]),
        ("openai", "POST responses", {"model": "m", "input": "x"}, {"id": "r", "output": [{"id": "i"}]},
         [("response", "r"), ("item", "i")]),
        ("openai", "POST responses", {"model": "m", "input": "x", "store": None}, {"id": "r"}, [("response", "r")]),
        ("openai", "POST responses", {"model": "m", "input": "x", "store": False},
         {"id": "r", "output": [{"id": "i", "container_id": "c"}]}, [("container", "c")]),
        ("openai", "GET responses/r", None, {"id": "r", "output": [{"id": "i"}]}, [("item", "i")]),
        ("openai", "POST responses/compact", {"model": "m", "input": "x"}, {"id": "r", "output": [{"id": "i"}]}, []),
        ("openai", "POST chat/completions", CHAT, {"id": "c"}, []),
        ("openai", "POST chat/completions", {**CHAT, "store": True}, {"id": "c"}, [("chat_completion", "c")]),
        ("openai", "POST chat/completions", {**CHAT, "audio": {}},
         {"id": "c", "choices": [{"message": {"audio": {"id": "a"}}}]}, [("audio", "a")]),
        ("anthropic", "POST messages/batches", {"requests": []}, {"id": "b"}, [("batch", "b")]),
        ("anthropic", "POST files", b"--x", {"id": "f"}, [("file", "f")]),
        ("anthropic", "POST messages", {**CHAT, "max_tokens": 1},
         {"container": {"id": "c"}, "content": [
             {"type": "bash_code_execution_tool_result", "content": {"content": [{"file_id": "f"}]}},
             {"type": "tool_use", "input": {"file_id": "words"}, "content": {"file_id": "words"}}]},
         [("container", "c"), ("file", "f")]),
        ("google", "POST upload/v1beta/files", b"--x", {"file": {"name": "files/f"}}, [("file", "files/f")]),
        ("google", "POST v1beta/cachedContents", {"model": "models/m"}, {"name": "cachedContents/c"},
         [("cached_content", "cachedContents/c")]),
        ("google", "POST v1/projects/p/locations/l/cachedContents", {"model": "models/m"},
         {"name": "projects/p/locations/l/cachedContents/c"}, [("cached_content", "cachedContents/c")]),
        ("google", "POST v1beta/models/m:batchGenerateContent", {"batch": {}}, {"name": "batches/b"},
         [("batch", "batches/b")]),
        ("google", "GET v1beta/batches/b", None, {"response": {"responsesFile": "files/o"}}, [("file", "files/o")]),
        ("google", "POST v1beta/models/veo:predictLongRunning", {"instances": []},
         {"name": "models/veo/operations/o"}, [("operation", "models/veo/operations/o")]),
        ("google", "GET v1beta/models/veo/operations/o", None,
         {"response": {"generateVideoResponse": {"generatedSamples": [
             {"video": {"uri": "https://generativelanguage.googleapis.com/v1beta/files/v:download?alt=media"}}]}}},
         [("file", "files/v")]),
        ("google", "POST v1beta/tunedModels", {"displayName": "x"},
         {"name": "tunedModels/t/operations/o", "metadata": {"tunedModel": "tunedModels/t"}},
         [("tuned_model", "tunedModels/t")]),
    ],
)  # fmt: skip
def test_answers_bring_objects_into_being(wire: Wire, line: str, body: Any, answer: Any, expected: Any) -> None:
    options = {"content_type": "application/octet-stream"} if isinstance(body, bytes) else {}
    request, text = asked(wire, line, body, **options), json.dumps(answer).encode()

    assert [(each.kind, each.id) for each in made(wire, request, 200, text)] == expected
    assert made(wire, request, 404, text) == ()
    assert made(wire, request, 200, b"no JSON") == ()


@pytest.mark.parametrize(("wire", "line"), [(wire, line) for wire in WIRES for line in MADE[wire]])
def test_every_line_of_the_table_is_a_request_that_can_be_made(wire: Wire, line: str) -> None:
    path = line.replace("*", "x")
    verb = re.fullmatch(r"POST (batchGenerateContent|asyncBatchEmbedContent|predictLongRunning)", path)
    path = f"POST models/m:{verb[1]}" if verb else path
    if wire == "google":
        path = path.replace(" ", " v1beta/")
    [(_, at), *_] = MADE[wire][line]
    answer: Any = "files/made" if wire == "google" else "made"
    for member in reversed(at.split(".")):
        answer = {member: answer}

    found = made(wire, asked(wire, path, {} if line.startswith("POST") else None), 200, json.dumps(answer).encode())

    assert [each.id.rpartition("/")[2] for each in found] == ["made"]


@pytest.mark.parametrize(
    ("wire", "line", "body", "event", "expected"),
    [
        ("openai", "POST responses", {"model": "m", "input": "x", "stream": True},
         b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","output":[]}}\n\n',
         [Made("response", "r")]),
        ("openai", "POST responses", {"model": "m", "input": "x", "stream": True},
         b'data: {"type":"response.completed","response":{"id":"r","output":[{"id":"i"}]}}\r\n\r\n',
         [Made("response", "r"), Made("item", "i")]),
        ("openai", "POST responses", {"model": "m", "input": "x", "stream": True, "store": False},
         b'data: {"type":"response.created","response":{"id":"r","output":[]}}\n\n', []),
        ("openai", "GET responses/r?stream=true", None,
         b'data: {"type":"response.completed","response":{"id":"r","output":[{"id":"i"}]}}\n\n', [Made("item", "i")]),
        ("openai", "POST chat/completions", {**CHAT, "stream": True, "store": True},
         b'data: {"id":"c","choices":[]}\n\n', [Made("chat_completion", "c")]),
        ("openai", "POST chat/completions", {**CHAT, "stream": True, "audio": {}},
         b'data: {"id":"c","choices":[{"delta":{"audio":{"id":"a"}}}]}\n\n', [Made("audio", "a")]),
        ("openai", "POST threads/runs", {"stream": True},
         b'event: thread.created\ndata: {"id":"t","object":"thread"}\n\n', [Made("thread", "t")]),
        ("openai", "POST threads/runs", {"stream": True},
         b'event: thread.run.created\ndata: {"id":"r","object":"thread.run","thread_id":"t"}\n\n',
         [Made("thread", "t")]),
        ("anthropic", "POST messages", {**CHAT, "max_tokens": 1, "tools": [{"type": "code_execution_20250825"}]},
         b'data: {"type":"message_start","message":{"container":{"id":"c"},"content":[]}}\n\n',
         [Made("container", "c")]),
        ("anthropic", "POST messages", {**CHAT, "max_tokens": 1, "tools": [{"type": "code_execution_20250825"}]},
         b'data: {"type":"content_block_start","content_block":{"type":"x_tool_result","content":{"file_id":"f"}}}\n\n',
         [Made("file", "f")]),
        ("google", "POST v1beta/interactions", {"stream": True}, b'data: {"interaction":{"id":"i"}}\n\n',
         [Made("interaction", "i")]),
    ],
)  # fmt: skip
def test_events_bring_objects_into_being(wire: Wire, line: str, body: Any, event: bytes, expected: list[Made]) -> None:
    request = asked(wire, line, body)

    assert any(mark in event for mark in marks(wire, request))
    assert list(made_in_event(wire, request, event)) == expected


@pytest.mark.parametrize("wire", WIRES)
def test_a_plain_chat_needs_no_look_at_its_events(wire: Wire) -> None:
    body = {"openai": CHAT, "anthropic": {**CHAT, "max_tokens": 1}, "google": {"contents": []}}[wire]
    line = "POST chat/completions" if wire == "openai" else line_of(wire)

    assert marks(wire, asked(wire, line, body)) == ()


# --- lists

PAGE = (
    b'{"object" : "list", "data":[ {"id":"a", "n" : 1.0e0},{"id":"b"}, {"id":"c","x":"\\u00e9"} ,{"no":"id"}],'
    b'"first_id":"a","last_id":"c","has_more":true,"total":4}'
)


def test_a_list_keeps_the_bytes_of_what_is_the_tenants_and_nothing_else() -> None:
    assert only_own(PAGE, {"a", "c", "unlisted"}) == (
        b'{"object":"list","data":[{"id":"a", "n" : 1.0e0},{"id":"c","x":"\\u00e9"}],'
        b'"first_id":"a","last_id":"c","has_more":true,"total":2}'
    )
    assert json.loads(only_own(PAGE, {"b"})) | {"data": 0} == {
        "object": "list", "data": 0, "first_id": "b", "last_id": "b", "has_more": True, "total": 1
    }  # fmt: skip
    assert json.loads(only_own(PAGE, ())) == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": True, "total": 0
    }  # fmt: skip


def test_googles_lists_go_by_name() -> None:
    page = b'{"files":[{"name":"files/a"},{"name":"files/b"}],"nextPageToken":"t"}'

    assert listed(page) == ("files/a", "files/b")
    assert only_own(page, {"files/b"}) == b'{"files":[{"name":"files/b"}],"nextPageToken":"t"}'


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"no JSON", b'{"data":[{"id":', b"\xff"])
def test_what_is_no_list_shows_nothing(body: bytes) -> None:
    assert only_own(body, {"a"}) == b""
    assert listed(body) == ()


@pytest.mark.parametrize(
    ("wire", "line", "page", "query"),
    [
        ("openai", "GET files?limit=2&after=z", PAGE.replace(b',{"no":"id"}', b""), "limit=2&after=c"),
        ("openai", "GET files?before=z", PAGE, "before=a"),
        ("anthropic", "GET files?before_id=z&limit=1", PAGE, "limit=1&before_id=a"),
        ("anthropic", "GET files", PAGE, "after_id=c"),
        ("google", "GET v1beta/files?pageSize=2&pageToken=s", b'{"files":[],"nextPageToken":"t="}',
         "pageSize=2&pageToken=t%3D"),
    ],
)  # fmt: skip
def test_a_page_says_where_the_list_goes_on(wire: Wire, line: str, page: bytes, query: str) -> None:
    onward = next_page(wire, asked(wire, line), page)

    assert onward is not None
    assert onward.query == query


@pytest.mark.parametrize(
    "page", [b'{"data":[{"id":"a"}],"has_more":false}', b'{"data":[],"has_more":true}', b"{}", b""]
)
def test_a_last_page_goes_nowhere(page: bytes) -> None:
    assert next_page("openai", asked("openai", "GET files"), page) is None


# --- the steps of a call

MAIN, SPARE = credential("main"), credential("spare")


async def test_a_call_that_names_nothing_asks_nobody() -> None:
    objects = KeptInMemory()
    call = admitted("openai", asked("openai", "POST chat/completions", CHAT))

    assert await bind(call, objects, WIRE_OF) is call
    assert objects.looked_up == 0


async def test_a_call_goes_to_the_account_that_keeps_what_it_names() -> None:
    objects = KeptInMemory(f="spare")
    call = admitted("openai", asked("openai", "GET files/f"), MAIN, SPARE)

    assert [target.credential for target in (await bind(call, objects, WIRE_OF)).targets] == [SPARE]


async def test_a_target_of_that_account_keeps_what_the_route_says_of_it() -> None:
    objects = KeptInMemory(r="spare")
    body = {"model": "m", "input": "Hi", "previous_response_id": "r"}
    through = Target(SPARE, model="better", timeout_s=3)
    call = admitted("openai", asked("openai", "POST responses", body), MAIN, SPARE, targets=[Target(MAIN), through])

    assert (await bind(call, objects, WIRE_OF)).targets == (through,)


@pytest.mark.parametrize("kept", [{}, {"f": "gone"}, {"f": "claude"}])
async def test_what_nobody_made_or_whose_account_is_gone_is_not_found(kept: dict[str, str]) -> None:
    call = admitted("openai", asked("openai", "GET files/f"), MAIN, credential("claude", "anthropic"))

    with pytest.raises(ObjectNotFound) as refused:
        await bind(call, KeptInMemory(**kept), WIRE_OF)

    assert (refused.value.status, refused.value.fields) == (404, {"param": "path"})


async def test_objects_of_two_accounts_do_not_go_together() -> None:
    body = {"file_ids": ["f", "g"]}
    call = admitted("openai", asked("openai", "POST vector_stores", body), MAIN, SPARE)

    with pytest.raises(ObjectsApart):
        await bind(call, KeptInMemory(f="main", g="spare"), WIRE_OF)
    with pytest.raises(ObjectNotFound):
        await bind(call, KeptInMemory(f="main"), WIRE_OF)


async def test_where_a_request_is_translated_its_names_mean_nothing() -> None:
    body = {"model": "claude", "input": [{"type": "reasoning", "id": "rs", "summary": []}]}
    call = admitted("openai", asked("openai", "POST responses", body), credential("claude", "anthropic"))

    assert await bind(call, KeptInMemory(), WIRE_OF) is call


async def test_a_store_that_is_away_lets_no_name_pass() -> None:
    objects = KeptInMemory(f="main")
    objects.is_away = True

    with pytest.raises(Unavailable):
        await bind(admitted("openai", asked("openai", "GET files/f"), MAIN), objects, WIRE_OF)


async def test_an_answer_makes_and_takes_away() -> None:
    objects = KeptInMemory()
    batch = admitted("openai", asked("openai", "POST batches", {}), MAIN)
    gone = admitted("openai", asked("openai", "DELETE batches/b"), MAIN)

    body = await noted(batch, 200, b'{"id": "b"}', MAIN.id, objects)

    assert (body, objects.kept) == (b'{"id": "b"}', {"b": MAIN.id})
    await noted(gone, 404, b"{}", MAIN.id, objects)
    assert objects.kept
    await noted(gone, 200, b"{}", MAIN.id, objects)
    assert objects.kept == {}


async def test_a_list_makes_nothing_of_others() -> None:
    objects = KeptInMemory(b="main")
    call = admitted("openai", asked("openai", "GET batches"), MAIN)
    page = b'{"data":[{"id":"b","output_file_id":"o"},{"id":"x","output_file_id":"y"}],"has_more":false}'

    await noted(call, 200, page, MAIN.id, objects)

    assert objects.kept == {"b": MAIN.id, "o": MAIN.id}


async def test_a_new_object_that_cannot_be_noted_is_not_told_of_and_an_answer_is() -> None:
    objects = KeptInMemory()
    objects.is_away = True
    answer = {"model": "m", "input": "Hi"}

    with pytest.raises(Unavailable):
        await noted(admitted("openai", asked("openai", "POST batches", {})), 200, b'{"id":"b"}', MAIN.id, objects)
    body = await noted(
        admitted("openai", asked("openai", "POST responses", answer)), 200, b'{"id":"r"}', MAIN.id, objects
    )
    assert body == b'{"id":"r"}'


async def test_a_list_goes_on_only_where_nothing_on_the_page_is_the_tenants() -> None:
    call = admitted("openai", asked("openai", "GET files"), MAIN)

    onward = await further(call, 200, PAGE.replace(b',{"no":"id"}', b""), KeptInMemory())

    assert onward is not None
    assert onward.request.query == "after=c"
    assert await further(call, 200, PAGE, KeptInMemory(b="main")) is None
    assert await further(call, 500, PAGE, KeptInMemory()) is None


async def test_a_stream_notes_each_object_once_and_before_it_passes() -> None:
    objects = KeptInMemory()
    body = {"model": "m", "input": "Hi", "stream": True}
    notes = EventNotes(admitted("openai", asked("openai", "POST responses", body)), CredentialId("crd_main"), objects)
    assert notes.are_due

    await notes.before([b'data: {"type":"response.created","response":{"id":"r","output":[]}}\n\n'])
    assert objects.kept == {"r": "crd_main"}
    objects.kept.clear()
    await notes.before([b'data: {"type":"response.completed","response":{"id":"r","output":[{"id":"i"}]}}\n\n'])
    assert objects.kept == {"i": "crd_main"}


def test_every_wire_has_a_dialect_here() -> None:
    assert set(DIALECTS) == set(WIRES) == set(COLLECTIONS) == set(MEMBERS) == set(MADE) == set(OPAQUE)


# --- the documentation

PAGE_OF_DOCS = (Path(__file__).parents[2] / "ui" / "docs" / "gateway.md").read_text()


@pytest.mark.parametrize("wire", WIRES)
def test_the_documentation_names_what_is_bound(wire: Wire) -> None:
    section = PAGE_OF_DOCS.partition("## Objects kept at the provider")[2].partition("\n## ")[0]
    [row] = [line for line in section.splitlines() if line.lower().startswith(f"| {wire}")]
    _, _, kept, naming, _ = row.split("|")

    assert set(re.findall(r"`([^`]+)`", kept)) == set(COLLECTIONS[wire])
    assert set(re.findall(r"`([^`]+)`", naming)) == {*MEMBERS[wire], *CURSORS[wire]}
    assert all(f"`{name}`" in section for name in (*ITEMS, *filter(None, ITEMS.values())))
    assert all(f"`{error.code}`" in PAGE_OF_DOCS for error in (ObjectNotFound, ObjectsApart))
