"""From the address in the settings to an engine: `rules:`, `onnx:`, `triton://host:8001`, or a plug-in's own scheme.

A plug-in is an entry point in the group `trueport.detectors`; its name is the scheme and its object a `Factory`.
The patterns take part in every engine, whatever the scheme.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from trueport.detection.apart import OnnxApart
from trueport.detection.artefact import BrokenArtefact
from trueport.detection.base import Detector
from trueport.detection.engine import Chain, Engine
from trueport.detection.views import for_models
from trueport.kit.clock import Clock
from trueport.kit.errors import TrueportError, Unavailable

GROUP: Final = "trueport.detectors"
GUARD: Final = Path(__file__).parent / "models" / "guard"
"""The folder of the model that comes with the package."""
_OTHER_MODEL: Final = "`onnx:/folder` names the folder of another one, and `rules:` needs none."

Factory = Callable[[str, Clock, Path], Sequence[Detector | Chain]]
"""From the whole URL, the clock and the data folder to what reads beside the patterns."""


class UnknownEngine(TrueportError):
    """The address of the detection engine names none that is known, or two have the same name."""

    code = "unknown_detection_engine"


class EngineMissing(Unavailable):
    """A part that the engine needs is not installed or not whole. The message says what to do."""

    code = "detection_engine_missing"


def open_engine(url: str, clock: Clock, *, data_dir: Path) -> Engine:
    """The engine at `url`. Nothing is loaded or connected yet: `Engine.prepare` or the first call does that.

    Raises UnknownEngine, and EngineMissing that says what to install: a weaker engine is never taken instead.
    """
    factory = known_engines()[_scheme(url)]
    return Engine([_patterns(), *factory(url, clock, data_dir)], clock)


def check_engine(url: str) -> None:
    """Raises what `open_engine` would for want of a package or a file, without loading anything: for a process that
    only starts others.
    """
    scheme = _scheme(url)
    stand_in = _without_fallback(url)[1] if scheme == "triton" else ""
    if scheme == "onnx" or stand_in == "onnx":
        need("onnxruntime", "tokenizers", "numpy", extra="onnx")
        folder = _folder(url)
        if not (folder / "meta.json").is_file():
            raise EngineMissing(f"There is no model in {folder}. {_OTHER_MODEL}")
    if scheme == "triton":
        need("tritonclient", "grpc", "numpy", extra="triton")


def known_engines() -> Mapping[str, Factory]:
    """Every scheme with what opens it. Raises UnknownEngine when two go by one name."""
    factories = dict(BUILT_IN)
    for point in entry_points(group=GROUP):
        if point.name in factories:
            raise UnknownEngine(f"Two detection engines go by the name {point.name!r}; one is {point.value}.")
        factories[point.name] = _from_entry_point(point)
    return factories


def _scheme(url: str) -> str:
    """Of a known engine. Raises UnknownEngine."""
    scheme, colon, _ = url.partition(":")
    factories = known_engines()
    if scheme not in factories or not colon:
        known = ", ".join(f"{name}:" for name in sorted(factories))
        raise UnknownEngine(f"There is no detection engine {scheme!r}; known are {known}.")
    return scheme


def _from_entry_point(point: EntryPoint) -> Factory:
    def open_plug_in(url: str, clock: Clock, data_dir: Path) -> Sequence[Detector | Chain]:
        # The cast is the plug-in's promise; the engine checks every reading all the same.
        return cast(Factory, point.load())(url, clock, data_dir)

    return open_plug_in


@cache
def _patterns() -> Detector:
    from trueport.detection.patterns.pack import PatternDetector  # noqa: PLC0415 - compiles its rules

    return PatternDetector()


def _nothing_more(url: str, clock: Clock, data_dir: Path) -> Sequence[Detector | Chain]:  # noqa: ARG001 - a Factory
    return ()


def _embedded(url: str, clock: Clock, data_dir: Path) -> Sequence[Detector | Chain]:  # noqa: ARG001 - a Factory
    """`onnx:` is the model of the package, `onnx:/some/folder` another one in the same form."""
    return (_guard(url),)


def _guard(url: str) -> Detector:
    """The embedded model that serves, or stands in, at this address. Raises EngineMissing."""
    need("onnxruntime", "tokenizers", "numpy", extra="onnx")
    try:
        return OnnxApart(_folder(url))
    except BrokenArtefact as error:
        raise EngineMissing(f"{error}. {_OTHER_MODEL}") from error


def _folder(url: str) -> Path:
    """Of the embedded model that serves, or stands in, at this address."""
    scheme, _, rest = url.partition(":")
    path = rest.removeprefix("//") if scheme == "onnx" else ""
    return Path(path) if path else GUARD


def _sidecar(url: str, clock: Clock, data_dir: Path) -> Sequence[Detector | Chain]:  # noqa: ARG001 - a Factory
    """`triton://host:8001`, and the embedded model for what the server does not answer, unless `?fallback=none`.

    The stand-in is loaded from the start: a lost server is no moment to find that it cannot be.
    """
    need("tritonclient", "grpc", "numpy", extra="triton")
    from trueport.detection.triton import TritonDetector  # noqa: PLC0415 - an optional dependency

    address, fallback = _without_fallback(url)
    try:
        triton = TritonDetector.at(address, clock, views=for_models)
    except ValueError as error:
        raise UnknownEngine(f"{error}.") from error
    if fallback == "none":
        return (triton,)
    # The rules too, as they are all that reads some categories where the embedded model serves.
    return (Chain((triton, _guard(url), _patterns())),)


def _without_fallback(url: str) -> tuple[str, str]:
    """The address without its option `fallback`, and the option. Raises UnknownEngine for one that is none."""
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    fallback = dict(options).get("fallback", "onnx")
    if fallback not in ("onnx", "none"):
        raise UnknownEngine("What stands in for Triton is the embedded model (?fallback=onnx) or nothing (none).")
    others = urlencode([(name, value) for name, value in options if name != "fallback"], safe=",")
    return urlunsplit(parts._replace(query=others)), fallback


def need(*packages: str, extra: str) -> None:
    """Raises EngineMissing that names the extra to install, unless all of `packages` are there."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise EngineMissing(
            f"The detection engine needs {', '.join(missing)}: pip install 'trueport[{extra}]', or choose another "
            "with TRUEPORT_DETECTION_URL (`rules:` needs nothing more)."
        )


BUILT_IN: Final[Mapping[str, Factory]] = {"rules": _nothing_more, "onnx": _embedded, "triton": _sidecar}
