"""Files: kept in memory, given back as they came."""

from typing import Final
from urllib.parse import parse_qs, unquote

from trueport.simulator.answers import CREATED
from trueport.simulator.calls import Answer, Call, Handler, json_reply, refusing, scripted
from trueport.simulator.errors import Refused, error_reply
from trueport.simulator.multipart import read_form
from trueport.simulator.reply import Reply
from trueport.simulator.store import StoredFile

_PURPOSES: Final = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


def handler_of(method: str, route: str) -> Handler | None:
    """What answers `method` on `files/{id}` and below, or None."""
    match method, route.split("/")[1:]:
        case "GET", [_]:
            return _one
        case "DELETE", [_]:
            return _delete
        case "GET", [_, "content"]:
            return _content
    return None


@refusing
def create(call: Call) -> Answer:
    """`POST files`."""
    form = read_form(call.request)
    upload, purpose = form.file("file"), form.required("purpose")
    if purpose not in _PURPOSES:
        message = f"'{purpose}' is not one of {list(_PURPOSES)} - 'purpose'"
        raise Refused(error_reply(400, message, param="purpose"))
    file = StoredFile(upload.name, purpose, upload.data)
    name = f"file-{call.request_id.removeprefix('req_')}"
    call.store.files.put(name, file)
    return scripted(call, json_reply(_told(name, file)))


def find(call: Call, name: str) -> StoredFile:
    """The file of that id. Raises Refused."""
    file = call.store.files.get(name)
    if file is None:
        raise Refused(error_reply(404, f"No such File object: {name}", param="id"))
    return file


@refusing
def list_all(call: Call) -> Answer:
    """`GET files`, newest first."""
    purpose = parse_qs(call.request.query).get("purpose", [None])[-1]
    found = call.store.files.newest_first()
    listed = [_told(name, file) for name, file in found if purpose in (None, file.purpose)]
    return scripted(call, json_reply(page(call, listed)))


def page(call: Call, listed: list[dict[str, object]]) -> dict[str, object]:
    """The part of a list that `after` and `limit` ask for, as OpenAI wraps it."""
    query = parse_qs(call.request.query)
    after, limit = query.get("after", [None])[-1], query.get("limit", ["100"])[-1]
    names = [one["id"] for one in listed]
    if after in names:
        listed = listed[names.index(after) + 1 :]
    shown = listed[: int(limit) if limit.isdigit() else 100]
    return {
        "object": "list",
        "data": shown,
        "has_more": len(shown) < len(listed),
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


@refusing
def _one(call: Call) -> Answer:
    name = _name(call)
    return scripted(call, json_reply(_told(name, find(call, name))))


@refusing
def _delete(call: Call) -> Answer:
    name = _name(call)
    find(call, name)
    call.store.files.take(name)
    return scripted(call, json_reply({"id": name, "object": "file", "deleted": True}))


@refusing
def _content(call: Call) -> Answer:
    file = find(call, _name(call))
    # Names are as their senders like them, and a header takes only so much.
    name = "".join(one if one.isascii() and one.isprintable() else "?" for one in file.name)
    disposition = ("content-disposition", f'attachment; filename="{name}"')
    return scripted(call, Reply(body=file.data, content_type="application/octet-stream", headers=(disposition,)))


def _name(call: Call) -> str:
    return unquote(call.request.path.partition("files/")[2].partition("/")[0])


def _told(name: str, file: StoredFile) -> dict[str, object]:
    return {
        "id": name,
        "object": "file",
        "bytes": len(file.data),
        "created_at": CREATED,
        "expires_at": None,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }
