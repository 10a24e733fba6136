"""The members nobody knows, as they may be named to a client."""

import re
from collections.abc import Iterable
from typing import Final

_INDEX: Final = re.compile(r"\[\d+\]")
_TELLABLE: Final = re.compile(r"[A-Za-z0-9_.\[\]$-]{1,128}")
_MOST: Final = 32


def tellable(paths: Iterable[str]) -> tuple[str, ...]:
    """The paths without positions, each once, at most 32.

    They go into a header: names are the client's own text, so one with other characters than names have is left out.
    """
    found = dict.fromkeys(_INDEX.sub("[]", path) for path in paths)
    return tuple(path for path in found if _TELLABLE.fullmatch(path))[:_MOST]
