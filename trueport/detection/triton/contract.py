"""What a model on the server promises, read from its configuration, and the check of every answer against it.

An answer that breaks the promise is a failure, never "nothing found": a NaN is below every threshold, and the scores
of another model under the same name mean something else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from trueport.detection.base import DetectorFailed
from trueport.detection.sidecar.versions import version_number

Activation = Literal["none", "sigmoid", "softmax"]
Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

TEXT: Final = "TEXT"
SCORES: Final = "SCORES"
LOGITS: Final = "LOGITS"
OFFSETS: Final = "OFFSETS"
READ: Final = "READ"

_NUMBERED_BY_HASH: Final = 1_000_000_000
"""A version above this is the beginning of a SHA-256; below, somebody counted by hand."""


class ContractBroken(DetectorFailed):
    """A model's configuration or answer is not as agreed. `reason` never holds anything of a text."""

    def __init__(self, reason: str) -> None:
        super().__init__("contract")
        self.reason = reason


class Tensor(Protocol):
    """Of a model's metadata or of an answer (KServe v2: ModelMetadataResponse, ModelInferResponse)."""

    @property
    def name(self) -> str: ...
    @property
    def datatype(self) -> str: ...
    @property
    def shape(self) -> Sequence[int]: ...


class Metadata(Protocol):
    """KServe v2: ModelMetadataResponse."""

    @property
    def name(self) -> str: ...
    @property
    def versions(self) -> Sequence[str]: ...
    @property
    def inputs(self) -> Sequence[Tensor]: ...
    @property
    def outputs(self) -> Sequence[Tensor]: ...


class Answer(Protocol):
    """KServe v2: ModelInferResponse."""

    @property
    def model_name(self) -> str: ...
    @property
    def model_version(self) -> str: ...
    @property
    def outputs(self) -> Sequence[Tensor]: ...
    @property
    def raw_output_contents(self) -> Sequence[bytes]: ...


@dataclass(frozen=True, slots=True)
class Contract:
    """What one served model promises.

    `versions` are those of the model that belong to `sha256`; `max_rows` is the most texts in a request;
    `timeout_ms` the deadline that the model asks for, None for the caller's own; `tells_how_far` whether it has the
    output READ, the code points of each row that fitted into the model.
    """

    model: str
    versions: frozenset[str]
    sha256: str
    labels: tuple[str, ...]
    gives_tokens: bool
    activation: Activation
    temperature: float
    max_rows: int
    max_tokens: int
    timeout_ms: int | None
    tells_how_far: bool

    @property
    def version(self) -> str:
        """As findings carry it."""
        return self.sha256[:16]


def read_contract(
    metadata: Metadata, parameters: Mapping[str, str], *, max_batch_size: int, gives_tokens: bool
) -> Contract:
    """What the model promises, once it is what deploy/triton/README.md asks for. Raises ContractBroken."""
    labels = tuple(label.strip() for label in parameters.get("labels", "").split(",") if label.strip())
    sha256 = parameters.get("model_sha256", "")
    activation = parameters.get("activation", "softmax" if gives_tokens else "none")
    outputs = {output.name: (output.datatype, [*output.shape]) for output in metadata.outputs}
    expected = _tokens_layout(len(labels)) if gives_tokens else {SCORES: ("FP32", [-1, len(labels)])}
    inputs = [(tensor.name, tensor.datatype, [*tensor.shape]) for tensor in metadata.inputs]
    if not labels or len(set(labels)) != len(labels):
        raise ContractBroken("the parameter `labels` has to name every label once")
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ContractBroken("the parameter `model_sha256` has to be 64 hex digits")
    if activation not in get_args(Activation) or (gives_tokens and activation != "softmax"):
        raise ContractBroken("the parameter `activation` is none, sigmoid or softmax; softmax for LOGITS")
    if inputs != [(TEXT, "BYTES", [-1, 1])]:
        raise ContractBroken("the input has to be TEXT, BYTES [-1, 1]")
    for name, layout in expected.items():
        if outputs.get(name) != layout:
            raise ContractBroken(f"the output {name} has to be {layout[0]} {layout[1]}")
    if READ in outputs and outputs[READ] != ("INT32", [-1, 1]):
        raise ContractBroken("the output READ has to be INT32 [-1, 1]")
    _check_versions(metadata.versions, sha256)
    return Contract(
        model=metadata.name,
        versions=frozenset(metadata.versions),
        sha256=sha256,
        labels=labels,
        gives_tokens=gives_tokens,
        activation=activation,  # type: ignore[arg-type]  # a member of Activation, checked above
        temperature=_number(parameters, "temperature", 1.0),
        max_rows=max(max_batch_size, 1),
        max_tokens=int(_number(parameters, "max_tokens", 512)),
        timeout_ms=int(_number(parameters, "timeout_ms", 0)) or None,
        tells_how_far=READ in outputs,
    )


def check_answer(answer: Answer, contract: Contract) -> None:
    """Whether the answer is from the model that the contract is about. Raises ContractBroken."""
    if answer.model_name != contract.model or answer.model_version not in contract.versions:
        raise ContractBroken("the answer is from another model or version")


def scores(answer: Answer, contract: Contract, rows: int) -> Floats:
    """Probabilities in [0, 1], shape (rows, labels). Raises ContractBroken."""
    values = _floats(answer, SCORES, (rows, len(contract.labels)))
    match contract.activation:
        case "sigmoid":
            return sigmoid(values / contract.temperature)
        case "softmax":
            return softmax(values / contract.temperature)
        case "none":
            if ((values < 0.0) | (values > 1.0)).any():
                raise ContractBroken("a score is not within 0 and 1")
            return values


def tokens(answer: Answer, contract: Contract, lengths: Whole) -> tuple[Floats, Whole]:
    """Probabilities, shape (rows, tokens, labels), and offsets in code points, shape (rows, tokens, 2).

    lengths: of the rows' texts, shape (rows,). Special tokens and padding have the offsets 0, 0.
    Raises ContractBroken.
    """
    length = next((output.shape[1] for output in answer.outputs if output.name == LOGITS and len(output.shape) == 3), 0)
    logits = _floats(answer, LOGITS, (len(lengths), length, len(contract.labels)))
    offsets = _whole(answer, OFFSETS, (len(lengths), length, 2))
    starts, ends = offsets[:, :, 0], offsets[:, :, 1]
    if (starts < 0).any() or (ends < starts).any() or (ends > lengths[:, None]).any():
        raise ContractBroken("an offset is outside of its text")
    return softmax(logits / contract.temperature), offsets


def read_up_to(answer: Answer, contract: Contract, lengths: Whole) -> Whole:
    """How many code points of each row the model saw, shape (rows,): at least one of each. Raises ContractBroken."""
    if not contract.tells_how_far:
        return lengths
    read = _whole(answer, READ, (len(lengths), 1))[:, 0]
    if (read > lengths).any() or (read < 1).any():
        raise ContractBroken("READ is not within a row's length")
    return read


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0))))


def softmax(logits: Floats) -> Floats:
    """Along the last axis."""
    if not logits.size:
        return logits
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _tokens_layout(labels: int) -> dict[str, tuple[str, list[int]]]:
    return {LOGITS: ("FP32", [-1, -1, labels]), OFFSETS: ("INT32", [-1, -1, 2])}


def _check_versions(versions: Sequence[str], sha256: str) -> None:
    if not versions or not all(version.isdecimal() for version in versions):
        raise ContractBroken("the server has no version of the model")
    hashed = [version for version in versions if int(version) > _NUMBERED_BY_HASH]
    if hashed and [*versions] != [str(version_number(sha256))]:
        raise ContractBroken("the version is not the one that goes with `model_sha256`")


def _number(parameters: Mapping[str, str], name: str, default: float) -> float:
    try:
        number = float(parameters.get(name, default))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and (number > 0.0 or number == default)):
        raise ContractBroken(f"the parameter `{name}` has to be a number above 0")
    return number


def _floats(answer: Answer, name: str, shape: tuple[int, ...]) -> Floats:
    values = np.frombuffer(_raw(answer, name, "FP32", shape), "<f4").reshape(shape).astype(np.float64)
    if not np.isfinite(values).all():
        raise ContractBroken(f"{name} has a number that is none")
    return values


def _whole(answer: Answer, name: str, shape: tuple[int, ...]) -> Whole:
    return np.frombuffer(_raw(answer, name, "INT32", shape), "<i4").reshape(shape).astype(np.int64)


def _raw(answer: Answer, name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    """The bytes of one output of four-byte numbers. Raises ContractBroken unless there are exactly as many as fit."""
    if len(answer.outputs) != len(answer.raw_output_contents):
        raise ContractBroken("outputs and contents are not as many")
    found = [at for at, output in enumerate(answer.outputs) if output.name == name]
    if len(found) != 1:
        raise ContractBroken(f"the output {name} is missing or there twice")
    output, raw = answer.outputs[found[0]], answer.raw_output_contents[found[0]]
    if output.datatype != datatype or tuple(output.shape) != shape:
        raise ContractBroken(f"the output {name} has another type or shape")
    if len(raw) != 4 * math.prod(shape):
        raise ContractBroken(f"the output {name} has more or fewer bytes than its shape")
    return raw
