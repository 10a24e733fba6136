"""Which guard a stream gets."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from trueport.detection.engine import Engine
from trueport.detection.policy import ActivePolicies
from trueport.detection.redact import Placeholders
from trueport.detection.types import Category
from trueport.gateway.call import Request, Wire
from trueport.gateway.guard.base import Judge
from trueport.gateway.guard.forms import ClientForm
from trueport.gateway.guard.judge import NoJudge, PolicyJudge, acting, rhythm_of, watching
from trueport.gateway.guard.stream import GuardedStream
from trueport.gateway.guard.watch import Watch

_LONGEST_MATCH: Final = 512
_PATTERNS: Final = "patterns"
_OPENAI: Final[Mapping[str, ClientForm]] = {
    "chat/completions": "openai_chat",
    "completions": "openai_completions",
    "responses": "openai_responses",
}


def client_form(wire: Wire, request: Request) -> ClientForm | None:
    """The form in which the answer to `request` streams; None for one that the guard does not know."""
    if wire == "openai":
        return _OPENAI.get(request.operation)
    if wire == "anthropic":
        return "anthropic" if request.operation == "messages" else None
    if not request.operation.endswith("streamGenerateContent"):
        return None
    return "google_array" if request.streams_as == "array" else "google_sse"


def guard_for(
    wire: Wire,
    request: Request,
    active: ActivePolicies | None,
    engine: Engine,
    now_s: Callable[[], float],
    placeholders: Placeholders | None = None,
) -> GuardedStream | None:
    """What stands between the stream that answers `request` and its client.

    active: the policies over the output; `placeholders` those of the call's own input, which the client gets its own
    words back for. None for a form that is not known here: such an answer has to be judged whole.
    """
    form = client_form(wire, request)
    if form is None:
        return None
    served_by_models = frozenset[Category]().union(
        *(detector.categories for detector in engine.detectors if detector.name != _PATTERNS)
    )
    longest = max((getattr(detector, "longest_match", _LONGEST_MATCH) for detector in engine.detectors), default=0)

    def judge_of(policies: ActivePolicies) -> Judge:
        own = placeholders.for_answer() if placeholders is not None else None
        return PolicyJudge(engine, policies, rhythm_of(policies, longest, served_by_models), now_s, own)

    front = acting(active) if active is not None else None
    behind = watching(active) if active is not None else None
    restores = placeholders is not None and placeholders.is_reversible
    own_words = _texts(request.members) if form == "openai_responses" else frozenset()
    return GuardedStream(
        form,
        judge_of(front) if front is not None else NoJudge(),
        now_s,
        restore=placeholders.restore if placeholders is not None and restores else None,
        watch=Watch(judge_of(behind)) if behind is not None else None,
        said_by_client=own_words.__contains__,
    )


def _texts(value: Any) -> frozenset[str]:
    """Every string in a request: its answer repeats some of them."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found.add(one)
        elif isinstance(one, Mapping):
            waiting += one.values()
            found.update(one)
        elif isinstance(one, list):
            waiting += one
    return frozenset(found)
