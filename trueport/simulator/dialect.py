"""What sets one provider's way of speaking apart from another's, as far as the shared parts must know it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from trueport.simulator.http import Request
from trueport.simulator.reply import Letterhead, Reply

DialectName = Literal["openai", "anthropic", "google", "azure"]

# A key every dialect refuses, and the start of a bearer token that has run out.
WRONG_KEY = "sk-invalid"
EXPIRED_TOKEN = "sim-expired"  # noqa: S105 - a mark inside made-up tokens


class ErrorReply(Protocol):
    """Words an error as the provider does; members its errors do not have are dropped."""

    def __call__(
        self,
        status: int,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: str | None = None,
    ) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Marks:
    """Bytes by which a fault finds what it bends in an event or body of this dialect.

    `is_end` tells the event that ends a stream; `finish` stands where the reason of the end is told; `index` and `id`
    are what to look for and what to put there; `text` stands before a piece of the answer.
    """

    is_end: Callable[[bytes], bool]
    finish: bytes
    index: tuple[bytes, bytes]
    id: tuple[bytes, bytes]
    text: bytes


@dataclass(frozen=True, slots=True)
class Dialect:
    """One provider's habits.

    `key` finds the key in a request, and `unauthorised` is the reply to a missing (None) or wrong one.
    `stream_error` is the event that breaks a stream off, given the request's id and the number of events before it.
    `signed` puts the request's id into an error body where the provider does so.
    """

    name: DialectName
    letterhead: Letterhead
    key: Callable[[Request], str | None]
    unauthorised: Callable[[Request, str | None], Reply]
    error: ErrorReply
    stream_error: Callable[[str, int], bytes]
    marks: Marks
    signed: Callable[[Reply, str], Reply] | None = None


def bearer_key(request: Request) -> str | None:
    """The key of the Authorization header, or None."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None
