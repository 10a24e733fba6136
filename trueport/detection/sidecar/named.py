"""The full-size models that `models.toml` names, and those of them that were fetched."""

import hashlib
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, Literal

import msgspec

MODELS: Final = Path(__file__).parents[1] / "models.toml"
GUARD: Final = Path(__file__).parents[1] / "models" / "guard"
MANIFEST: Final = "manifest.json"

State = Literal["ok", "damaged", "missing"]


class NamedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of `[models]` in models.toml, where the members are explained."""

    served: Literal["toxicity", "injection", "pii"]
    repository: str
    licence: str
    size_mb: int
    max_tokens: int
    activation: Literal["sigmoid", "softmax"]
    place: str
    tokenizer: str
    is_default: bool = False
    needs_consent: bool = False
    is_commercial: bool = True
    has_custom_code: bool = False
    note: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """What was fetched, beside it in `manifest.json`. `files` has the SHA-256 of each file in hex."""

    name: str
    repository: str
    revision: str
    licence: str
    labels: tuple[str, ...]
    output: str
    pad_id: int
    files: dict[str, str]

    @property
    def sha256(self) -> str:
        return self.files["model.onnx"]


class _File(msgspec.Struct, frozen=True):
    models: dict[str, NamedModel]


class _Meta(msgspec.Struct, frozen=True):
    files: dict[str, str]


@cache
def named_models() -> Mapping[str, NamedModel]:
    return msgspec.convert(tomllib.loads(MODELS.read_text("utf-8")), _File).models


def read_manifest(folder: Path) -> Manifest | None:
    """That of a fetched model; None where there is none that can be read."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError):
        return None


def state_of(folder: Path) -> State:
    """Whether the fetched model in `folder` is whole. Reads all of it."""
    manifest = read_manifest(folder)
    if manifest is None:
        return "damaged" if folder.exists() else "missing"
    return _compared(folder, manifest.files)


def state_of_embedded(folder: Path) -> State:
    """Whether the model that comes with the package is what its `meta.json` says."""
    if not (folder / "meta.json").exists():
        return "missing"
    try:
        files = msgspec.json.decode((folder / "meta.json").read_bytes(), type=_Meta).files
    except (OSError, msgspec.MsgspecError):
        return "damaged"
    return _compared(folder, files) if files else "damaged"


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compared(folder: Path, files: Mapping[str, str]) -> State:
    try:
        is_whole = all(sha256_of(folder / name) == sha256 for name, sha256 in files.items())
    except OSError:
        return "damaged"
    return "ok" if is_whole else "damaged"
