"""`python -m trueport.detection.training.sample FILE`: the few held-out texts that tests measure the artefact on.

All come from templates, so that they may lie in the repository; none was trained on.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from trueport.detection.training.examples import Example
from trueport.detection.training.generated.documents import documents
from trueport.detection.training.generated.injections import injections

_EACH: Final = 60
_KINDS: Final = {
    "attack": "template: attack (held out)",
    "harmless": "template: harmless (held out)",
    "document": "template: document (held out)",
    "document with an order": "template: document with an order (held out)",
}


def sample(seed: int) -> Iterator[Example]:
    """Sixty texts of each kind, the same for the same seed."""
    made = [*injections(seed), *documents(seed)]
    random = Random(seed)  # noqa: S311 - the same texts for the same seed
    for wanted in _KINDS.values():
        yield from random.sample([one for one in made if one.family == wanted and len(one.text) < 600], _EACH)


def main() -> None:
    lines = [
        json.dumps({"text": one.text, "injection": one.injection, "indirect": one.indirect}, ensure_ascii=False)
        for one in sample(1)
    ]
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
