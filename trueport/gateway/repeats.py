"""A call is made once, however often its client sends it: the `Idempotency-Key` of gateway POSTs."""

import re
from dataclasses import dataclass
from typing import Final, Protocol

from trueport.gateway.cache import KeptAnswer
from trueport.gateway.call import Admitted, Call, HeaderList, Outcome
from trueport.kit.errors import Conflict, InvalidRequest, TrueportError

_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")


class IdempotencyMismatch(TrueportError):
    """The key was used before, for another request."""

    code = "idempotency_mismatch"
    status = 422
    should_retry = False

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used before with a different request.")


class RequestInProgress(Conflict):
    """The first call with this key has not ended, or its answer is not yet where it can be read."""

    code = "request_in_progress"
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__("The first request with this Idempotency-Key is still being worked on.")


class OutcomeUnknown(Conflict):
    """The first call with this key broke off. What the provider did with it is not known, so it is not repeated."""

    code = "unknown_outcome"
    should_retry = False

    def __init__(self, interaction_id: str) -> None:
        super().__init__(
            f"The first request with this Idempotency-Key broke off: look up {interaction_id} in the log, and send "
            "the request again under another key if it is to be repeated.",
            interaction=interaction_id,
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """A key taken by a call that is under way. `name` is what the store calls it."""

    name: str
    admitted: Admitted


class Repeats(Protocol):
    """Remembers which keys were used for which calls."""

    async def claim(self, admitted: Admitted, key: str) -> Claim | KeptAnswer:
        """The key for this call, or the answer that the first call with it got.

        Raises IdempotencyMismatch, RequestInProgress, OutcomeUnknown, and a kit Unavailable.
        """

    def settle(self, claim: Claim, outcome: Outcome, head: HeaderList) -> None:
        """The call has ended; `head` are the headers its answer had. Synchronous, finished in the background.

        A whole answer with a status below 300 is kept. A refusal or an error frees the key: nothing was done that
        could be done twice, or the client was told that it failed. Anything else leaves the outcome unknown.
        """

    async def close(self) -> None:
        """Wait for what is still being written."""


def key_of(call: Call) -> str | None:
    """The call's Idempotency-Key, None without one. Raises InvalidRequest for one that cannot be a key."""
    if call.method != "POST":
        return None
    found = [value for name, value in call.headers if name == b"idempotency-key"]
    if not found:
        return None
    if len(found) > 1 or _KEY.fullmatch(found[0]) is None:
        raise InvalidRequest("An Idempotency-Key has 1 to 255 visible ASCII characters, and is sent once.")
    return found[0].decode()
