"""Which objects an answer brings into being, and which are gone with it."""

from collections.abc import Iterator, Sequence

import msgspec

from trueport.gateway.call import Request, Wire
from trueport.gateway.dialects.meter import UNREADABLE
from trueport.gateway.objects.base import Made
from trueport.gateway.objects.google import told_name
from trueport.gateway.objects.lists import elements
from trueport.gateway.objects.place import is_list, place_of
from trueport.gateway.objects.tables import MADE
from trueport.gateway.streaming import event_data


def made(wire: Wire, request: Request, status: int, body: bytes) -> tuple[Made, ...]:
    """The objects that a whole answer brings into being; none for an answer that is not what it should be."""
    if not 200 <= status < 300 or not _may_make(wire, request, body):
        return ()
    try:
        answer = msgspec.json.decode(body)
    except UNREADABLE:
        return ()
    return tuple(dict.fromkeys(_made(wire, request, answer)))


def deleted(wire: Wire, request: Request, status: int) -> tuple[str, ...]:
    """The objects that are gone once a request was answered with `status`."""
    if request.method != "DELETE" or not 200 <= status < 300:
        return ()
    place = place_of(wire, request)
    return (place.id,) if place.id is not None and not place.rest else ()


def marks(wire: Wire, request: Request) -> tuple[bytes, ...]:
    """What an event has in it that may bring an object into being; none for a stream in which no event does."""
    if wire == "openai":
        if _is_response(request):
            return (b"response.created", b"response.completed", b"response.incomplete", b"response.failed")
        if request.operation == "threads/runs":
            return (b"thread_id", b'"thread"')
        return (b'"audio"' if _speaks(request) else b'"id"',) if _keeps_chat(request) else ()
    if wire == "anthropic":
        has_tools = b"code_execution" in request.body or b'"container"' in request.body
        return (b'"container"', b"_tool_result") if has_tools and request.kind == "chat" else ()
    return (b'"interaction"',) if request.operation == "interactions" else ()


def made_in_event(wire: Wire, request: Request, event: bytes) -> tuple[Made, ...]:
    """The objects that an event with one of the `marks` in it brings into being."""
    try:
        said = msgspec.json.decode(event_data(event))
    except UNREADABLE:
        return ()
    if not isinstance(said, dict):
        return ()
    if wire == "google":
        found = _all("interaction", said, "interaction.id")
    elif wire == "anthropic":
        found = _of_message(said.get("message") or said.get("delta") or {"content": [said.get("content_block")]})
    elif request.operation == "threads/runs":
        found = _all("thread", said, "id" if said.get("object") == "thread" else "thread_id")
    elif _is_response(request):
        found = _of_response(request, said.get("response"))
    else:
        found = _of_chat(request, said)
    return tuple(dict.fromkeys(found))


def _may_make(wire: Wire, request: Request, body: bytes) -> bool:
    if request.kind == "chat" and wire == "anthropic":
        return b'"container"' in body or b"file_id" in body
    if wire == "openai" and (_is_response(request) or request.kind == "chat"):
        return _is_response(request) or _keeps_chat(request)
    return _template(wire, request) in MADE[wire]


def _made(wire: Wire, request: Request, answer: object) -> Iterator[Made]:
    if wire == "openai" and _is_response(request):
        yield from _of_response(request, answer)
    elif request.kind == "chat":
        yield from _of_message(answer) if wire == "anthropic" else _of_chat(request, answer)
    else:
        for kind, at in MADE[wire][_template(wire, request)]:
            for element in elements(answer) if is_list(wire, request) else [answer]:
                for each in _all(kind, element, at):
                    yield Made(kind, told_name(each.id)) if wire == "google" else each


def _template(wire: Wire, request: Request) -> str:
    """The entry in MADE: for a list that of its elements."""
    below = "/*" if is_list(wire, request) else ""
    return f"{request.method} {place_of(wire, request).template}{below}"


def _is_response(request: Request) -> bool:
    """Whether the answer is one of OpenAI's responses."""
    first, *below = request.operation.split("/")
    return first == "responses" and request.kind in ("chat", "state") and below[1:] in ([], ["cancel"])


def _keeps_chat(request: Request) -> bool:
    members = request.members or {}
    return request.kind == "chat" and (members.get("store") is True or _speaks(request))


def _speaks(request: Request) -> bool:
    return "audio" in (request.members or {})


def _of_response(request: Request, answer: object) -> Iterator[Made]:
    # What is not said to be thrown away is kept.
    if (request.members or {}).get("store") is not False:
        if request.operation == "responses":
            yield from _all("response", answer, "id")
        yield from _all("item", answer, "output.id")
    # Those that a request named have been checked, so this is one of them, or one made for it.
    yield from _all("container", answer, "output.container_id")


def _of_chat(request: Request, answer: object) -> Iterator[Made]:
    if (request.members or {}).get("store") is True:
        yield from _all("chat_completion", answer, "id")
    yield from _all("audio", answer, "choices.message.audio.id")
    yield from _all("audio", answer, "choices.delta.audio.id")


def _of_message(message: object) -> Iterator[Made]:
    """Anthropic's: the container of its tools, and the files that these have written."""
    yield from _all("container", message, "container.id")
    blocks = message.get("content") if isinstance(message, dict) else None
    for block in blocks if isinstance(blocks, list) else ():
        # Whatever else a block holds may be the model's own words.
        if isinstance(block, dict) and str(block.get("type")).endswith("_tool_result"):
            yield from _all("file", block, "content.file_id")
            yield from _all("file", block, "content.content.file_id")


def _all(kind: str, node: object, at: str) -> Iterator[Made]:
    return (Made(kind, name) for name in _texts(node, at.split(".")))


def _texts(node: object, path: Sequence[str]) -> Iterator[str]:
    """The texts at a path of members that goes through lists."""
    if isinstance(node, list):
        for each in node:
            yield from _texts(each, path)
    elif not path:
        if isinstance(node, str) and node:
            yield node
    elif isinstance(node, dict):
        yield from _texts(node.get(path[0]), path[1:])
