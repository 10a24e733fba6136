"""A fetched model laid into the repository of a Triton server with the ONNX Runtime backend."""

import os
import shutil
from pathlib import Path
from typing import Final, Literal

from trueport.detection.sidecar.files import filled, triton_files
from trueport.detection.sidecar.named import Manifest, NamedModel
from trueport.detection.sidecar.repository import put_exfiltration
from trueport.detection.sidecar.versions import version_number

Device = Literal["gpu", "tensorrt", "cpu"]

_TENSORRT: Final = """optimization { execution_accelerators { gpu_execution_accelerator: [ {
  name: "tensorrt"
  parameters { key: "precision_mode" value: "FP16" }
  parameters { key: "max_workspace_size_bytes" value: "1073741824" }
  parameters { key: "trt_engine_cache_enable" value: "true" }
  parameters { key: "trt_engine_cache_path" value: "/tmp/trt" }
} ] } }"""


def put_named(repository: Path, named: NamedModel, manifest: Manifest, fetched: Path, *, device: Device) -> None:
    """The model, its tokenizer and the name it is served by, beside the versions that are there.

    Files come before the configuration that names them, and the served name last, so that a server which polls
    its repository never loads a part of it.
    """
    version = version_number(manifest.sha256)
    templates = triton_files() / "models"
    model, tokenizer = f"guard_{named.place}", f"guard_tok_{named.tokenizer}"
    for file in manifest.files:
        if file.startswith("model.onnx"):
            _put(fetched / file, repository / model / str(version) / file)
    _put(fetched / "tokenizer.json", repository / tokenizer / str(version) / "tokenizer.json")
    _put(triton_files() / "tokenizer.py", repository / tokenizer / str(version) / "model.py")
    (repository / named.served / str(version)).mkdir(parents=True, exist_ok=True)
    for name in (model, tokenizer, named.served):
        config = filled(
            templates / name / "config.pbtxt",
            version=version,
            model_sha256=manifest.sha256,
            labels=",".join(manifest.labels),
            label_count=len(manifest.labels),
            output=manifest.output,
            pad_id=manifest.pad_id,
            max_tokens=named.max_tokens,
            activation=named.activation,
            instances=1 if device == "cpu" else 2,
            kind="KIND_CPU" if device == "cpu" else "KIND_GPU",
            accelerator=_TENSORRT if device == "tensorrt" else "",
        )
        _write(repository / name / "config.pbtxt", config)
    if not (repository / "exfiltration" / "config.pbtxt").exists():
        put_exfiltration(repository, timeout_ms=40)


def _put(source: Path, target: Path) -> None:
    """A link where the file system has them: models are large, and neither name is ever written to again."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text, "utf-8")
    fresh.replace(path)
