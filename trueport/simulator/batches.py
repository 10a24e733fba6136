"""Batches: made at once, done when somebody first looks, billed to nobody's account."""

from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.parse import unquote

import msgspec

from trueport.simulator import files
from trueport.simulator.answers import CREATED
from trueport.simulator.calls import Answer, Call, Handler, json_reply, refusing, scripted
from trueport.simulator.errors import Refused, error_reply
from trueport.simulator.reply import Reply
from trueport.simulator.requests import decode
from trueport.simulator.store import StoredBatch, StoredFile

# Answers one line: the call that looked at the batch, the line's URL and its body.
Work = Callable[[Call, str, bytes], Reply]


class BatchRequest(msgspec.Struct):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None


class Line(msgspec.Struct):
    custom_id: str
    url: str
    body: msgspec.Raw
    method: str = "POST"


_BATCH: Final = msgspec.json.Decoder(BatchRequest)
_LINE: Final = msgspec.json.Decoder(Line)


def handler_of(method: str, route: str, work: Work) -> Handler | None:
    """What answers `method` on `batches/{id}` and below, or None."""
    match method, route.split("/")[1:]:
        case "GET", [_]:
            return partial(_one, work=work)
        case "POST", [_, "cancel"]:
            return _cancel
    return None


@refusing
def create(call: Call) -> Answer:
    """`POST batches`."""
    asked = decode(call.request.body, _BATCH)
    data = files.find(call, asked.input_file_id).data
    name = f"batch_{call.request_id.removeprefix('req_')}"
    body: dict[str, object] = {
        "id": name,
        "object": "batch",
        "endpoint": asked.endpoint,
        "errors": None,
        "input_file_id": asked.input_file_id,
        "completion_window": asked.completion_window,
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": CREATED,
        "in_progress_at": None,
        "expires_at": CREATED + 86_400,
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": asked.metadata,
    }
    call.store.batches.put(name, StoredBatch(body, [line for line in data.splitlines() if line.strip()]))
    return scripted(call, json_reply(body))


def list_all(call: Call, work: Work) -> Answer:
    """`GET batches`, newest first."""
    listed = [_done(call, name, work).body for name, _ in call.store.batches.newest_first()]
    return scripted(call, json_reply(files.page(call, listed)))


@refusing
def _one(call: Call, work: Work) -> Answer:
    return scripted(call, json_reply(_done(call, _name(call), work).body))


@refusing
def _cancel(call: Call) -> Answer:
    """Cancels what nobody has looked at yet; a batch that has ended stays as it is."""
    name = _name(call)
    batch = _find(call, name)
    if batch.results is None:
        body = {**batch.body, "status": "cancelled", "cancelling_at": CREATED, "cancelled_at": CREATED}
        call.store.batches.put(name, batch._replace(body=body, results=[]))
        return scripted(call, json_reply({**body, "status": "cancelling", "cancelled_at": None}))
    return scripted(call, json_reply(batch.body))


def _name(call: Call) -> str:
    return unquote(call.request.path.partition("batches/")[2].partition("/")[0])


def _find(call: Call, name: str) -> StoredBatch:
    batch = call.store.batches.get(name)
    if batch is None:
        raise Refused(error_reply(404, f"No batch found with id '{name}'.", param="batch_id"))
    return batch


def _done(call: Call, name: str, work: Work) -> StoredBatch:
    """The batch of that id, its work done and its files written. Raises Refused when there is none."""
    batch = _find(call, name)
    if batch.results is not None:
        return batch
    good: list[bytes] = []
    bad: list[bytes] = []
    for number, line in enumerate(batch.asked):
        is_good, result = _worked(call, line, f"batch_req_{name}_{number}", work)
        (good if is_good else bad).append(result)
    output = _written(call, name, good, "output")
    errors = _written(call, name, bad, "error")
    told: dict[str, object] = {
        **batch.body,
        "status": "completed",
        "output_file_id": output,
        "error_file_id": errors,
        "in_progress_at": CREATED,
        "finalizing_at": CREATED,
        "completed_at": CREATED,
        "request_counts": {"total": len(batch.asked), "completed": len(good), "failed": len(bad)},
    }
    # The results are in their files; what stays here only tells that they were made.
    done = StoredBatch(told, [], [])
    call.store.batches.put(name, done)
    return done


def _written(call: Call, batch: str, lines: list[bytes], kind: str) -> str | None:
    """The id of the file these lines were written to; None when there are none."""
    if not lines:
        return None
    name = f"file-{kind}-{batch.removeprefix('batch_')}"
    data = b"".join(line + b"\n" for line in lines)
    call.store.files.put(name, StoredFile(f"{batch}_{kind}.jsonl", "batch_output", data))
    return name


def _worked(call: Call, line: bytes, request_id: str, work: Work) -> tuple[bool, bytes]:
    """Whether a line could be answered, and its result line."""
    try:
        asked = _LINE.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        failure = {"code": "invalid_json_line", "message": str(error)}
        told: dict[str, object] = {"id": request_id, "custom_id": None, "response": None, "error": failure}
        return False, msgspec.json.encode(told)
    reply = work(call, asked.url, bytes(asked.body))
    body = msgspec.Raw(reply.body) if reply.events is None else msgspec.Raw(b"null")
    response = {"status_code": reply.status, "request_id": request_id, "body": body}
    told = {"id": request_id, "custom_id": asked.custom_id, "response": response, "error": None}
    return reply.status < 400, msgspec.json.encode(told)
