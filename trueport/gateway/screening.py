"""Screening: the stage between a recorded intent and the provider, and the one before an answer leaves."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trueport.detection.types import Side
from trueport.gateway.call import Admitted, Judgement, Recorded, Screened
from trueport.gateway.ports import Screener
from trueport.gateway.snapshot import Target
from trueport.kit.errors import InvalidRequest, TrueportError, Unavailable

if TYPE_CHECKING:
    from trueport.detection.redact import Placeholders


class ContentBlocked(InvalidRequest):
    """A policy does not allow what the call says, or what the model answered. The message does not tell the text."""

    code = "content_policy_violation"
    should_retry = False

    def __init__(self, side: Side) -> None:
        what = "request" if side == "input" else "answer"
        super().__init__(f"The {what} was blocked by a content policy.")


class DetectorUnavailable(Unavailable):
    """A text could not be read in time, and a policy says that nothing unread passes."""

    code = "detector_unavailable"

    def __init__(self) -> None:
        super().__init__("The content could not be inspected, and the policy does not let it pass uninspected.")


@dataclass(frozen=True, slots=True)
class Inspected:
    """An answer as it may leave, or the refusal that leaves in its place."""

    body: bytes
    judgement: Judgement | None = None
    refusal: TrueportError | None = None


async def screen_input(recorded: Recorded, screener: Screener) -> Screened:
    """The call with the policies' decision on its input."""
    return await screener.inspect_input(recorded)


class NoPolicies:
    """A screener that inspects nothing and allows everything."""

    async def inspect_input(self, recorded: Recorded) -> Screened:
        return Screened(recorded, "allow")

    async def inspect_output(
        self,
        admitted: Admitted,  # noqa: ARG002 - the Protocol's arguments
        target: Target | None,  # noqa: ARG002
        body: bytes,
        content_type: str,  # noqa: ARG002
        placeholders: "Placeholders | None" = None,  # noqa: ARG002
    ) -> Inspected:
        return Inspected(body)

    def guard(
        self,
        admitted: Admitted,  # noqa: ARG002 - the Protocol's arguments
        target: Target,  # noqa: ARG002
        placeholders: "Placeholders | None" = None,  # noqa: ARG002
    ) -> None:
        return None
