"""Input screening: the stage between a recorded intent and the provider."""

from trueport.gateway.call import Decision, Recorded, Screened
from trueport.gateway.ports import Screener


async def screen_input(recorded: Recorded, screener: Screener) -> Screened:
    """The call with the policies' decision on its input."""
    return Screened(recorded, await screener.inspect_input(recorded))


class NoPolicies:
    """The screener of a tenant without policies: nothing is inspected and everything allowed, at policy version 0."""

    async def inspect_input(self, recorded: Recorded) -> Decision:  # noqa: ARG002 - the Protocol's argument
        return "allow"
