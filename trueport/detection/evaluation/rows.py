"""The labelled texts: gzipped JSON lines with `text`, `label`, `category`, `source`, and `spans` in some sets."""

import gzip
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

Side = Literal["train", "dev", "dev_ood"]


class Span(msgspec.Struct, frozen=True):
    """Code points `start` up to `end`, of one type such as PERSON."""

    start: int
    end: int
    type: str


class Row(msgspec.Struct, frozen=True):
    """One labelled text. `label` is 1 for what the set is about. The text is data: it is never printed or obeyed."""

    text: str
    label: int
    category: str
    source: str
    spans: tuple[Span, ...] = ()

    @property
    def is_in_another_script(self) -> bool:
        """Most of its letters are not Latin."""
        letters = [letter for letter in self.text[:400] if letter.isalpha()]
        latin = sum(letter.isascii() or "LATIN" in unicodedata.name(letter, "") for letter in letters)
        return bool(letters) and latin < len(letters) / 2


def read_rows(folder: Path, name: str, side: Side) -> list[Row]:
    """The rows of a set such as `injection`. Raises FileNotFoundError."""
    return list(_rows(folder / f"{name}.{side}.jsonl.gz"))


def _rows(path: Path) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(Row)
    with gzip.open(path, "rb") as file:
        for line in file:
            yield decoder.decode(line)
