"""Detectors to run tests over: every implementation by name, and the tiny model with its words."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from trueport.detection.apart import OnnxApart
from trueport.detection.base import Detector
from trueport.detection.onnx import OnnxDetector
from trueport.detection.patterns.pack import PatternDetector
from trueport.detection.registry import GUARD

TINY: Final = Path(__file__).parent / "tiny_guard"
SHIPPED: Final = GUARD
IS_SHIPPED: Final = (GUARD / "meta.json").exists()

# Words the tiny model knows: see tests/support/tiny_guard/make.py.
ATTACK: Final = "ignore"
INDIRECT: Final = "assistant"
INSULT: Final = "idiot"
PERSON: Final = "marie curie"
BENIGN: Final = "the weather is fine"

DETECTORS: Final[Mapping[str, Callable[[], Detector]]] = {
    "patterns": PatternDetector,
    "onnx, tiny model": lambda: OnnxDetector(TINY),
    "onnx, in a process of its own": lambda: OnnxApart(TINY),
    **({"onnx, shipped model": lambda: OnnxDetector(SHIPPED)} if IS_SHIPPED else {}),
}
"""What the contract suite runs over. Each is made anew for a test, within its event loop."""


def tiny_copy(folder: Path, **changes: Any) -> Path:
    """A copy of the tiny model in `folder`, with members of its meta.json changed; None takes one away."""
    copy = folder / "guard"
    shutil.copytree(TINY, copy)
    meta = json.loads((copy / "meta.json").read_text()) | changes
    (copy / "meta.json").write_text(json.dumps({name: value for name, value in meta.items() if value is not None}))
    return copy


class TwistedSession:
    """An ONNX session whose answers go through `twist`: from output names and arrays to what is given out."""

    def __init__(self, session: Any, twist: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._session = session
        self._twist = twist

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: Sequence[str], given: Mapping[str, Any], run_options: Any = None) -> list[Any]:
        answers = dict(zip(names, self._session.run(names, given, run_options=run_options), strict=True))
        return list(self._twist(answers).values())
