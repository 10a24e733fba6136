"""Detection as a service: texts in, what the detectors see in them out. The texts are kept nowhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from trueport.detection.engine import unread
from trueport.detection.policy import ActivePolicies, Context, Hit, Judged, PolicySet
from trueport.detection.types import Category, Failure, Passage, Reading, Role, Side
from trueport.gateway.call import Admitted, HeaderList, Request
from trueport.gateway.credentials import KEY_HEADERS
from trueport.gateway.dialects.openai import OpenAIDialect
from trueport.gateway.intake import BodyTooLarge
from trueport.gateway.json_gate import read_object
from trueport.gateway.own.texts import MOST_BODY_BYTES, READABLE, InvalidInput, check_count, read
from trueport.gateway.ports import Tools
from trueport.kit.errors import NotFound, TrueportError

PATH: Final = "/trueportai-services/api/v1/detect"
OPERATION: Final = "detect"
_KEY_MARK: Final = b"sk-tp-"
# Where the management API's errors are described.
_ERRORS: Final = "https://docs.trueportai.com/errors/"
_WRITTEN_BY_MODELS: Final[frozenset[Role]] = frozenset({"assistant", "reasoning", "tool_call"})


class TextAsked(msgspec.Struct, forbid_unknown_fields=True):
    """One text, and who speaks it."""

    text: str
    role: Role = "user"


class DetectAsked(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be read and for what; without `categories` for everything. `policies`: the tenant's decide too."""

    input: str | list[str | TextAsked]
    categories: Annotated[list[Category], msgspec.Meta(min_length=1)] | None = None
    policies: bool = False

    @property
    def passages(self) -> list[Passage]:
        given: Sequence[str | TextAsked] = [self.input] if isinstance(self.input, str) else self.input
        return [Passage(one) if isinstance(one, str) else Passage(one.text, one.role) for one in given]


def is_for_key(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a request carries one of our API keys, and not a person's token."""
    return any(
        (name in KEY_HEADERS and value.strip().startswith(_KEY_MARK))
        or (name == b"authorization" and value.partition(b" ")[2].strip().startswith(_KEY_MARK))
        for name, value in headers
    )


def asked(members: Mapping[str, object]) -> DetectAsked:
    """Raises InvalidInput."""
    try:
        found = msgspec.convert(members, DetectAsked)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        # The message names members and types, never a value, unless an enum's: that one is left out.
        what = "Invalid value" if what.startswith("Invalid enum value") else what
        field = where.rstrip("`").lstrip(".") or "body"
        raise InvalidInput(f"{field}: {what}.", field) from error
    check_count(len(found.passages))
    if found.categories is not None and "custom" in found.categories:
        raise InvalidInput("custom is what a tenant's own policies find: ask for policies.", "categories")
    return found


class DetectDialect(OpenAIDialect):
    """The management API's own form: problem details for errors. What it has of providers' answers is never used."""

    name = "trueport"

    def read(self, method: str, path: str, query: str, content_type: str, body: bytes) -> Request:  # noqa: ARG002
        if method != "POST":
            raise NotFound("This path is not part of the API.")
        if len(body) > MOST_BODY_BYTES:
            raise BodyTooLarge(limit_bytes=MOST_BODY_BYTES)
        members = read_object(body)
        asked(members)
        return Request(
            operation=OPERATION,
            model=None,
            streams=False,
            wants_usage_event=False,
            body=body,
            members=members,
            content_type="application/json",
            most_output_tokens=None,
            kind="own",
        )

    def refusal(self, error: TrueportError, interaction_id: str, request_id: str) -> tuple[int, HeaderList, bytes]:
        members = {
            **{name: value for name, value in error.fields.items() if name != "param"},
            "type": _ERRORS + error.code,
            "title": error.code.replace("_", " ").capitalize(),
            "status": error.status,
            "detail": error.message,
            "code": error.code,
            "request_id": request_id,
            "interaction_id": interaction_id,
        }
        head: HeaderList = [(b"content-type", b"application/problem+json")]
        if error.status in (429, 503):
            head.append((b"retry-after", b"%d" % max(1, error.retry_after_s or 1)))
        return error.status, head, msgspec.json.encode(members)


async def answer(admitted: Admitted, tools: Tools) -> tuple[bytes, str]:
    """The body of the answer, and the version of what read. Raises NothingRead."""
    wish = asked(admitted.request.members or {})
    wanted = READABLE if wish.categories is None else frozenset(wish.categories)
    policies = admitted.snapshot.policies if wish.policies else None
    judges = [_judge(admitted, policies, passage) for passage in wish.passages] if policies else []
    for_policies = frozenset[Category]().union(*(one.active.wanted for one in judges))
    readings = await read(tools.engine, wish.passages, wanted | for_policies)
    data = []
    for number, (passage, reading) in enumerate(zip(wish.passages, readings, strict=True)):
        shown = _shown(reading, wanted)
        if wish.policies:
            shown["decision"] = judges[number].decision(passage, reading) if judges else _NOTHING_DECIDED
        data.append(shown)
    version = tools.engine.version if tools.engine else ""
    body = {"id": admitted.call.interaction_id, "object": "detection", "engine": version, "data": data}
    return msgspec.json.encode(body), version


_NOTHING_DECIDED: Final[Mapping[str, object]] = {"action": "allow", "code": None, "hits": []}


@dataclass(frozen=True, slots=True)
class _Judge:
    """The tenant's policies for one text: those for input, or for output where a model would have written it."""

    active: ActivePolicies

    def decision(self, passage: Passage, reading: Reading) -> dict[str, object]:
        custom = self.active.custom(passage)
        # What was read for others is not for these.
        judged = Reading(
            reading.scores, reading.findings + custom, reading.embedding, _of_interest(reading, self.active.wanted)
        )
        verdict = self.active.decide([Judged("", passage, judged)])
        return {"action": verdict.action, "code": verdict.code, "hits": [_hit(hit) for hit in verdict.hits]}


def _judge(admitted: Admitted, policies: PolicySet, passage: Passage) -> _Judge:
    side: Side = "output" if passage.role in _WRITTEN_BY_MODELS else "input"
    caller = admitted.caller
    return _Judge(policies.for_call(side, Context(caller.environment, caller.key_id, user=admitted.user)))


def _shown(reading: Reading, wanted: frozenset[Category]) -> dict[str, Any]:
    lost = unread(reading, wanted)
    return {
        "scores": {
            category: round(reading.scores.get(category, 0.0), 6)
            for category in sorted(wanted)
            if category in reading.scores or category not in lost
        },
        "findings": [
            {
                "category": one.category,
                "type": one.type,
                "start": one.start,
                "end": one.end,
                "score": round(one.score, 6),
                "detector": one.detector,
                "version": one.version,
            }
            for one in reading.findings
            if one.category in wanted
        ],
        "failures": [
            {"detector": one.detector, "code": one.code, "categories": sorted(one.categories)}
            for one in _of_interest(reading, wanted)
        ],
    }


def _of_interest(reading: Reading, wanted: frozenset[Category]) -> tuple[Failure, ...]:
    """The failures that leave something of `wanted` open, and of it only that."""
    return tuple(Failure(left, one.detector, one.code) for one in reading.failures if (left := one.categories & wanted))


def _hit(hit: Hit) -> dict[str, object]:
    names = ("policy_id", "policy", "policy_version", "action", "mode", "side", "category", "type", "start", "end",
             "score", "threshold", "detector")  # fmt: skip
    return {name: getattr(hit, name) for name in names}
