"""The model repository of a server without a graphics card: the embedded model under the names the gateway asks."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trueport.detection.sidecar.files import SidecarFailed, filled, triton_files
from trueport.detection.sidecar.versions import version_number

# Each served model by the head whose name opens its group; deploy/triton/cpu/guard/model.py has the same groups.
_HEADS: Final[Mapping[str, tuple[str, ...]]] = {
    "toxicity": ("toxicity", "bias"),
    "injection": ("injection", "indirect"),
}


@dataclass(frozen=True, slots=True)
class Artefact:
    """The embedded model's folder: `meta.json` and the files it names. `sha256` is the ONNX file's."""

    folder: Path
    meta: Mapping[str, Any]  # the parts of meta.json that only the server reads

    @classmethod
    def at(cls, folder: Path) -> "Artefact":
        """Raises SidecarFailed."""
        try:
            meta = json.loads((folder / "meta.json").read_text("utf-8"))
            artefact = cls(folder, meta)
            artefact.sha256  # noqa: B018 - raises for a meta.json that names no model
        except (OSError, ValueError, LookupError, StopIteration) as error:
            raise SidecarFailed(f"There is no detection model in {folder}.") from error
        return artefact

    @property
    def sha256(self) -> str:
        return str(next(digest for name, digest in self.meta["files"].items() if name.endswith(".onnx")))


def lay_out(folder: Path, guard: Path, *, threads: int) -> Path:
    """A fresh repository in `folder`, taking the place of what was there; the folder to hand to the server.

    Each model lies in a version that is named after its hash, so that an answer says which model gave it.
    Raises SidecarFailed.
    """
    artefact = Artefact.at(guard)
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Next to its final place, so that it can be moved there whole.
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        put_guard(fresh, artefact, threads=threads)
        put_exfiltration(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    except OSError as error:
        raise SidecarFailed(f"The model repository {folder} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def put_guard(repository: Path, artefact: Artefact, *, threads: int) -> None:
    """The embedded model and those of toxicity, injection and pii that it can answer."""
    version = version_number(artefact.sha256)
    cpu = triton_files() / "cpu"
    heads, labels = artefact.meta["heads"], artefact.meta.get("pii_labels") or []
    outputs: dict[str, list[str]] = {}
    for name, group in _HEADS.items():
        if served := [head for head in group if head in heads]:
            outputs[name] = [_output(name.upper(), "TYPE_FP32", len(served))]
            _put_served(repository, artefact, name, served, [_output("SCORES", "TYPE_FP32", len(served))])
    if labels:
        tokens = [_output("LOGITS", "TYPE_FP32", -1, len(labels)), _output("OFFSETS", "TYPE_INT32", -1, 2)]
        outputs["pii"] = tokens
        _put_served(repository, artefact, "pii", labels, tokens)
    target = repository / "guard" / str(version)
    target.mkdir(parents=True)
    for file in ("meta.json", *artefact.meta["files"]):
        source = artefact.folder / file
        if source.is_file():
            shutil.copyfile(source, target / file)
    shutil.copyfile(cpu / "guard" / "model.py", target / "model.py")
    config = filled(
        cpu / "guard" / "config.pbtxt",
        version=version,
        outputs="\n".join(line for lines in outputs.values() for line in lines),
        model_sha256=artefact.sha256,
        threads=threads,
    )
    (repository / "guard" / "config.pbtxt").write_text(config, "utf-8")


def put_exfiltration(repository: Path, *, timeout_ms: int = 2_000) -> None:
    """The model that is rules alone, named after the hash of its code."""
    source = triton_files() / "models" / "exfiltration"
    code = source / "1" / "model.py"
    sha256 = hashlib.sha256(code.read_bytes()).hexdigest()
    target = repository / "exfiltration" / str(version_number(sha256))
    target.mkdir(parents=True)
    shutil.copyfile(code, target / "model.py")
    config = filled(source / "config.pbtxt", version=version_number(sha256), model_sha256=sha256, timeout_ms=timeout_ms)
    (repository / "exfiltration" / "config.pbtxt").write_text(config, "utf-8")


def served_models(repository: Path) -> tuple[str, ...]:
    """Those of the four models the gateway asks for that are in the repository: a model may lack a head."""
    return tuple(name for name in ("toxicity", "injection", "pii", "exfiltration") if (repository / name).is_dir())


def default_threads() -> int:
    """As many as there are cores, but the encoder gains little from more than four."""
    return min(len(os.sched_getaffinity(0)), 4)


def _put_served(repository: Path, artefact: Artefact, name: str, labels: list[str], outputs: list[str]) -> None:
    version = version_number(artefact.sha256)
    gives_tokens = name == "pii"
    pairs = (("LOGITS", "LOGITS"), ("OFFSETS", "OFFSETS")) if gives_tokens else ((name.upper(), "SCORES"),)
    config = filled(
        triton_files() / "cpu" / "served.pbtxt",
        name=name,
        version=version,
        outputs="\n".join(outputs),
        output_map="\n".join(f'  output_map {{ key: "{of}" value: "{to}" }}' for of, to in pairs),
        labels=",".join(labels),
        model_sha256=artefact.sha256,
        activation="softmax" if gives_tokens else "none",
        max_tokens=artefact.meta.get("max_tokens", 256),
    )
    # An ensemble has no files of its own, yet its version is a folder.
    (repository / name / str(version)).mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config, "utf-8")


def _output(name: str, kind: str, *dims: int) -> str:
    return f'  {{ name: "{name}" data_type: {kind} dims: [ {", ".join(map(str, dims))} ] }},'
