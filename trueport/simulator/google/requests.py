"""The bodies of Google's requests, which may be in camel case or in snake case, member by member."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

import msgspec

from trueport.simulator.errors import Refused
from trueport.simulator.google.errors import error_reply
from trueport.simulator.usage import count_tokens

# What stands for a picture or a file, in tokens: the price of one tile.
_TOKENS_PER_PICTURE: Final = 258
_CAPITAL: Final = re.compile(r"[A-Z]")
_ROLES: Final = ("user", "model", "function", None)

Members = Mapping[str, object]


def member(of: object, name: str) -> object:
    """The member with this camel-case name, however it was written; None when there is none."""
    if not isinstance(of, Mapping):
        return None
    found = of.get(name)
    return of.get(_snake(name)) if found is None else found


def members(of: object, name: str) -> Members:
    """The object that is this member, or an empty one."""
    found = member(of, name)
    return found if isinstance(found, Mapping) else {}


def items(of: object, name: str) -> list[object]:
    """The list that is this member, or an empty one; a single object counts as a list of it."""
    found = member(of, name)
    if isinstance(found, list):
        return found
    return [found] if isinstance(found, Mapping) else []


def whole_number(of: object, name: str) -> int | None:
    """The number that is this member, if it is one."""
    found = member(of, name)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


@cache
def _snake(name: str) -> str:
    return _CAPITAL.sub(lambda found: f"_{found[0].lower()}", name)


def decode(body: bytes) -> dict[str, object]:
    """`body` as an object. Raises Refused with Google's 400 when it is none."""
    try:
        value = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    if not isinstance(value, dict):
        raise invalid("Invalid JSON payload received. Root element must be a message.")
    return value


def contents(request: Members) -> list[object]:
    """The contents, checked. Raises Refused for those Google would not read."""
    found = items(request, "contents")
    if not found:
        raise invalid("* GenerateContentRequest.contents: contents is not specified\n")
    for number, content in enumerate(found):
        if member(content, "role") not in _ROLES:
            raise invalid("Please use a valid role: user, model.")
        if not items(content, "parts"):
            raise invalid(f"* GenerateContentRequest.contents[{number}].parts: contents.parts must not be empty.\n")
    return found


def texts(request: Members) -> Iterator[str]:
    """Every text in the order the model reads them; thoughts are not among them."""
    for content in (member(request, "systemInstruction"), *items(request, "contents")):
        yield from content_texts(content)


def content_texts(content: object) -> Iterator[str]:
    """The texts of one content, results of functions included."""
    if isinstance(content, str):
        yield content
    for part in items(content, "parts"):
        text = member(part, "text")
        if isinstance(text, str) and not member(part, "thought"):
            yield text
        result = member(part, "functionResponse")
        if result is not None:
            yield msgspec.json.encode(member(result, "response")).decode()


def tokens(request: Members) -> int:
    """All input tokens: texts, pictures, and the functions offered."""
    total = sum(map(count_tokens, texts(request)))
    for content in items(request, "contents"):
        for part in items(content, "parts"):
            if member(part, "inlineData") is not None or member(part, "fileData") is not None:
                total += _TOKENS_PER_PICTURE
            call = member(part, "functionCall")
            if call is not None:
                total += count_tokens(msgspec.json.encode(call).decode())
    offered = member(request, "tools")
    return total + (count_tokens(msgspec.json.encode(offered).decode()) if offered else 0)


def functions(request: Members) -> list[object]:
    """The declarations of the functions offered."""
    return [one for tool in items(request, "tools") for one in items(tool, "functionDeclarations")]


def calling_mode(request: Members) -> str:
    """AUTO, ANY, NONE or VALIDATED."""
    return str(member(members(members(request, "toolConfig"), "functionCallingConfig"), "mode") or "AUTO").upper()


def allowed_function(request: Members) -> Members | None:
    """The first function that may be called."""
    config = members(members(request, "toolConfig"), "functionCallingConfig")
    allowed = items(config, "allowedFunctionNames")
    for function in functions(request):
        if isinstance(function, Mapping) and (not allowed or function.get("name") in allowed):
            return function
    return None


def may_call_functions(request: Members) -> bool:
    """Whether functions are offered and this is not the turn that reads their results."""
    if not functions(request) or calling_mode(request) == "NONE":
        return False
    parts = items(items(request, "contents")[-1], "parts")
    return not any(member(part, "functionResponse") is not None for part in parts)


def invalid(message: str) -> Refused:
    return Refused(error_reply(400, message))
