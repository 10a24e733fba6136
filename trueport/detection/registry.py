"""From the address in the settings to an engine: `rules:`, or a plug-in's own scheme.

A plug-in is an entry point in the group `trueport.detectors`; its name is the scheme and its object a `Factory`.
The patterns take part in every engine, whatever the scheme.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final, cast

from trueport.detection.base import Detector
from trueport.detection.engine import Chain, Engine
from trueport.kit.clock import Clock
from trueport.kit.errors import TrueportError

GROUP: Final = "trueport.detectors"

Factory = Callable[[str, Clock, Path], Sequence[Detector | Chain]]
"""From the whole URL, the clock and the data folder to what reads beside the patterns."""


class UnknownEngine(TrueportError):
    """The address of the detection engine names none that is known, or two have the same name."""

    code = "unknown_detection_engine"


def open_engine(url: str, clock: Clock, *, data_dir: Path) -> Engine:
    """The engine at `url`. Nothing is loaded or connected yet: `Engine.prepare` or the first call does that.

    Raises UnknownEngine: a weaker engine is never taken instead.
    """
    factories = known_engines()
    scheme = url.partition(":")[0]
    factory = factories.get(scheme)
    if factory is None or ":" not in url:
        known = ", ".join(f"{name}:" for name in sorted(factories))
        raise UnknownEngine(f"There is no detection engine {scheme!r}; known are {known}.")
    return Engine([_patterns(), *factory(url, clock, data_dir)], clock)


def known_engines() -> Mapping[str, Factory]:
    """Every scheme with what opens it. Raises UnknownEngine when two go by one name."""
    factories = dict(BUILT_IN)
    for point in entry_points(group=GROUP):
        if point.name in factories:
            raise UnknownEngine(f"Two detection engines go by the name {point.name!r}; one is {point.value}.")
        factories[point.name] = _from_entry_point(point)
    return factories


def _from_entry_point(point: EntryPoint) -> Factory:
    def open_plug_in(url: str, clock: Clock, data_dir: Path) -> Sequence[Detector | Chain]:
        # The cast is the plug-in's promise; the engine checks every reading all the same.
        return cast(Factory, point.load())(url, clock, data_dir)

    return open_plug_in


def _patterns() -> Detector:
    from trueport.detection.patterns.pack import PatternDetector  # noqa: PLC0415 - compiles its rules

    return PatternDetector()


def _nothing_more(url: str, clock: Clock, data_dir: Path) -> Sequence[Detector | Chain]:  # noqa: ARG001 - a Factory
    return ()


BUILT_IN: Final[Mapping[str, Factory]] = {"rules": _nothing_more}
