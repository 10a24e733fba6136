"""Lists come in pages: newest or smallest id first as the repository orders them, with a cursor to the next."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Generic, TypeVar

import msgspec
from litestar.params import QueryParameter

DEFAULT_LIMIT: Final = 50
MOST: Final = 200

V = TypeVar("V")
M = TypeVar("M")


class Listed(msgspec.Struct, Generic[V]):
    """One page of a list; `next` is what to send as `after` for the following one."""

    data: list[V]
    has_more: bool
    next: str | None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """How many, and after which cursor."""

    limit: int = DEFAULT_LIMIT
    after: str | None = None


async def page_request(
    limit: Annotated[int, QueryParameter(ge=1, le=MOST, description="items per page")] = DEFAULT_LIMIT,
    after: Annotated[str | None, QueryParameter(max_length=200, description="`next` of the page before")] = None,
) -> PageRequest:
    """The `limit` and `after` of a listing call."""
    return PageRequest(limit, after)


def listed(items: Iterable[M], following: str | None, show: Callable[[M], V]) -> Listed[V]:
    """The page as clients see it."""
    return Listed(data=[show(item) for item in items], has_more=following is not None, next=following)
