"""One model on the server: its contract, its breaker, and passages read with it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from trueport.detection.base import DetectorFailed
from trueport.detection.triton.breaker import Breaker
from trueport.detection.triton.catalogue import ENTITY_MODEL, Catalogue, ServedName
from trueport.detection.triton.connection import Connection
from trueport.detection.triton.contract import (
    Answer,
    Contract,
    ContractBroken,
    check_answer,
    read_up_to,
    scores,
    tokens,
)
from trueport.detection.triton.cutting import Cutter, Piece
from trueport.detection.triton.entities import FAINT, Entity, EntityTypes, join
from trueport.detection.types import Category, Failure, Finding, Passage, Reading
from trueport.kit.clock import Clock
from trueport.kit.logging import get_logger

log = get_logger(__name__)

_MOST_PIECES: Final = 1_024
"""Of one passage: about 700,000 characters. What is longer is reported as not read."""
_MOST_ROUNDS: Final = 8
_DETECTOR: Final = "triton"
_REQUESTS_AT_ONCE: Final = 4
_MOST_READS: Final = 64
"""At the same time. Triton's own bound on its queue makes some versions wait half a second now and then."""
_DEFAULT_TIMEOUT_MS: Final = 40


class View(Protocol):
    """A reading of a text, with the way back to the original's offsets."""

    @property
    def text(self) -> str: ...
    def original(self, start: int, end: int) -> tuple[int, int]: ...


Views = Callable[[str], Sequence[View]]


@dataclass(frozen=True, slots=True)
class Timing:
    """`timeout_ms` of one request: None leaves it to the model's configuration, or 40."""

    timeout_ms: int | None = None
    connect_timeout_s: float = 0.5
    recheck_s: float = 30.0


@dataclass(frozen=True, slots=True)
class _Row:
    """A piece of one view of the passage at position `passage`."""

    passage: int
    view: View
    piece: Piece


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the model says of one text: scores by category and type, entities, and how many code points it read.

    `version` is that of the model which said so: it may be replaced between two requests.
    """

    scores: Mapping[tuple[Category, str], float]
    entities: Sequence[Entity]
    read: int
    version: str


class Served:
    """Used from one event loop."""

    def __init__(
        self,
        name: ServedName,
        connection: Connection,
        catalogue: Catalogue,
        views: Views,
        clock: Clock,
        timing: Timing,
        breaker: Breaker,
    ) -> None:
        self.name: Final = name
        self._connection = connection
        self._catalogue = catalogue
        self._rules = catalogue.served_by(name)
        self._views = views
        self._clock = clock
        self._timing = timing
        self._breaker = breaker
        self._reads = 0
        self._contract: Contract | None = None
        self._checked_s = 0.0
        self._asking: asyncio.Task[Contract] | None = None

    @property
    def contract(self) -> Contract | None:
        """As last seen; None before the first answer and after the server was away."""
        return self._contract

    @property
    def categories(self) -> frozenset[Category]:
        """Those every such model has to answer, and the optional ones that the one on the server does."""
        return frozenset(
            category
            for category, rule in self._rules.items()
            if not rule.optional or (self._contract is not None and rule.columns(self._contract.labels))
        )

    async def connect(self) -> Contract:
        """The contract, read from the server when there is none or it is old. Raises DetectorFailed."""
        is_fresh = self._clock.monotonic() - self._checked_s <= self._timing.recheck_s
        if self._contract is not None and is_fresh:
            return self._contract
        if self._asking is None:
            # One question for all who wait: one after the other they would each wait for a server that hangs.
            self._asking = asyncio.get_running_loop().create_task(self._ask_contract())
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    async def read(self, passages: Sequence[Passage], wanted: frozenset[Category]) -> list[Reading]:
        """One reading for each passage, with a score for every category of `wanted` that the model answers.

        Raises DetectorFailed.
        """
        if self._reads >= _MOST_READS:
            raise DetectorFailed("overloaded")
        if not self._breaker.lets_through():
            raise DetectorFailed("unavailable")
        self._reads += 1
        try:
            readings = await self._read(passages, wanted)
        except DetectorFailed as failed:
            self._breaker.failed()
            if failed.code != "timeout":
                # Whatever is there next may be another model.
                self._contract = None
            if isinstance(failed, ContractBroken):
                log.error("detector_contract_broken", component="triton", model=self.name, reason=failed.reason)
            raise
        except BaseException:
            self._breaker.abandoned()
            raise
        finally:
            self._reads -= 1
        self._breaker.succeeded()
        return readings

    async def _read(self, passages: Sequence[Passage], wanted: frozenset[Category]) -> list[Reading]:
        contract = await self.connect()
        cutter = Cutter.for_model(contract.max_tokens, tells_how_far=contract.tells_how_far)
        asked = [wanted & self._catalogue.roles.get(passage.role, wanted) for passage in passages]
        cut = [self._cut(at, passage, cutter) if asked[at] else [] for at, passage in enumerate(passages)]
        too_long = {at for at, rows in enumerate(cut) if len(rows) > _MOST_PIECES}
        left = [row for at, rows in enumerate(cut) for row in rows if at not in too_long]
        said: list[list[tuple[_Row, _Heard]]] = [[] for _ in passages]
        for _ in range(_MOST_ROUNDS):
            if not left:
                break
            heard = await self._hear([row.piece.text for row in left])
            for row in left:
                said[row.passage].append((row, heard[row.piece.text]))
            left = [rest for row in left for rest in _left_over(row, heard[row.piece.text].read, cutter)]
        too_long |= {row.passage for row in left}
        return [
            Reading(failures=(Failure(wanted, _DETECTOR, "too_long"),))
            if at in too_long
            else _reading(said[at], asked[at], wanted)
            for at in range(len(passages))
        ]

    def _cut(self, at: int, passage: Passage, cutter: Cutter) -> list[_Row]:
        return [_Row(at, view, piece) for view in self._views(passage.text) for piece in cutter.pieces(view.text)]

    async def _hear(self, texts: Iterable[str]) -> dict[str, _Heard]:
        """What the model says of each text. The same text is asked about once, and as many as fit go in a request."""
        contract = await self.connect()
        distinct = [*dict.fromkeys(texts)]
        requests = [distinct[at : at + contract.max_rows] for at in range(0, len(distinct), contract.max_rows)]
        gate = asyncio.Semaphore(_REQUESTS_AT_ONCE)

        async def ask(request: Sequence[str]) -> list[_Heard]:
            async with gate:
                return await self._ask(request, contract)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(request)) for request in requests]
        except* DetectorFailed as failures:
            raise _first(failures) from failures
        return {
            text: one
            for request, task in zip(requests, tasks, strict=True)
            for text, one in zip(request, task.result(), strict=True)
        }

    async def _ask(self, texts: Sequence[str], contract: Contract) -> list[_Heard]:
        """One request. Raises DetectorFailed."""
        timeout_ms = self._timing.timeout_ms or contract.timeout_ms or _DEFAULT_TIMEOUT_MS
        answer = await self._connection.infer(contract, texts, timeout_s=timeout_ms / 1_000)
        if answer.model_version not in contract.versions:
            # The model was replaced. Who gave this answer is to be known before it counts.
            self._contract = None
            contract = await self.connect()
        check_answer(answer, contract)
        if contract.gives_tokens:
            # Tens of milliseconds for a full batch, which the event loop must not stand still for.
            return await asyncio.to_thread(self._understand, answer, contract, texts)
        return self._understand(answer, contract, texts)

    def _understand(self, answer: Answer, contract: Contract, texts: Sequence[str]) -> list[_Heard]:
        """The checked answer, a part for each text. Raises ContractBroken."""
        lengths = np.array([len(text) for text in texts], np.int64)
        read = read_up_to(answer, contract, lengths).tolist()
        if contract.gives_tokens:
            types = EntityTypes(contract.labels, self._catalogue.entity_type)
            probabilities, offsets = tokens(answer, contract, lengths)
            return [
                _Heard({}, types.find(probabilities[row], offsets[row], text), read[row], contract.version)
                for row, text in enumerate(texts)
            ]
        values = scores(answer, contract, len(texts)).tolist()
        answers = [
            (column, (category, rule.type or contract.labels[column].upper()))
            for category, rule in self._rules.items()
            for column in rule.columns(contract.labels)
        ]
        return [
            _Heard(_highest((key, values[row][column]) for column, key in answers), (), read[row], contract.version)
            for row in range(len(texts))
        ]

    async def _ask_contract(self) -> Contract:
        asked_s = self._clock.monotonic()
        is_entity_model = self.name == ENTITY_MODEL
        contract = self._check_labels(
            await self._connection.contract(
                self.name, gives_tokens=is_entity_model, timeout_s=self._timing.connect_timeout_s
            )
        )
        self._contract, self._checked_s = contract, asked_s
        return contract

    def _asked(self, task: asyncio.Task[Contract]) -> None:
        self._asking = None
        if not task.cancelled():
            # Whoever asked may have left; a failure that nobody collects is one too many in the log.
            task.exception()

    def _check_labels(self, contract: Contract) -> Contract:
        """Raises ContractBroken unless the model has labels for all it has to answer."""
        if contract.gives_tokens:
            if not EntityTypes(contract.labels, self._catalogue.entity_type).types:
                raise ContractBroken("no label names an entity")
            return contract
        for category, rule in self._rules.items():
            if not rule.optional and not rule.columns(contract.labels):
                raise ContractBroken(f"no label answers {category}")
        return contract


def _reading(said: Sequence[tuple[_Row, _Heard]], asked: frozenset[Category], wanted: frozenset[Category]) -> Reading:
    """What was said of one passage's pieces. Categories that are not asked of its role score 0."""
    highest: dict[Category, float] = dict.fromkeys(wanted if not said else wanted - asked, 0.0)
    findings: list[Finding] = []
    entities: dict[str, list[Entity]] = {}
    for row, heard in said:
        for (category, type_), score in heard.scores.items():
            if category in asked:
                highest[category] = max(score, highest.get(category, 0.0))
                if score >= FAINT:
                    start, end = row.view.original(row.piece.start, row.piece.start + heard.read)
                    findings.append(Finding(category, type_, start, end, score, _DETECTOR, heard.version))
        if "pii" in asked and not heard.scores:
            highest.setdefault("pii", 0.0)
            entities.setdefault(heard.version, []).extend(_placed(entity, row) for entity in heard.entities)
    for version, found in entities.items():
        for entity in join(found):
            highest["pii"] = max(entity.score, highest["pii"])
            findings.append(Finding("pii", entity.type, entity.start, entity.end, entity.score, _DETECTOR, version))
    unanswered = asked - highest.keys()
    failures = (Failure(unanswered, _DETECTOR, "unavailable"),) if unanswered else ()
    return Reading(scores=highest, findings=tuple(findings), failures=failures)


def _placed(entity: Entity, row: _Row) -> Entity:
    start, end = row.view.original(row.piece.start + entity.start, row.piece.start + entity.end)
    return Entity(entity.type, start, end, entity.score)


def _left_over(row: _Row, read: int, cutter: Cutter) -> list[_Row]:
    """The rest of a piece that did not fit into the model, in pieces as short as what did."""
    piece = row.piece
    if read >= len(piece.text):
        return []
    start = cutter.next_start(piece.start, piece.start + read)
    shorter = Cutter(max(len(piece.text[:read].encode("utf-8", "replace")), 1))
    return [_Row(row.passage, row.view, rest) for rest in shorter.pieces(row.view.text[: piece.end], start)]


def _highest(scored: Iterable[tuple[tuple[Category, str], float]]) -> dict[tuple[Category, str], float]:
    highest: dict[tuple[Category, str], float] = {}
    for key, score in scored:
        highest[key] = max(score, highest.get(key, 0.0))
    return highest


def _first(failures: BaseExceptionGroup[DetectorFailed]) -> DetectorFailed:
    first = failures.exceptions[0]
    return first if isinstance(first, DetectorFailed) else _first(first)
