"""The `triton` detector: four models on a Triton server, each asked at the same time, each with its own breaker.

The models go by the names `toxicity`, `injection`, `pii` and `exfiltration`; what they have to promise is written in
deploy/triton/README.md and checked before the first text is sent, whenever a model is replaced, and on every answer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from trueport.detection.base import DetectorFailed
from trueport.detection.merging import merge
from trueport.detection.triton.breaker import Breaker
from trueport.detection.triton.catalogue import SERVED, Catalogue, ServedName, built_in
from trueport.detection.triton.connection import Connection
from trueport.detection.triton.served import Served, Timing, View, Views
from trueport.detection.types import Category, Failure, Passage, Reading
from trueport.kit.clock import Clock
from trueport.kit.logging import get_logger

log = get_logger(__name__)

_PORT: Final = 8001
_OPTIONS: Final = frozenset({"models", "timeout_ms"})


@dataclass(frozen=True, slots=True)
class AsWritten:
    """The text itself as a view."""

    text: str

    def original(self, start: int, end: int) -> tuple[int, int]:
        return start, end


def as_written(text: str) -> Sequence[View]:
    return (AsWritten(text),)


class TritonDetector:
    """Used from one event loop. Nothing is connected before `prepare` or the first call."""

    name: Final = "triton"

    def __init__(
        self,
        address: str,
        clock: Clock,
        *,
        timeout_ms: int | None = None,
        connect_timeout_ms: int = 500,
        recheck_s: float = 30.0,
        failures_to_open: int = 5,
        rest_s: float = 2.0,
        models: Sequence[ServedName] = SERVED,
        catalogue: Catalogue | None = None,
        views: Views = as_written,
    ) -> None:
        """address: host:port of Triton's gRPC.

        timeout_ms: of one request; without it what the model's configuration asks for, else 40.
        connect_timeout_ms: of asking a model for its contract, which goes before the first request to it.
        recheck_s: after so long the contract is asked for again.
        failures_to_open, rest_s: so many in a row, and a model is left alone for so long.
        views: the readings of a text that are sent, such as it is and with look-alikes folded.
        """
        catalogue = catalogue or built_in()
        timing = Timing(timeout_ms, connect_timeout_ms / 1_000, recheck_s)
        self._connection = Connection(address, clock)
        self._served = tuple(
            Served(
                name,
                self._connection,
                catalogue,
                views,
                clock,
                timing,
                Breaker(clock, failures_to_open=failures_to_open, rest_s=rest_s),
            )
            for name in models
        )

    @classmethod
    def at(cls, url: str, clock: Clock, *, views: Views = as_written) -> "TritonDetector":
        """The detector at `triton://host:8001`.

        `?models=toxicity,pii` leaves out models that the server does not have, `?timeout_ms=100` sets the deadline.
        Raises ValueError that says what is wrong.
        """
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        if parts.scheme != "triton" or not parts.hostname or parts.path.strip("/") or options.keys() - _OPTIONS:
            raise ValueError(
                "Triton's address is written triton://host:8001, with ?models=… and ?timeout_ms=… if need be"
            )
        models = tuple(name for name in SERVED if name in options.get("models", ",".join(SERVED)).split(","))
        unknown = set(options.get("models", SERVED[0]).split(",")) - set(SERVED)
        if unknown:
            raise ValueError(f"Triton serves {', '.join(SERVED)}, not {', '.join(sorted(unknown))}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        timeout_ms = options.get("timeout_ms")
        if timeout_ms is not None and not (timeout_ms.isdecimal() and int(timeout_ms) > 0):
            raise ValueError("timeout_ms is a whole number of milliseconds")
        return cls(
            f"{host}:{parts.port or _PORT}",
            clock,
            timeout_ms=int(timeout_ms) if timeout_ms else None,
            models=models,
            views=views,
        )

    @property
    def version(self) -> str:
        """The models by name with the first 16 hex digits of their SHA-256, `?` where not known now."""
        return ",".join(
            f"{served.name}={served.contract.version if served.contract else '?'}" for served in self._served
        )

    @property
    def categories(self) -> frozenset[Category]:
        return frozenset().union(*(served.categories for served in self._served))

    async def prepare(self) -> None:
        """Connect, so that the first call does not wait for it.

        A server that is away now is asked again with every call, so that is logged and not raised.
        """
        answers = await asyncio.gather(*(served.connect() for served in self._served), return_exceptions=True)
        for served, answer in zip(self._served, answers, strict=True):
            if isinstance(answer, DetectorFailed):
                reason = getattr(answer, "reason", "")
                log.warning("detector_not_ready", component=self.name, model=served.name, code=answer.code, why=reason)
            elif isinstance(answer, BaseException):
                raise answer

    async def read(self, passages: Sequence[Passage], wanted: frozenset[Category]) -> Sequence[Reading]:
        """One reading for each passage, in order, with a score for every wanted category that it serves.

        Where some of the models fail, their categories are in the readings' failures.
        Raises DetectorFailed when all of those asked do.
        """
        asked = [(served, wanted & served.categories) for served in self._served if wanted & served.categories]
        if not asked or not passages:
            return [Reading() for _ in passages]
        answers = await asyncio.gather(*(self._ask(served, passages, categories) for served, categories in asked))
        failed = [answer for answer in answers if isinstance(answer, DetectorFailed)]
        if len(failed) == len(answers):
            raise failed[0]
        lacking = tuple(
            Failure(categories, self.name, answer.code)
            for (_, categories), answer in zip(asked, answers, strict=True)
            if isinstance(answer, DetectorFailed)
        )
        read = [answer for answer in answers if not isinstance(answer, DetectorFailed)]
        return [
            merge(parts, lacking + tuple(failure for part in parts for failure in part.failures))
            for parts in zip(*read, strict=True)
        ]

    async def close(self) -> None:
        """Close the channel. Calls under way may fail."""
        for served in self._served:
            served.close()
        await self._connection.close()

    @staticmethod
    async def _ask(
        served: Served, passages: Sequence[Passage], categories: frozenset[Category]
    ) -> list[Reading] | DetectorFailed:
        try:
            return await served.read(passages, categories)
        except DetectorFailed as failed:
            return failed
