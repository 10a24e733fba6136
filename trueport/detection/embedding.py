"""Texts as vectors, from the engine that reads passages, each text once."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from trueport.detection.base import DetectorFailed
from trueport.detection.policy import Vector
from trueport.detection.registry import open_engine
from trueport.detection.types import Category, Passage, Reading
from trueport.kit.clock import SystemClock

_WANTED: Final[frozenset[Category]] = frozenset({"custom"})
_TIMEOUT_S: Final = 30.0  # a tenant has at most some thousands of examples, at a few milliseconds each
_AT_ONCE: Final = 64


class Reads(Protocol):
    """The detection engine, as far as it is needed here."""

    @property
    def categories(self) -> frozenset[Category]:
        """What it can look for."""

    @property
    def version(self) -> str:
        """Changes when a model does."""

    async def read(
        self, passages: Sequence[Passage], wanted: frozenset[Category], *, timeout_s: float
    ) -> list[Reading]:
        """One reading for each passage."""


class Embeddings:
    """The vectors of texts. Remembers those it made by the digests of the texts, never the texts."""

    def __init__(self, engine: Reads, *, most_remembered: int = 8_192) -> None:
        self._engine = engine
        self._known: OrderedDict[bytes, Vector] = OrderedDict()
        self._most_remembered = most_remembered

    @property
    def is_possible(self) -> bool:
        """Whether the engine has a model that gives embeddings."""
        return self._engine.categories >= _WANTED

    async def of(self, texts: Iterable[str]) -> Mapping[str, Vector]:
        """The vector of each text. Raises DetectorFailed where the engine gives none, now or at all."""
        if not self.is_possible:
            raise DetectorFailed("unavailable")
        digests = {text: self._digest(text) for text in texts}
        known = {text: self._known[digest] for text, digest in digests.items() if digest in self._known}
        fresh = [text for text in digests if text not in known]
        for start in range(0, len(fresh), _AT_ONCE):
            part = fresh[start : start + _AT_ONCE]
            readings = await self._engine.read([Passage(text) for text in part], _WANTED, timeout_s=_TIMEOUT_S)
            for text, reading in zip(part, readings, strict=True):
                if reading.embedding is None:
                    raise DetectorFailed("unavailable")
                known[text] = self._remember(digests[text], reading.embedding)
        return known

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(f"{self._engine.version}\0{text}".encode(errors="replace"), digest_size=20).digest()

    def _remember(self, digest: bytes, vector: Vector) -> Vector:
        self._known[digest] = vector
        while len(self._known) > self._most_remembered:
            self._known.popitem(last=False)
        return vector


async def gives_embeddings(url: str, data_dir: Path) -> bool:
    """Whether the engine at this address has a model that does. Loads none. Raises UnknownEngine, EngineMissing."""
    engine = await asyncio.to_thread(partial(open_engine, url, SystemClock(), data_dir=data_dir))
    try:
        return Embeddings(engine).is_possible
    finally:
        await engine.close()
