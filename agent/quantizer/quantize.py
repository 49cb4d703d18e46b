"""Makes an INT8 model of a 32-bit one: static quantisation with ranges measured on this station's frames.

Started by `picket-agent model quantize`, in a Python of its own. Takes one directory: `model.onnx`, `job.json` and the
tensors that the agent made of the frames, one file each; leaves `quantized.onnx` there.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

# What computes, and what lies between: left in 32 bits it would cost a conversion on each side.
COMPUTING = ["Conv", "ConvTranspose", "MatMul", "Gemm"]
BETWEEN = ["Add", "Mul", "Relu", "Clip", "LeakyRelu", "MaxPool", "Concat", "Resize"]


class Frames(CalibrationDataReader):
    def __init__(self, folder, job):
        self.job = job
        self.fixed = {p["name"]: np.array(p["values"], p["type"]).reshape(p["shape"]) for p in job["fixed"]}
        self.files = iter(sorted(folder.glob("frame-*.bin")))

    def get_next(self):
        file = next(self.files, None)
        if file is None:
            return None
        picture = self.job["picture"]
        tensor = np.fromfile(file, picture["type"]).reshape(picture["shape"])
        return {picture["name"]: tensor, **self.fixed}


def plain(source, target):
    """Folds constants, so that weights that are stored in 16 bits and widened are seen as weights."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def left_alone(graph):
    """Names of nodes that stay in 32 bits.

    Behind the last computing node come corners in pixels and choices among scores: eight bits would move every box. And
    weights that come from outside, as a class head does, may be exchanged for others of another range.
    """
    weights = {tensor.name for tensor in graph.initializer}
    users = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    computes = set()
    for node in reversed(graph.node):
        behind = [user for name in node.output for user in users.get(name, [])]
        if node.op_type in COMPUTING or any(user.name in computes for user in behind):
            computes.add(node.name)
    inputs = {port.name for port in graph.input} - weights
    exchanged = {
        node.name for node in graph.node if node.op_type in COMPUTING and any(name in inputs for name in node.input[1:])
    }
    return [node.name for node in graph.node if node.name not in computes or node.name in exchanged]


def main(folder):
    job = json.loads((folder / "job.json").read_text())
    source, folded, target = (folder / name for name in ("model.onnx", "folded.onnx", "quantized.onnx"))
    plain(source, folded)
    model = onnx.load(folded)
    for number, node in enumerate(model.graph.node):
        # Rules go by name.
        node.name = f"{number}-{node.op_type}"
    onnx.save(model, folded)
    quantize_static(
        folded,
        target,
        Frames(folder, job),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=COMPUTING + BETWEEN,
        nodes_to_exclude=left_alone(model.graph),
    )
    quantized = onnx.load(target)
    # What the maker wrote into the model, class names among it, goes with it.
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(onnx.load(source).metadata_props)
    onnx.save(quantized, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
