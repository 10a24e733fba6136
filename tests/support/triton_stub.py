"""A server that speaks the inference protocol (KServe v2 over gRPC) and lies on demand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import grpc  # type: ignore[import-untyped]  # the package ships no types
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc  # type: ignore[import-untyped]
from tritonclient.utils import deserialize_bytes_tensor  # type: ignore[import-untyped]

Response = Any  # the package has no types
Says = Callable[[str], Sequence[float]]
Lie = Callable[[Response], Awaitable[None] | None]

HASHES: Mapping[str, str] = {
    name: sha256(name.encode()).hexdigest() for name in ("toxicity", "injection", "pii", "exfiltration")
}


@dataclass(frozen=True)
class Model:
    """One served model: `says` gives the values of one text, a score for each label or a row of logits a token."""

    name: str
    labels: tuple[str, ...]
    says: Says | None = None
    sha256: str = ""
    version: str = "1"
    activation: str = "none"
    max_rows: int = 64
    parameters: Mapping[str, str] = field(default_factory=dict)
    reads: int | None = None
    """The most code points that fit into it; without it the model has no output READ."""

    @property
    def gives_tokens(self) -> bool:
        return self.name == "pii"

    @property
    def hash(self) -> str:
        return self.sha256 or HASHES[self.name]


def contains(word: str, columns: int = 1) -> Says:
    """Scores 0.9 in the first of `columns` where the text has the word, else 0.1."""
    return lambda text: [0.9 if word in text else 0.1, *([0.05] * (columns - 1))]


def always(*values: float) -> Says:
    return lambda text: values  # noqa: ARG005 - whatever the text


def slow(seconds: float) -> Lie:
    return lambda answer: asyncio.sleep(seconds)  # noqa: ARG005 - the answer itself is true


def usual() -> dict[str, Model]:
    return {
        "toxicity": Model("toxicity", ("toxicity", "identity_attack"), contains("idiot", 2)),
        "injection": Model("injection", ("injection", "indirect"), contains("ignore", 2)),
        "exfiltration": Model("exfiltration", ("link_with_data",), contains("http")),
        "pii": Model("pii", ("O", "B-GIVENNAME", "I-GIVENNAME"), activation="softmax"),
    }


class Stub(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # the package has no types
    """`models` may be changed at any time; `lies` are told, one after the other, with every answer of a model."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self.models = dict(models)
        self.lies: dict[str, Lie] = {}
        self.requests: list[tuple[str, tuple[str, ...]]] = []
        self.contracts_asked = 0
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def change(self, name: str, **members: Any) -> None:
        self.models[name] = replace(self.models[name], **members)

    async def ModelMetadata(self, request: Any, context: grpc.aio.ServicerContext) -> Response:  # noqa: N802
        self.contracts_asked += 1
        model = await self._model(request, context)
        shapes = (
            {"LOGITS": ("FP32", [-1, -1, len(model.labels)]), "OFFSETS": ("INT32", [-1, -1, 2])}
            if model.gives_tokens
            else {"SCORES": ("FP32", [-1, len(model.labels)])}
        )
        if model.reads is not None:
            shapes["READ"] = ("INT32", [-1, 1])
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata
        answer = service_pb2.ModelMetadataResponse(
            name=model.name,
            versions=[model.version],
            inputs=[tensor(name="TEXT", datatype="BYTES", shape=[-1, 1])],
            outputs=[tensor(name=name, datatype=kind, shape=shape) for name, (kind, shape) in shapes.items()],
        )
        await self._lie(f"{model.name}:metadata", answer)
        return answer

    async def ModelConfig(self, request: Any, context: grpc.aio.ServicerContext) -> Response:  # noqa: N802
        model = await self._model(request, context)
        parameters = {
            "labels": ",".join(model.labels),
            "model_sha256": model.hash,
            "activation": model.activation,
            **model.parameters,
        }
        parameter = model_config_pb2.ModelParameter
        config = model_config_pb2.ModelConfig(
            name=model.name,
            max_batch_size=model.max_rows,
            parameters={key: parameter(string_value=value) for key, value in parameters.items()},
        )
        return service_pb2.ModelConfigResponse(config=config)

    async def ModelInfer(self, request: Any, context: grpc.aio.ServicerContext) -> Response:  # noqa: N802
        model = await self._model(request, context)
        texts = [raw.decode() for raw in deserialize_bytes_tensor(request.raw_input_contents[0])]
        self.requests.append((model.name, tuple(texts)))
        answer = service_pb2.ModelInferResponse(model_name=model.name, model_version=model.version)
        kept = [text[: model.reads] for text in texts]
        if model.gives_tokens:
            _add_tokens(answer, kept, model)
        else:
            assert model.says is not None
            values = np.array([model.says(text) for text in kept], np.float32)
            add(answer, "SCORES", "FP32", values)
        if model.reads is not None:
            add(answer, "READ", "INT32", np.array([[len(text)] for text in kept], np.int32))
        await self._lie(model.name, answer, context)
        return answer

    async def _model(self, request: Any, context: grpc.aio.ServicerContext) -> Model:
        name = request.name if hasattr(request, "name") else request.model_name
        if name not in self.models:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model")
        return self.models[name]

    async def _lie(self, name: str, answer: Response, context: grpc.aio.ServicerContext | None = None) -> None:
        lie = self.lies.get(name)
        if lie is None:
            return
        said = lie(answer)
        if said is not None:
            try:
                await said
            except Refused as refused:
                assert context is not None
                await context.abort(refused.status, "refused")


class Refused(Exception):
    """Raised by a lie that answers with an error."""

    def __init__(self, status: grpc.StatusCode) -> None:
        self.status = status


def add(answer: Response, name: str, datatype: str, values: np.ndarray[Any, Any]) -> None:
    answer.outputs.add(name=name, datatype=datatype, shape=list(values.shape))
    answer.raw_output_contents.append(values.tobytes())


def _add_tokens(answer: Response, texts: Sequence[str], model: Model) -> None:
    """Every word is a token; one that begins with a capital is a name, at 0.95 or so."""
    rows = [_words(text) for text in texts]
    longest = max(len(words) for words in rows) + 2
    logits = np.zeros((len(texts), longest, len(model.labels)), np.float32)
    offsets = np.zeros((len(texts), longest, 2), np.int32)
    logits[:, :, 0] = 4.0
    for row, (text, words) in enumerate(zip(texts, rows, strict=True)):
        for at, (start, end) in enumerate(words, start=1):
            offsets[row, at] = start, end
            if text[start].isupper():
                logits[row, at] = [0.0, 4.0, *([0.0] * (len(model.labels) - 2))]
    add(answer, "LOGITS", "FP32", logits)
    add(answer, "OFFSETS", "INT32", offsets)


def _words(text: str) -> list[tuple[int, int]]:
    spans, start = [], 0
    for word in text.split(" "):
        if word:
            spans.append((start, start + len(word)))
        start += len(word) + 1
    return spans


@asynccontextmanager
async def serving(stub: Stub, *, port: int = 0) -> AsyncIterator[grpc.aio.Server]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(stub, server)
    stub.port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield server
    finally:
        await server.stop(None)
        await asyncio.sleep(0)
