"""Fetches a full-size model from the Hugging Face hub, and turns it into ONNX where its authors did not.

Nothing of a repository is run: weights and tokenizers are data, and models that need code of their own are refused.
"""

import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from trueport.detection.sidecar.named import MANIFEST, Manifest, NamedModel, sha256_of
from trueport.kit.errors import TrueportError, Unavailable

_ONNX: Final = ("onnx/model.onnx", "model.onnx")
_HUB: Final = "https://huggingface.co"
_SMALL: Final = ("config.json", "tokenizer.json")
_WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
_FOR_EXPORT: Final = (*_WEIGHTS, "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json")
_FOR_EXPORT_MORE: Final = ("merges.txt", "spm.model", "added_tokens.json")
_TASKS: Final = {"pii": "token-classification"}


class PullRefused(TrueportError):
    """The model is not one to fetch, or not yet: the message says why and what to do."""

    code = "model_refused"


class PullFailed(TrueportError):
    """What came is not a model that can be used."""

    code = "model_unusable"


class HubAway(Unavailable):
    """The hub cannot be reached, or has no such model."""

    code = "model_hub_unavailable"


class _Config(msgspec.Struct, frozen=True):
    """A model's config.json, as far as it matters. `id2label` has the labels by column, as text."""

    id2label: dict[str, str] = {}
    pad_token_id: int | None = 0


@dataclass(frozen=True, slots=True)
class _Listed:
    """A repository at one revision: its files, with the SHA-256 where the hub tells it."""

    revision: str
    files: Mapping[str, str | None]


def pull(
    name: str,
    named: NamedModel,
    target: Path,
    *,
    revision: str | None,
    has_consent: bool,
    progress: Callable[[str], None],
) -> Manifest:
    """Fetch the model into the folder `target`, in the place of what was there.

    revision: a commit, tag or branch; without it the newest, whose commit then stands in the manifest.
    Raises PullRefused, PullFailed, HubAway.
    """
    _refuse(name, named, has_consent=has_consent)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        progress(f"Looking up {named.repository}")
        listed = _look_up(named, revision)
        progress(f"Fetching {named.repository} at {listed.revision[:12]}, about {named.size_mb} MB")
        _fetch_all(named, listed, fresh / "hub", progress)
        manifest = _take(name, named, listed, fresh)
        shutil.rmtree(fresh / "hub")
        (fresh / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    except OSError as error:
        raise PullFailed(f"{target} cannot be written: {error.strerror or type(error).__name__}.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def _refuse(name: str, named: NamedModel, *, has_consent: bool) -> None:
    if not named.is_commercial:
        raise PullRefused(f"{name} is under {named.licence}, which forbids commercial use; choose another model.")
    if named.has_custom_code:
        raise PullRefused(
            f"{name} runs code from its repository, which TruePortAI does not. Export it to ONNX once on a machine "
            f"you trust, and put it into the Triton repository as deploy/triton/README.md says."
        )
    if named.needs_consent and not has_consent:
        raise PullRefused(
            f"{name} is under {named.licence}. Read it at {_HUB}/{named.repository}, and give --accept-licence "
            f"if you may and will keep to it. A gated model also needs HF_TOKEN of an account that was let in."
        )


def _look_up(named: NamedModel, revision: str | None) -> _Listed:
    hub = _hub()
    try:
        api = hub.HfApi(endpoint=_endpoint())
        info = api.model_info(named.repository, revision=revision, files_metadata=True, timeout=30)
    except Exception as error:
        raise _away(named, error) from error
    files = {file.rfilename: (file.lfs.sha256 if file.lfs else None) for file in info.siblings or []}
    if not info.sha:
        raise PullFailed(f"The hub does not say which revision of {named.repository} it has.")
    return _Listed(info.sha, files)


def _fetch_all(named: NamedModel, listed: _Listed, folder: Path, progress: Callable[[str], None]) -> None:
    lacking = [file for file in _SMALL if file not in listed.files]
    if lacking:
        raise PullFailed(f"{named.repository} has no {' and no '.join(lacking)}.")
    onnx = next((file for file in _ONNX if file in listed.files), None)
    if onnx is None:
        # Better before half a gigabyte is fetched than after.
        _exporter()
        wanted = [file for file in (*_FOR_EXPORT, *_FOR_EXPORT_MORE) if file in listed.files]
        if not set(wanted) & set(_WEIGHTS):
            raise PullFailed(f"{named.repository} has no weights that can be read.")
        if _WEIGHTS[0] in wanted and _WEIGHTS[1] in wanted:
            wanted.remove(_WEIGHTS[1])
    else:
        wanted = [file for file in listed.files if file == onnx or file.startswith((f"{onnx}_data", f"{onnx}.data"))]
    for file in (*_SMALL, *wanted):
        _fetch(named, listed, file, folder)
    if onnx is None:
        progress(f"Exporting {named.repository} to ONNX")
        _export(named, folder)


def _fetch(named: NamedModel, listed: _Listed, file: str, folder: Path) -> None:
    hub = _hub()
    try:
        path = hub.hf_hub_download(
            named.repository, file, revision=listed.revision, local_dir=folder, endpoint=_endpoint()
        )
    except Exception as error:
        raise _away(named, error) from error
    expected = listed.files[file]
    if expected is not None and sha256_of(Path(path)) != expected:
        raise PullFailed(f"{file} of {named.repository} is not the file that the hub announced.")


def _take(name: str, named: NamedModel, listed: _Listed, fresh: Path) -> Manifest:
    """Move what is needed out of the hub's folder and look at it. Raises PullFailed."""
    hub = fresh / "hub"
    onnx = next((hub / file for file in _ONNX if (hub / file).is_file()), None)
    if onnx is None:
        raise PullFailed(f"The export of {named.repository} gave no model.")
    for path in (onnx, *onnx.parent.glob(f"{onnx.name}[_.]data*"), *(hub / file for file in _SMALL)):
        path.rename(fresh / path.name)
    try:
        config = msgspec.json.decode((fresh / "config.json").read_bytes(), type=_Config)
        labels = tuple(config.id2label[str(at)] for at in range(len(config.id2label)))
    except (msgspec.MsgspecError, LookupError) as error:
        raise PullFailed(f"config.json of {named.repository} does not name its labels.") from error
    if not labels or any("," in label or '"' in label for label in labels):
        raise PullFailed(f"config.json of {named.repository} does not name its labels.")
    output = _check_onnx(named, fresh / "model.onnx", len(labels))
    files = {path.name: sha256_of(path) for path in sorted(fresh.iterdir()) if path.is_file()}
    return Manifest(
        name=name,
        repository=named.repository,
        revision=listed.revision,
        licence=named.licence,
        labels=labels,
        output=output,
        pad_id=config.pad_token_id or 0,
        files=files,
    )


def _check_onnx(named: NamedModel, path: Path, labels: int) -> str:
    """The name of the output with the logits. Raises PullFailed unless the model has the expected form."""
    onnxruntime = _import("onnxruntime", "onnx")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise PullFailed(f"ONNX Runtime cannot load the model of {named.repository}.") from error
    inputs = {(one.name, one.type) for one in session.get_inputs()}
    if inputs != {("input_ids", "tensor(int64)"), ("attention_mask", "tensor(int64)")}:
        raise PullFailed(f"The ONNX model of {named.repository} does not have input_ids and attention_mask alone.")
    rank = 3 if named.served == "pii" else 2
    for output in session.get_outputs():
        is_of_labels = output.type == "tensor(float)" and len(output.shape) == rank
        # A size that the exporter left open is a name or nothing.
        if is_of_labels and (output.shape[-1] == labels or not isinstance(output.shape[-1], int)):
            return str(output.name)
    raise PullFailed(f"The ONNX model of {named.repository} has no output for {labels} labels.")


def _export(named: NamedModel, folder: Path) -> None:
    exporter = _exporter()
    task = _TASKS.get(named.served, "text-classification")
    try:
        exporter.main_export(str(folder), folder / "onnx", task=task, trust_remote_code=False)
    except Exception as error:
        raise PullFailed(f"{named.repository} could not be exported to ONNX: {type(error).__name__}.") from error


def _exporter() -> Any:  # optimum is not among our dependencies
    try:
        importlib.import_module("torch")
        return importlib.import_module("optimum.exporters.onnx")
    except ImportError as error:
        raise PullRefused(
            "This model has to be exported to ONNX, which needs torch and optimum: pip install torch 'optimum[onnx]', "
            "here or on another machine whose data folder you copy."
        ) from error


def _hub() -> Any:  # only the few members used are known to be stable
    return _import("huggingface_hub", "onnx")


def _import(package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise PullRefused(f"Fetching models needs {package}: pip install 'trueport[{extra}]'.") from error


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or _HUB


def _away(named: NamedModel, error: Exception) -> HubAway:
    """What went wrong, in a sentence. The kinds are told apart by name: they moved between the hub's versions."""
    kinds: Sequence[str] = [kind.__name__ for kind in type(error).__mro__]
    if "GatedRepoError" in kinds:
        return HubAway(f"{named.repository} is gated: ask for access on its page, and set HF_TOKEN.")
    if "RevisionNotFoundError" in kinds:
        return HubAway(f"{named.repository} has no such revision.")
    if "RepositoryNotFoundError" in kinds:
        return HubAway(f"The hub has no {named.repository}, or does not show it to you.")
    return HubAway(
        f"The model hub at {_endpoint()} cannot be reached ({type(error).__name__}). Without one "
        f"the embedded model serves (TRUEPORT_DETECTION_URL=onnx:); or copy the folder `models` of a data folder from "
        f"a machine that has one."
    )
