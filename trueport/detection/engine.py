"""Reads passages with every detector that serves what is wanted, at the same time and within one deadline.

The engine never raises for a detector and never takes silence for "nothing found": what was not read is in the
reading's failures, and `unread` says which categories that leaves open.
"""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trueport.detection.accounting import DetectorStats, EngineStats, KeepsAccounts
from trueport.detection.base import Detector, DetectorFailed
from trueport.detection.merging import check_readings, merge
from trueport.detection.types import Category, Failure, Passage, Reading
from trueport.kit.clock import Clock
from trueport.kit.logging import get_logger

log = get_logger(__name__)

# A passage's text is digested on the event loop: a millisecond for a megabyte. Longer ones are not worth remembering.
_LONGEST_REMEMBERED: Final = 65_536
_LONE_SURROGATES: Final = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")


@dataclass(frozen=True, slots=True)
class Chain:
    """Detectors of which one answer is enough: the next is asked for what the one before could not read."""

    members: tuple[Detector, ...]

    @property
    def categories(self) -> frozenset[Category]:
        return frozenset().union(*(member.categories for member in self.members))


def unread(reading: Reading, wanted: frozenset[Category]) -> frozenset[Category]:
    """Those of `wanted` that a detector should have read and none of its chain did, in whole or in part.

    Patterns that answered the same category do not make up for a model that did not. A failure that the next of the
    chain made good for is in the reading with no categories left.
    """
    return wanted & frozenset().union(*(failure.categories for failure in reading.failures))


class Engine:
    """Several detectors as one. Used from one event loop; holds no text once a call is over."""

    def __init__(self, detectors: Sequence[Detector | Chain], clock: Clock, *, cache_entries: int = 2_048) -> None:
        self._chains = [one if isinstance(one, Chain) else Chain((one,)) for one in detectors]
        self._clock = clock
        self._remembered: OrderedDict[_Key, Reading] = OrderedDict()
        self._cache_entries = cache_entries
        self._digest_key = secrets.token_bytes(32)
        self._stats = EngineStats(
            detectors={
                member.name: DetectorStats(work=member.work if isinstance(member, KeepsAccounts) else None)
                for member in self.detectors
            }
        )

    @property
    def detectors(self) -> tuple[Detector, ...]:
        """Each once, also where it stands in for another in a chain."""
        return tuple(dict.fromkeys(member for chain in self._chains for member in chain.members))

    @property
    def categories(self) -> frozenset[Category]:
        """What it can look for; a category outside this fails as unavailable wherever it is wanted."""
        return frozenset().union(*(chain.categories for chain in self._chains))

    @property
    def version(self) -> str:
        """Every detector with its rule pack or model, such as `patterns:3 onnx:0f3a…`; changes when one does."""
        return " ".join(f"{member.name}:{member.version}" for member in self.detectors)

    @property
    def bands(self) -> Mapping[str, Mapping[Category, Mapping[str, float]]]:
        """The scores that detectors, by name, have a word for: `flag` and `block` by category. Most have none."""
        return {member.name: bands for member in self.detectors if (bands := getattr(member, "bands", None))}

    @property
    def stats(self) -> EngineStats:
        return self._stats

    async def read(
        self, passages: Sequence[Passage], wanted: frozenset[Category], *, timeout_s: float
    ) -> list[Reading]:
        """One reading for each passage, in order.

        A wanted category that nobody serves fails with the detector's name `engine`; `custom` never does, since most
        of it is a tenant's own expressions. Where a lone surrogate stands in a text, detectors see U+FFFD.
        """
        self._stats.passages += len(passages)
        readable = [_readable(passage) for passage in passages]
        keys = [self._key(passage, wanted) for passage in readable]
        known = [self._recall(key) for key in keys]
        # A text that is there twice is read once; the same key means the same passage.
        fresh = {key: at for at, key in enumerate(keys) if known[at] is None}
        news = await self._read_all([readable[at] for at in fresh.values()], wanted, timeout_s) if fresh else []
        found = dict(zip(fresh, news, strict=True))
        for key, reading in found.items():
            self._remember(key, reading)
        return [one if one is not None else found[key] for one, key in zip(known, keys, strict=True)]

    async def prepare(self) -> None:
        """Load what is to be loaded, so that the first call does not wait for it. Raises DetectorFailed."""
        for member in self.detectors:
            prepare = getattr(member, "prepare", None)
            if prepare is not None:
                await prepare()

    async def close(self) -> None:
        """Free what the detectors hold. Calls under way may fail."""
        self._remembered.clear()
        await asyncio.gather(*(member.close() for member in self.detectors))

    async def _read_all(
        self, passages: Sequence[Passage], wanted: frozenset[Category], timeout_s: float
    ) -> list[Reading]:
        ends_at = asyncio.get_running_loop().time() + timeout_s
        chains = [chain for chain in self._chains if chain.categories & wanted]
        answers = await asyncio.gather(*(self._ask(chain, passages, wanted, ends_at) for chain in chains))
        nobody_serves = wanted - self.categories - {"custom"}
        lacking = (Failure(nobody_serves, "engine", "unavailable"),) if nobody_serves else ()
        return [
            merge(parts, lacking + tuple(failure for part in parts for failure in part.failures))
            for parts in ([answer[at] for answer in answers] for at in range(len(passages)))
        ]

    async def _ask(
        self, chain: Chain, passages: Sequence[Passage], wanted: frozenset[Category], ends_at: float
    ) -> list[Reading]:
        """The chain's reading of each passage. A member that is not the last gets half of the time that is left."""
        open_ = dict.fromkeys(range(len(passages)), wanted & chain.categories)
        parts: list[list[Reading]] = [[] for _ in passages]
        failures: list[list[Failure]] = [[] for _ in passages]
        loop = asyncio.get_running_loop()
        for number, member in enumerate(chain.members, start=1):
            asked = {at: left & member.categories for at, left in open_.items() if left & member.categories}
            if not asked:
                continue
            left_s = ends_at - loop.time()
            budget_s = left_s if number == len(chain.members) else left_s / 2
            readings = await self._read_with(member, passages, asked, budget_s)
            for at, reading in readings.items():
                parts[at].append(reading)
                failed = frozenset().union(*(failure.categories for failure in reading.failures)) & asked[at]
                failures[at] += reading.failures
                open_[at] = (open_[at] - asked[at]) | failed
        return [
            merge(parts[at], tuple(_still_open(failure, open_[at]) for failure in failures[at]))
            for at in range(len(passages))
        ]

    async def _read_with(
        self,
        detector: Detector,
        passages: Sequence[Passage],
        asked: Mapping[int, frozenset[Category]],
        budget_s: float,
    ) -> dict[int, Reading]:
        """What one detector reads in the passages at the positions `asked`; where it fails, that failure alone."""
        stats = self._stats.detectors[detector.name]
        given = [passages[at] for at in asked]
        categories: frozenset[Category] = frozenset().union(*asked.values())
        started_s = self._clock.monotonic()
        try:
            async with asyncio.timeout(budget_s):
                readings = check_readings(await detector.read(given, categories), given, categories)
            answer = dict(zip(asked, readings, strict=True))
        except DetectorFailed as failed:
            answer = {at: _failed(asked[at], detector, failed) for at in asked}
        except TimeoutError:
            answer = {at: _failed(asked[at], detector, DetectorFailed("timeout")) for at in asked}
        except Exception as error:  # noqa: BLE001 - whatever a detector's fault, its text must not pass as read
            # The type alone: a message may quote the text.
            log.error("detector_broke", component=detector.name, error_type=type(error).__name__)
            answer = {at: _failed(asked[at], detector, DetectorFailed("contract")) for at in asked}
        stats.reads += 1
        stats.passages += len(given)
        stats.waited_s += self._clock.monotonic() - started_s
        stats.failures.update({failure.code for reading in answer.values() for failure in reading.failures})
        return answer

    def _key(self, passage: Passage, wanted: frozenset[Category]) -> "_Key":
        if len(passage.text) > _LONGEST_REMEMBERED:
            return _Key(passage.text, passage.role, wanted, "")
        digest = hashlib.blake2b(passage.text.encode(), key=self._digest_key, digest_size=20)
        return _Key(digest.digest(), passage.role, wanted, self.version)

    def _recall(self, key: "_Key") -> Reading | None:
        reading = self._remembered.get(key)
        if reading is not None:
            self._remembered.move_to_end(key)
            self._stats.remembered += 1
        return reading

    def _remember(self, key: "_Key", reading: Reading) -> None:
        if isinstance(key.text, str) or reading.failures:
            return
        self._remembered[key] = reading
        while len(self._remembered) > self._cache_entries:
            self._remembered.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Key:
    """A passage and what was wanted of it: `text` is a keyed digest, or the text itself, which is never kept."""

    text: bytes | str
    role: str
    wanted: frozenset[Category]
    version: str


def _readable(passage: Passage) -> Passage:
    """The passage with every lone surrogate, which no UTF-8 library takes, replaced: one code point for one."""
    if passage.text.isascii():
        return passage
    try:
        passage.text.encode()
    except UnicodeEncodeError:
        return Passage(passage.text.translate(_LONE_SURROGATES), passage.role)
    return passage


def _failed(categories: frozenset[Category], detector: Detector, failed: DetectorFailed) -> Reading:
    return Reading(failures=(Failure(categories, detector.name, failed.code),))


def _still_open(failure: Failure, left: frozenset[Category]) -> Failure:
    return Failure(failure.categories & left, failure.detector, failure.code)
