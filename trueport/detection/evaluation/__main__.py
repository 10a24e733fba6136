"""`python -m trueport.detection.evaluation DATA_FOLDER`: measures the shipped detectors and prints the figures.

Ends with 0 also where an aim is missed: the figures say so.
"""

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trueport.detection.evaluation.measures import Measure, measure_model, table
from trueport.detection.evaluation.model import Model, ModelMeta
from trueport.detection.evaluation.product import measure_product
from trueport.detection.registry import GUARD, open_engine
from trueport.kit.clock import SystemClock


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trueport.detection.evaluation", description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the labelled texts")
    parser.add_argument("--model", type=Path, default=GUARD, help="another artefact folder")
    parser.add_argument("--json", action="store_true", help="the figures as JSON instead of a table")
    given = parser.parse_args()
    if not any(given.data.glob("*.dev*.jsonl.gz")):
        sys.stderr.write(
            f"There are no labelled texts in {given.data}. They do not come with the source: name their folder with "
            "`make eval DATA=/folder`.\n"
        )
        return 2
    model, meta = Model.from_folder(given.model)
    measures = measure_model(model, meta, given.data, _say)
    measures += asyncio.run(_measure_product(given.model.resolve(), meta, given.data))
    sys.stdout.write((json.dumps(as_json(measures), indent=2) if given.json else table(measures)) + "\n")
    return 0


def as_json(measures: Sequence[Measure]) -> list[dict[str, Any]]:  # JSON
    """The figures for machines. A value that is not defined is null, as is an aim that was not set."""
    return [
        {
            "name": one.name,
            "value": _number(one.estimate.value),
            "low": _number(one.estimate.low),
            "high": _number(one.estimate.high),
            "texts": one.texts,
            "aim": None if one.aim is None else str(one.aim),
            "is_met": one.is_met,
        }
        for one in measures
    ]


async def _measure_product(folder: Path, meta: ModelMeta, data: Path) -> list[Measure]:
    with tempfile.TemporaryDirectory() as nothing:
        engine = open_engine(f"onnx:{folder}", SystemClock(), data_dir=Path(nothing))
        try:
            await engine.prepare()
            return await measure_product(engine, meta.heads, data, _say)
        finally:
            await engine.close()


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
