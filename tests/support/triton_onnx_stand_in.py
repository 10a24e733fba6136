"""Runs a `model.onnx` in Triton's Python backend, in the place of the ONNX Runtime backend that a small server lacks.

Copied into a model repository by a test; never imported by one.
"""

import json
from pathlib import Path
from typing import Any

import onnxruntime  # type: ignore[import-untyped]  # the package ships no types
import triton_python_backend_utils as triton  # type: ignore[import-not-found]  # only there inside of the server


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        self.output = json.loads(args["model_config"])["output"][0]["name"]
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        inputs = {
            name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in ("input_ids", "attention_mask")
        }
        [values] = self.session.run([self.output], inputs)
        return triton.InferenceResponse(output_tensors=[triton.Tensor(self.output, values)])
