"""Reading a JSON body: bounded in size, depth and time, one meaning only, and every mistake in it named."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request
from litestar.datastructures import State

from trueport.gateway.json_gate import read_object
from trueport.kit.errors import InvalidRequest, TrueportError

MOST_BODY_BYTES: Final = 256 * 1024
_DEEPEST: Final = 64
_MOST_ITEMS: Final = 10_000
_BODY_DEADLINE_S: Final = 30.0

S = TypeVar("S", bound=msgspec.Struct)

_AT: Final = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)


class ValidationFailed(InvalidRequest):
    """Fields are missing, unknown or malformed; `errors` names each."""

    code = "validation_failed"


class BodyTooSlow(TrueportError):
    """The body did not arrive in time."""

    code = "body_timeout"
    status = 408


class EncodingRefused(TrueportError):
    """Request bodies are not compressed here."""

    code = "unsupported_encoding"
    status = 415


class JsonRequest(Request[Any, Any, State]):
    """A request whose JSON body becomes the struct that its handler declares as `data`."""

    async def body(self) -> bytes:
        """The bytes of the body. Raises EncodingRefused and BodyTooSlow."""
        if self.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise EncodingRefused("Send the body uncompressed.")
        try:
            async with asyncio.timeout(_BODY_DEADLINE_S):
                return await super().body()
        except TimeoutError as error:
            raise BodyTooSlow("The body did not arrive in time.") from error

    async def json(self) -> Any:  # the return type is Litestar's: whatever `data` is annotated with
        """The struct of the handler's `data`, or the bare members where it declares none."""
        members = read_object(await self.body(), max_depth=_DEEPEST, most_items=_MOST_ITEMS)
        kind = _struct_of(self.route_handler.parsed_data_field)
        return members if kind is None else build(kind, members)


def build(kind: type[S], members: Mapping[str, object]) -> S:
    """The struct these members make, strictly: `"60"` is no number. Raises ValidationFailed naming every field."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    errors = [_error(name[:100], "is not a field of this request") for name in members if name not in fields]
    for name, field in fields.items():
        if name not in members:
            if field.required:
                errors.append(_error(name, "is required"))
            continue
        try:
            msgspec.convert(members[name], field.type)
        except msgspec.ValidationError as error:
            errors.append(_located(name, str(error)))
    if errors:
        raise ValidationFailed("The request does not have the expected form.", errors=errors)
    try:
        return msgspec.convert(members, kind)
    except msgspec.ValidationError as error:
        raise ValidationFailed(
            "The request does not have the expected form.", errors=[_located("", str(error))]
        ) from error


def _located(name: str, report: str) -> dict[str, str]:
    match = _AT.fullmatch(report)
    if match is None:
        return _error(name, report)
    return _error(f"{name}{match['path'] or ''}".lstrip("."), match["what"])


def _error(field: str, message: str) -> dict[str, str]:
    return {"field": field, "message": message}


def _struct_of(field: Any) -> type[msgspec.Struct] | None:  # a litestar FieldDefinition or None
    """The struct in `Struct` or `Struct | None`."""
    if field is None:
        return None
    for annotation in (field.annotation, *(inner.annotation for inner in field.inner_types)):
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            return annotation
    return None
