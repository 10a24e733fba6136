"""OpenAI's moderation operation, answered by our own detectors.

Source of the form: https://platform.openai.com/docs/api-reference/moderations. Our detectors tell insults and hate
apart from other texts but not threats, self-harm, violence or sexual content: those categories are false with a score
of 0 and name no input type they were applied to. What we read beyond OpenAI's list stands under `trueport`.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from trueport.detection.engine import unread
from trueport.detection.types import Category, Passage, Reading
from trueport.gateway.call import Admitted, Request
from trueport.gateway.intake import BodyTooLarge
from trueport.gateway.own.texts import MOST_BODY_BYTES, MOST_TEXTS, READABLE, NothingRead, read
from trueport.gateway.ports import Tools
from trueport.gateway.snapshot import TenantSnapshot
from trueport.kit.errors import InvalidRequest

OPERATION: Final = "moderations"
FLAGGED_FROM: Final = 0.5
READ_AS: Final[Mapping[str, Category]] = {"harassment": "toxicity", "hate": "bias"}
"""OpenAI's categories that we read, each by the category of ours that it is."""
NAMES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


def is_local(request: Request, snapshot: TenantSnapshot) -> bool:
    """Whether the tenant has chosen that its moderations are answered here."""
    return snapshot.moderates_itself and request.operation == OPERATION and request.method == "POST"


async def answer(admitted: Admitted, tools: Tools) -> tuple[bytes, str]:
    """The body of the answer, and the model it names. Raises InvalidRequest, BodyTooLarge, NothingRead."""
    if len(admitted.request.body) > MOST_BODY_BYTES:
        raise BodyTooLarge(limit_bytes=MOST_BODY_BYTES)
    texts = _texts((admitted.request.members or {}).get("input"))
    readings = await read(tools.engine, [Passage(text) for text in texts], READABLE)
    needed = frozenset(READ_AS.values())
    if any(unread(reading, needed) for reading in readings):
        # A client that only looks at `flagged` would take what was not read for harmless.
        raise NothingRead
    model = tools.engine.version if tools.engine else ""
    body = {
        "id": f"modr-{admitted.call.interaction_id}",
        "model": model,
        "results": [_result(reading) for reading in readings],
    }
    return msgspec.json.encode(body), model


def _texts(given: object) -> list[str]:
    """The texts to moderate, one result each: parts of one content belong together."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list):
        raise _refused("input must be a text, a list of texts, or a list of content parts.")
    if not 1 <= len(given) <= MOST_TEXTS:
        raise _refused(f"input holds 1 to {MOST_TEXTS} texts.")
    texts = [one for one in given if isinstance(one, str)]
    if len(texts) == len(given):
        return texts
    parts = []
    for number, part in enumerate(given):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise _refused("Only texts are read here: pictures cannot be moderated locally.", f"input[{number}]")
        parts.append(part["text"])
    return ["\n".join(parts)]


def _refused(message: str, param: str = "input") -> InvalidRequest:
    return InvalidRequest(message, param=param)


def _result(reading: Reading) -> dict[str, Any]:
    scores = {name: _score(reading, READ_AS[name]) if name in READ_AS else 0.0 for name in NAMES}
    categories = {name: score >= FLAGGED_FROM for name, score in scores.items()}
    own = {category: _score(reading, category) for category in sorted(READABLE - unread(reading, READABLE))}
    return {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": {name: ["text"] if name in READ_AS else [] for name in NAMES},
        "trueport": {
            "categories": {category: score >= FLAGGED_FROM for category, score in own.items()},
            "category_scores": own,
            "unread": sorted(unread(reading, READABLE)),
        },
    }


def _score(reading: Reading, category: Category) -> float:
    return round(reading.scores.get(category, 0.0), 6)
