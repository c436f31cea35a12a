"""An ONNX file from a module, a session that runs it, and changes of its metadata."""

from __future__ import annotations

import logging
import warnings
from typing import Final

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from training.errors import ExportError

OPSET: Final = 20


def graph(
    module: nn.Module, example: Tensor, *, inputs: list[str], outputs: list[str], metadata: dict[str, str]
) -> bytes:
    """A module as one ONNX file with a free batch axis. It carries `metadata`, and nothing about this machine.

    Raises ExportError when PyTorch's exporter gives no graph.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing, which is not needed
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # torch 2.13's exporter calls functions that torch 2.13 deprecates
        program = torch.onnx.export(
            module.eval(),
            (example,),  # a batch of two: the exporter takes the size of a batch of one for a constant
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            dynamic_shapes=({0: "batch"},),
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ExportError("The exporter gave no graph.")
    found = program.model_proto
    # The exporter writes source paths of this machine into each node and value.
    found.graph.doc_string = found.doc_string = ""
    for part in (found.graph, *found.graph.node, *found.graph.value_info, *found.graph.input, *found.graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    for initializer in found.graph.initializer:
        initializer.doc_string = ""
        del initializer.metadata_props[:]
    del found.metadata_props[:]
    onnx.helper.set_model_props(found, metadata)
    onnx.checker.check_model(found, full_check=True)
    return _bytes(found)


def with_metadata(graph: bytes, metadata: dict[str, str]) -> bytes:
    """The same graph with this metadata in place of its own. Equal graphs give equal bytes."""
    found = onnx.load_from_string(graph)
    del found.metadata_props[:]
    onnx.helper.set_model_props(found, metadata)
    return _bytes(found)


def _bytes(model: onnx.ModelProto) -> bytes:
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised


def session(graph: bytes) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
