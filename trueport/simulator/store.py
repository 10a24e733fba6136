"""What the simulated provider remembers between calls: files, batches, stored responses, cached prompt prefixes."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

_MOST_KEPT: Final = 2_000
_MOST_FILE_BYTES: Final = 256 * 1024 * 1024


class Shelf(Generic[T]):
    """Things by id in the order they came; the oldest go when there are too many, or weigh too much together."""

    def __init__(self, weigh: Callable[[T], int] = lambda _: 0, heaviest: int = _MOST_FILE_BYTES) -> None:
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._weigh = weigh
        self._heaviest = heaviest
        self._weight = 0

    def put(self, name: str, thing: T) -> None:
        self.take(name)
        self._kept[name] = thing
        self._weight += self._weigh(thing)
        while len(self._kept) > _MOST_KEPT or (self._weight > self._heaviest and len(self._kept) > 1):
            self.take(next(iter(self._kept)))

    def get(self, name: str) -> T | None:
        return self._kept.get(name)

    def take(self, name: str) -> T | None:
        """Remove a thing and return it; None if there is none of that name."""
        thing = self._kept.pop(name, None)
        if thing is not None:
            self._weight -= self._weigh(thing)
        return thing

    def newest_first(self) -> Iterator[tuple[str, T]]:
        return iter(list(reversed(self._kept.items())))

    def clear(self) -> None:
        self._kept.clear()
        self._weight = 0


class StoredFile(NamedTuple):
    """A file as it was uploaded or written by a batch."""

    name: str
    purpose: str
    data: bytes


class StoredResponse(NamedTuple):
    """A response as it stands, and its input items as JSON texts; `history` is what a next turn would read first."""

    body: dict[str, object]
    items: list[bytes]
    history: list[bytes]


class StoredBatch(NamedTuple):
    """A batch: what was asked (lines or requests, as JSON texts), what is told of it, and its result lines.

    `results` is None until somebody looks at the batch for the first time after it was created: that is when
    its work is done.
    """

    body: dict[str, object]
    asked: list[bytes]
    results: list[bytes] | None = None


class Store:
    """Everything kept between calls; `reset` forgets it."""

    def __init__(self) -> None:
        self.files: Shelf[StoredFile] = Shelf(lambda file: len(file.data))
        self.responses: Shelf[StoredResponse] = Shelf()
        self.batches: Shelf[StoredBatch] = Shelf(_batch_bytes)
        self.message_batches: Shelf[StoredBatch] = Shelf(_batch_bytes)
        self._prefixes: Shelf[bool] = Shelf()

    def has_seen(self, prefix: str) -> bool:
        """Whether this prompt prefix (its digest) is cached; from now on it is."""
        seen = self._prefixes.get(prefix) is not None
        self._prefixes.put(prefix, thing=True)
        return seen

    def clear(self) -> None:
        for shelf in (self.files, self.responses, self.batches, self.message_batches, self._prefixes):
            shelf.clear()


def _batch_bytes(batch: StoredBatch) -> int:
    return sum(map(len, batch.asked)) + sum(map(len, batch.results or ()))
