"""Message batches: made at once, done when somebody first looks, billed to nobody's account."""

from typing import Final
from urllib.parse import parse_qs, unquote

import msgspec

from trueport.simulator.anthropic import messages
from trueport.simulator.anthropic.errors import error_reply
from trueport.simulator.anthropic.requests import MessageRequest, decode
from trueport.simulator.calls import Answer, Call, Handler, json_reply, scripted
from trueport.simulator.directives import from_texts
from trueport.simulator.errors import Refused
from trueport.simulator.reply import Reply
from trueport.simulator.script import DirectiveError
from trueport.simulator.store import StoredBatch
from trueport.simulator.text import digest_of

_CREATED: Final = "2026-01-01T00:00:00Z"
_EXPIRES: Final = "2026-01-02T00:00:00Z"
_COUNTS: Final = ("processing", "succeeded", "errored", "canceled", "expired")
_MESSAGE: Final = msgspec.json.Decoder(MessageRequest)


class BatchItem(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


class BatchRequest(msgspec.Struct):
    requests: list[BatchItem]


_BATCH: Final = msgspec.json.Decoder(BatchRequest)
_ITEM: Final = msgspec.json.Decoder(BatchItem)


def create(call: Call) -> Answer:
    """`POST messages/batches`."""
    asked = decode(call.request.body, _BATCH)
    if not asked.requests:
        raise Refused(error_reply(400, "requests: List should have at least 1 item after validation, not 0"))
    name = f"msgbatch_{call.request_id.removeprefix('req_')}"
    lines = [msgspec.json.encode(item) for item in asked.requests]
    batch = StoredBatch({"id": name, "type": "message_batch", "cancel_initiated_at": None}, lines)
    call.store.message_batches.put(name, batch)
    return scripted(call, json_reply(_told(batch, call)))


def list_all(call: Call) -> Answer:
    """`GET messages/batches`, newest first."""
    query = parse_qs(call.request.query)
    limit = int(query.get("limit", ["20"])[-1]) if query.get("limit", ["20"])[-1].isdigit() else 20
    after = query.get("after_id", [None])[-1]
    batches = [name for name, _ in call.store.message_batches.newest_first()]
    if after in batches:
        batches = batches[batches.index(after) + 1 :]
    page = [_told(_done(call, name), call) for name in batches[:limit]]
    told = {
        "data": page,
        "has_more": len(batches) > limit,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }
    return scripted(call, json_reply(told))


def handler_of(method: str, route: str) -> Handler | None:
    """What answers `method` on `messages/batches/{id}` and below, or None."""
    parts = route.split("/")[2:]
    match method, parts:
        case "GET", [_]:
            return _one
        case "DELETE", [_]:
            return _delete
        case "POST", [_, "cancel"]:
            return _cancel
        case "GET", [_, "results"]:
            return _results
    return None


def _one(call: Call) -> Answer:
    return scripted(call, json_reply(_told(_done(call, _name(call)), call)))


def _delete(call: Call) -> Answer:
    name = _name(call)
    if call.store.message_batches.take(name) is None:
        raise _unknown(name)
    return scripted(call, json_reply({"id": name, "type": "message_batch_deleted"}))


def _cancel(call: Call) -> Answer:
    """Cancels what nobody has looked at yet; a batch that has ended stays as it is."""
    name = _name(call)
    batch = call.store.message_batches.get(name)
    if batch is None:
        raise _unknown(name)
    if batch.results is None:
        results = [_result(_ITEM.decode(line).custom_id, {"type": "canceled"}) for line in batch.asked]
        batch = batch._replace(body={**batch.body, "cancel_initiated_at": _CREATED}, results=results)
        call.store.message_batches.put(name, batch)
        told = _told(batch._replace(results=None), call)
        return scripted(call, json_reply({**told, "processing_status": "canceling"}))
    return scripted(call, json_reply(_told(batch, call)))


def _results(call: Call) -> Answer:
    batch = _done(call, _name(call))
    body = b"".join(line + b"\n" for line in batch.results or ())
    return scripted(call, Reply(body=body, content_type="application/x-jsonl"))


def _name(call: Call) -> str:
    return unquote(call.request.path.partition("/batches/")[2].partition("/")[0])


def _unknown(name: str) -> Refused:
    return Refused(error_reply(404, f"Batch {name} not found"))


def _done(call: Call, name: str) -> StoredBatch:
    """The batch of that name, its work done. Raises Refused when there is none."""
    batch = call.store.message_batches.get(name)
    if batch is None:
        raise _unknown(name)
    if batch.results is None:
        batch = batch._replace(results=[_worked(call, _ITEM.decode(line)) for line in batch.asked])
        call.store.message_batches.put(name, batch)
    return batch


def _worked(call: Call, item: BatchItem) -> bytes:
    params = bytes(item.params)
    try:
        asked = decode(params, _MESSAGE)
        asked.check()
        script = from_texts(asked.texts(), call.base)
        digest = digest_of(params.decode("utf-8", "replace")).hex()
        asked.stream = False
        message = msgspec.Raw(messages.answer(asked, script, digest).body)
    except Refused as refusal:
        return _result(item.custom_id, {"type": "errored", "error": msgspec.Raw(refusal.reply.body)})
    except DirectiveError as error:
        return _result(item.custom_id, {"type": "errored", "error": msgspec.Raw(error_reply(400, str(error)).body)})
    return _result(item.custom_id, {"type": "succeeded", "message": message})


def _result(custom_id: str, result: dict[str, object]) -> bytes:
    return msgspec.json.encode({"custom_id": custom_id, "result": result})


def _told(batch: StoredBatch, call: Call) -> dict[str, object]:
    counts = dict.fromkeys(_COUNTS, 0)
    if batch.results is None:
        counts["processing"] = len(batch.asked)
    for line in batch.results or ():
        counts[msgspec.json.decode(line)["result"]["type"]] += 1
    has_ended = batch.results is not None
    base = f"http://{call.request.headers.get('host', 'localhost')}/v1/messages/batches/{batch.body['id']}/results"
    return {
        **batch.body,
        "processing_status": "ended" if has_ended else "in_progress",
        "request_counts": counts,
        "ended_at": _CREATED if has_ended else None,
        "created_at": _CREATED,
        "expires_at": _EXPIRES,
        "archived_at": None,
        "results_url": base if has_ended else None,
    }
