"""The routes of the responses API."""

from typing import Final
from urllib.parse import unquote

import msgspec

from trueport.simulator.answers import CREATED
from trueport.simulator.calls import Answer, Call, Handler, json_reply, refusing, scripted
from trueport.simulator.errors import Refused, error_reply, filtered, missing_model
from trueport.simulator.files import page
from trueport.simulator.reply import Reply
from trueport.simulator.requests import decode
from trueport.simulator.responses.answer import Response
from trueport.simulator.responses.output import FORM, Output, compose, counted
from trueport.simulator.responses.requests import InputRequest, Item, ResponseRequest, echoed
from trueport.simulator.script import Script
from trueport.simulator.store import StoredResponse

_RESPONSE: Final = msgspec.json.Decoder(ResponseRequest)
_INPUT: Final = msgspec.json.Decoder(InputRequest)
_ITEM: Final = msgspec.json.Decoder(Item)


def handler_of(method: str, route: str) -> Handler | None:
    """What answers `method` on `responses/{id}` and below, or None."""
    match method, route.split("/")[1:]:
        case "GET", [_]:
            return _one
        case "DELETE", [_]:
            return _delete
        case "POST", [_, "cancel"]:
            return _cancel
        case "GET", [_, "input_items"]:
            return _input_items
    return None


def create(call: Call) -> Answer:
    """`POST responses`."""
    asked = decode(call.request.body, _RESPONSE)
    script = call.script(list(asked.texts()), asked.model)
    reply = _refusal(asked.model, script) or _answered(call, asked, script)
    return Answer(reply, script, asked.model)


def count(call: Call) -> Answer:
    """`POST responses/input_tokens`."""
    asked = decode(call.request.body, _INPUT)
    script = call.script(list(asked.texts()), asked.model)
    tokens = script.usage.get("prompt", asked.tokens(_history(call, asked)))
    told = {"object": "response.input_tokens", "input_tokens": tokens}
    return Answer(_refusal(asked.model, script) or json_reply(told), script, asked.model)


def _refusal(model: str, script: Script) -> Reply | None:
    if model.startswith("missing-"):
        return missing_model(model)
    return filtered() if script.filtered is not None else None


def _answered(call: Call, asked: ResponseRequest, script: Script) -> Reply:
    history = _history(call, asked)
    _check_calls(asked, history)
    output = compose(asked, history, script, call.body_digest)
    usage = counted(asked, history, output, script)
    response = Response(output, asked.model, echoed(call.request.body), usage, script)
    if asked.store is not False:
        _keep(call, asked, history, response)
    if asked.background and not asked.stream:
        return Reply(body=response.opened("queued"), usage=usage)
    return response.streamed() if asked.stream else response.whole()


def _history(call: Call, asked: InputRequest) -> list[Item]:
    """The items of the response this one continues. Raises Refused when there is none of that id."""
    previous = asked.previous_response_id
    if previous is None:
        return []
    stored = call.store.responses.get(previous)
    if stored is None:
        message = f"Previous response with id '{previous}' not found."
        raise Refused(error_reply(400, message, param="previous_response_id", code="previous_response_not_found"))
    return [_ITEM.decode(item) for item in stored.history]


def _check_calls(asked: ResponseRequest, history: list[Item]) -> None:
    """Raise Refused for the output of a function that was not called."""
    known = {item.call_id for item in (*history, *asked.items()) if item.type == "function_call"}
    for item in asked.items():
        if item.type == "function_call_output" and item.call_id not in known:
            message = f"No tool call found for function call output with call_id {item.call_id}."
            raise Refused(error_reply(400, message, param="input"))


def _keep(call: Call, asked: ResponseRequest, history: list[Item], response: Response) -> None:
    output: Output = response.output
    body = {**response.body(output.status, output.items()), "usage": msgspec.Raw(FORM.json(response.usage))}
    own = [msgspec.json.encode(item) for item in _input_as_told(call, output)]
    said = [*map(msgspec.json.encode, (*history, *asked.items())), *map(msgspec.json.encode, output.items())]
    call.store.responses.put(str(body["id"]), StoredResponse(body, own, said))


def _input_as_told(call: Call, output: Output) -> list[dict[str, object]]:
    """The input items as they were sent, each with an id."""
    given = msgspec.json.decode(call.request.body)["input"]
    if isinstance(given, str):
        given = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    return [
        {"type": "message", "id": f"item_{output.digest[:24]}{number:04d}", **item} for number, item in enumerate(given)
    ]


def _name(call: Call) -> str:
    return unquote(call.request.path.partition("responses/")[2].partition("/")[0])


def _find(call: Call) -> StoredResponse:
    name = _name(call)
    stored = call.store.responses.get(name)
    if stored is None:
        raise Refused(error_reply(404, f"Response with id '{name}' not found."))
    return stored


@refusing
def _one(call: Call) -> Answer:
    return scripted(call, json_reply(_find(call).body))


@refusing
def _delete(call: Call) -> Answer:
    _find(call)
    call.store.responses.take(_name(call))
    return scripted(call, json_reply({"id": _name(call), "object": "response", "deleted": True}))


@refusing
def _cancel(call: Call) -> Answer:
    stored = _find(call)
    if not stored.body["background"]:
        raise Refused(error_reply(400, "Cannot cancel a synchronous response."))
    body = {**stored.body, "status": "cancelled", "output": [], "usage": None, "completed_at": CREATED}
    call.store.responses.put(_name(call), stored._replace(body=body))
    return scripted(call, json_reply(body))


@refusing
def _input_items(call: Call) -> Answer:
    items = [msgspec.json.decode(item) for item in reversed(_find(call).items)]
    return scripted(call, json_reply(page(call, items)))
