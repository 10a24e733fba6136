"""The embedded detector: one small encoder with several heads, in this process, on threads of its own.

A passage becomes views (as it stands, and unfolded where that differs), a view becomes windows of tokens, and every
window has one verdict, remembered by a keyed digest of its tokens: system prompts and earlier turns cost nothing. The
score of a passage is the highest of its windows'.
"""

import asyncio
import hashlib
import os
import secrets
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from tokenizers import Tokenizer

from trueport.detection.accounting import Work
from trueport.detection.artefact import HEADS, NAME, BrokenArtefact, read_meta
from trueport.detection.base import DetectorFailed
from trueport.detection.entities import Entity, join, widen
from trueport.detection.guard import Guard, Verdict
from trueport.detection.turns import Turns
from trueport.detection.types import Category, Failure, Finding, Passage, Reading, Role
from trueport.detection.views import View, Views, as_written
from trueport.detection.windows import Span, TokenIds, Tokens, cut, is_prose, reading_order, tokenise
from trueport.kit.logging import get_logger

log = get_logger(__name__)

T = TypeVar("T")

MOST_WINDOWS: Final = 400
"""Of one passage; 400 are about 77,000 tokens and 8 s of a core. What is beyond fails as `too_long`."""
LONGEST: Final = 1 << 20
"""Code points of a passage that are tokenised, at 0.3 s a million; a longer one fails as `too_long`."""
SHORT: Final = 1_000
"""Code points of a call that are cut up on the event loop: 0.3 ms. A hop to a thread costs 0.1 ms."""
_PAGES: Final = 10_000
_LEAST_SCORE: Final = 0.05
"""Of a window that becomes a finding."""

_TO_THE_MODEL: Final[frozenset[Category]] = frozenset({"prompt_injection", "jailbreak", "toxicity", "bias", "pii"})
_BROUGHT_IN: Final[frozenset[Category]] = _TO_THE_MODEL | {"indirect_injection"}
_BY_THE_MODEL: Final[frozenset[Category]] = frozenset({"toxicity", "bias", "pii"})
# Nothing but orders to the model: every injection model takes that for an attack.
_ORDERS: Final[frozenset[Category]] = frozenset({"pii"})
READ_IN: Final[Mapping[Role, frozenset[Category]]] = {
    "system": _ORDERS,
    "tool_definition": _ORDERS,
    "user": _TO_THE_MODEL,
    "metadata": _TO_THE_MODEL,
    "tool_result": _BROUGHT_IN,
    "document": _BROUGHT_IN,
    "assistant": _BY_THE_MODEL,
    "reasoning": _BY_THE_MODEL,
    "tool_call": _BY_THE_MODEL,
}
"""What is looked for in a passage, by its role. Whatever else the model serves has the score 0 there."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a view's tokens. `key` is a keyed digest of their ids."""

    view: View
    tokens: Tokens
    span: Span
    key: bytes
    is_unfolded: bool

    @property
    def ids(self) -> TokenIds:
        return self.tokens.ids[self.span.start : self.span.stop]

    def in_view(self, start: int, stop: int) -> Span:
        """The view's code points that the tokens from `start` up to `stop`, counted in the window, stand for."""
        first, last = self.span.start + start, self.span.start + stop - 1
        return Span(int(self.tokens.offsets[first, 0]), int(self.tokens.offsets[last, 1]))

    def in_original(self, start: int, stop: int) -> Span:
        place = self.in_view(start, stop)
        return Span(*self.view.original(place.start, place.stop))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A passage's windows in the order to read them, none beyond the cap."""

    windows: tuple[Window, ...] = ()
    is_too_long: bool = False


class OnnxDetector:
    """The model in a folder, as trueport.detection.guard describes it. Used from one event loop."""

    name: Final = NAME

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        views: Views = as_written,
        cache_entries: int = 16_384,
        most_waiting: int = 1_024,
    ) -> None:
        """Read the folder's description; the model itself is loaded by `prepare` or the first call.

        threads: on which the model runs; without it two, or fewer where that would leave no core to the event loop.
        views: the readings of a text that are read; called off the event loop for long texts.
        cache_entries: windows whose verdict is remembered, at about 2 kB each.
        most_waiting: windows that wait for a thread at most; what comes then is refused as overload.
        Raises BrokenArtefact.
        """
        self._folder = folder
        self._meta = read_meta(folder)
        self._views = views
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()
        self._cache_entries = cache_entries
        self._key = secrets.token_bytes(32)
        self._guard: Guard | None = None
        self._loading: asyncio.Task[Guard] | None = None
        # Of its own, so that a text to be cut up does not wait behind the model.
        self._cutting = ThreadPoolExecutor(1, thread_name_prefix="trueport-windows")
        # And long ones do not hold up those of a page or two.
        self._cutting_long = ThreadPoolExecutor(1, thread_name_prefix="trueport-long-windows")
        self._turns = Turns(self._run, self._keep, threads=threads or _default_threads(), most_waiting=most_waiting)

    @property
    def version(self) -> str:
        return self._meta.version

    @property
    def categories(self) -> frozenset[Category]:
        return self._meta.categories

    @property
    def bands(self) -> Mapping[Category, Mapping[str, float]]:
        """As in the folder's description."""
        return self._meta.bands

    @property
    def work(self) -> Work:
        return self._turns.work

    async def prepare(self) -> None:
        """Load the model, off the event loop. Raises DetectorFailed("contract") when it is not what it should be."""
        await self._loaded()

    async def read(self, passages: Sequence[Passage], wanted: frozenset[Category]) -> list[Reading]:
        """One reading for each passage. `custom` among `wanted` asks for the embedding, whatever the role.

        What of a passage is beyond `MOST_WINDOWS` is a failure in its reading. Raises DetectorFailed.
        """
        served = wanted & self.categories
        sought = [served & (READ_IN[passage.role] | {"custom"}) for passage in passages]
        texts = [passage.text if looked_for else "" for passage, looked_for in zip(passages, sought, strict=True)]
        if not any(texts):
            return [Reading(_zeros(served)) for _ in passages]
        guard = await self._loaded()
        prepared = await self._prepare(guard, texts)
        verdicts = await self._verdicts_on([window for one in prepared for window in one.windows])

        def assemble() -> list[Reading]:
            return [
                _reading(served, looked_for, passage.text, one, verdicts, self.version)
                for looked_for, passage, one in zip(sought, passages, prepared, strict=True)
            ]

        return assemble() if _is_short(texts) else await self._off_the_loop(assemble, sum(map(len, texts)))

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
        await self._turns.close()
        self._cutting.shutdown(wait=False, cancel_futures=True)
        self._cutting_long.shutdown(wait=False, cancel_futures=True)
        self._verdicts.clear()

    async def _loaded(self) -> Guard:
        if self._guard is None:
            if self._loading is None:
                self._loading = asyncio.get_running_loop().create_task(self._load())
                self._loading.add_done_callback(_retrieve)
            # Shielded: the first caller's leaving must not take the model from the others.
            self._guard = await asyncio.shield(self._loading)
        return self._guard

    async def _load(self) -> Guard:
        try:
            return await asyncio.to_thread(Guard, self._folder, self._meta)
        except BrokenArtefact as error:
            log.error("model_refused", component=self.name, reason=str(error))
            raise DetectorFailed("contract") from error

    def _run(self, window: TokenIds) -> tuple[Verdict, float]:
        if self._guard is None:
            raise DetectorFailed("unavailable")
        return self._guard.run(window)

    async def _prepare(self, guard: Guard, texts: Sequence[str]) -> list[Prepared]:
        """Each text's windows. One text a hop, so that a call which is cancelled leaves at most one behind."""
        cut_up = partial(prepare, guard.tokenizer, guard.window_tokens, self._views, self._key)
        if _is_short(texts):
            return [cut_up(text) for text in texts]
        return [await self._off_the_loop(partial(cut_up, text), len(text)) for text in texts]

    async def _off_the_loop(self, work: Callable[[], T], code_points: int) -> T:
        pool = self._cutting if code_points <= _PAGES else self._cutting_long
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except RuntimeError as error:
            # The executor has been shut down.
            raise DetectorFailed("unavailable") from error

    async def _verdicts_on(self, windows: Sequence[Window]) -> Mapping[bytes, Verdict]:
        known: dict[bytes, Verdict] = {}
        fresh: dict[bytes, TokenIds] = {}
        for window in windows:
            verdict = self._verdicts.get(window.key)
            if verdict is None:
                fresh[window.key] = window.ids
            else:
                self._verdicts.move_to_end(window.key)
                known[window.key] = verdict
        self.work.windows_remembered += len(known)
        return known | await self._turns.read(fresh) if fresh else known

    def _keep(self, key: bytes, verdict: Verdict) -> None:
        """Remember a verdict as soon as it is there: a call that runs out of time comes further when it is repeated."""
        self._verdicts[key] = verdict
        while len(self._verdicts) > self._cache_entries:
            self._verdicts.popitem(last=False)


def prepare(tokenizer: Tokenizer, window_tokens: int, views: Views, key: bytes, text: str) -> Prepared:
    """The windows of a text and of its other views, in the order to read them. Long work."""
    is_too_long = len(text) > LONGEST
    if is_too_long:
        text = text[:LONGEST]
    windows = list(_windows(tokenizer, window_tokens, views(text), key))
    if len(windows) <= MOST_WINDOWS:
        return Prepared(tuple(windows), is_too_long)
    # What does not read like language is where something may be hidden; the rest is for the patterns alone.
    strange = [at for at, window in enumerate(windows) if not is_prose(_slice(window.view, _whole(window)))]
    order = reading_order(len(windows), strange)
    return Prepared(tuple(windows[at] for at in order[:MOST_WINDOWS]), is_too_long=True)


def _windows(tokenizer: Tokenizer, window_tokens: int, views: Sequence[View], key: bytes) -> Iterator[Window]:
    for number, view in enumerate(views):
        tokens = tokenise(tokenizer, view.text)
        for span in cut(len(tokens.ids), window_tokens):
            ids = tokens.ids[span.start : span.stop]
            digest = hashlib.blake2b(ids.tobytes(), key=key, digest_size=20).digest()
            yield Window(view, tokens, span, digest, is_unfolded=number > 0)


def _reading(
    served: frozenset[Category],
    sought: frozenset[Category],
    text: str,
    prepared: Prepared,
    verdicts: Mapping[bytes, Verdict],
    version: str,
) -> Reading:
    """What the verdicts say of one passage, whose text is `text`: of `served` only what was `sought` in its role."""
    judged = [(window, verdicts[window.key]) for window in prepared.windows]
    scores = _zeros(served)
    found: list[Finding] = []
    for category, head in HEADS.items():
        if category in sought:
            scores[category] = max((verdict.probabilities[head] for _, verdict in judged), default=0.0)
            found += _of_windows(judged, category, text, version)
    if "pii" in sought:
        entities = _entities(judged, text)
        scores["pii"] = max((entity.score for entity in entities), default=0.0)
        found += [Finding("pii", one.type, one.start, one.stop, one.score, NAME, version) for one in entities]
    failures = (Failure(sought, NAME, "too_long"),) if prepared.is_too_long and sought else ()
    return Reading(scores, tuple(found), _embedding(judged) if "custom" in sought else None, failures)


def _of_windows(judged: Sequence[tuple[Window, Verdict]], category: Category, text: str, version: str) -> list[Finding]:
    """A finding for each stretch of the text that scored, with the highest score of the windows that cover it."""
    best: dict[Span, Finding] = {}
    for window, verdict in judged:
        score = verdict.probabilities[HEADS[category]]
        span = _trimmed(text, window.in_original(0, len(window.ids)))
        if score >= _LEAST_SCORE and (span not in best or score > best[span].score):
            reason = "unfolded" if window.is_unfolded else ""
            best[span] = Finding(category, category.upper(), span.start, span.stop, score, NAME, version, reason)
    return list(best.values())


def _entities(judged: Sequence[tuple[Window, Verdict]], text: str) -> list[Entity]:
    """Names and places in code points of `text`, whole words, each once."""
    found = []
    for window, verdict in judged:
        for run in verdict.entities:
            place = window.in_original(run.start, run.stop)
            found.append(widen(Entity(run.type, place.start, place.stop, run.score), text))
    return join(found)


def _embedding(judged: Sequence[tuple[Window, Verdict]]) -> tuple[float, ...] | None:
    """The mean of the windows of the text as it stands, weighted by their tokens, of length 1."""
    raw = [(window, verdict) for window, verdict in judged if verdict.embedding and not window.is_unfolded]
    if not raw:
        return None
    vectors = np.stack([np.frombuffer(verdict.embedding, np.float32) for _, verdict in raw]).astype(np.float64)
    mean = np.average(vectors, axis=0, weights=[len(window.ids) for window, _ in raw])
    length = float(np.linalg.norm(mean))
    return tuple((mean / length).tolist()) if length else None


def _default_threads() -> int:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(2, max(1, cores - 1))


def _is_short(texts: Sequence[str]) -> bool:
    return sum(map(len, texts)) <= SHORT


def _retrieve(task: "asyncio.Task[Guard]") -> None:
    """Take the exception: whoever waited may have left, and every later call meets it anyway."""
    if not task.cancelled():
        task.exception()


def _zeros(categories: frozenset[Category]) -> dict[Category, float]:
    # `custom` has no score: the embedding is its answer.
    return dict.fromkeys(categories - {"custom"}, 0.0)


def _whole(window: Window) -> Span:
    return window.in_view(0, len(window.ids))


def _slice(view: View, span: Span) -> str:
    return view.text[span.start : span.stop]


def _trimmed(text: str, span: Span) -> Span:
    """The span without white space at its ends."""
    part = text[span.start : span.stop]
    start = span.start + len(part) - len(part.lstrip())
    return Span(start, max(start, span.start + len(part.rstrip())))
