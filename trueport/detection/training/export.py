"""The trained network as an int8 ONNX file."""

import tempfile
import warnings
from pathlib import Path
from typing import Final

import onnx  # type: ignore[import-not-found]  # training only
import torch  # type: ignore[import-not-found]  # training only
from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]  # no types

from trueport.detection.training.contract import HEADS, OUTPUTS
from trueport.detection.training.network import Network

OPSET: Final = 17


def export(network: Network, path: Path) -> None:
    """Write `network` to `path`: weights int8 with a scale for each channel, activations quantised as they come.

    Weights use seven bits: with eight, processors without VNNI overflow in the sums, and scores would depend on the
    machine.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "guard.onnx"
        _export_float(network.train(False).float(), whole)
        _keep_apart(whole)
        quantize_dynamic(
            whole,
            path,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_of_the_heads(whole),
        )


def _export_float(network: Network, path: Path) -> None:
    example = torch.ones((2, 9), dtype=torch.int64)
    sizes = {0: "batch", 1: "length"}
    axes = {"input_ids": sizes, "attention_mask": sizes, "pii": sizes}
    axes |= {name: {0: "batch"} for name in OUTPUTS if name != "pii"}
    with warnings.catch_warnings():
        # The exporter that traces is announced as old; its graph is the one that the quantiser understands best.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example, example),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def _keep_apart(path: Path) -> None:
    """Write the sums before a normalisation as `Sum` instead of `Add`, which means the same.

    The runtime would fuse the latter with what follows, and its fused operator takes four times as long on a CPU.
    """
    model = onnx.load(str(path))
    normalised = {node.input[0] for node in model.graph.node if node.op_type == "LayerNormalization"}
    for node in model.graph.node:
        if node.op_type == "Add" and node.output[0] in normalised:
            node.op_type = "Sum"
    onnx.save(model, str(path))


def _of_the_heads(path: Path) -> list[str]:
    """The nodes after the encoder: together a hundredth of the work, and the scores come straight out of them."""
    graph = onnx.load(str(path), load_external_data=False).graph
    # A head's nodes go by the head's own name: the exporter leaves out the dictionary that holds them.
    parts = tuple(f"/{name}/" for name in (*HEADS, "tokens", "topics"))
    names = [node.name for node in graph.node if node.name.startswith(parts)]
    # The quantiser splits a Gemm in two before it asks; its product then goes by this name.
    return [*names, *(f"{name}_MatMul" for name in names)]
