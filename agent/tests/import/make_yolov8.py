"""Makes yolov8.onnx: a small graph that ends as exports of YOLOv8 do, of numbers that mean nothing. Needs onnx and numpy."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(8)
constants, nodes = [], []


def constant(name, array):
    constants.append(numpy_helper.from_array(np.asarray(array), name))
    return name


def conv(source, target, outputs, inputs, kernel, stride, middle=0):
    weights = constant(f"{target}.w", rng.normal(0, 0.3, (outputs, inputs, kernel, kernel)).astype(np.float32))
    bias = constant(f"{target}.b", (rng.normal(0, 0.3, outputs) + middle).astype(np.float32))
    nodes.append(helper.make_node("Conv", [source, weights, bias], [target], strides=[stride] * 2, pads=[kernel // 2] * 4))
    return target


def relu(name):
    nodes.append(helper.make_node("Relu", [name], [name + ".relu"]))
    return name + ".relu"


# Fewer cells than the candidates that are kept: none is lost among those that mean nothing.
height, width, classes = 64, 64, 3
feature = relu(conv("images", "stem", 6, 3, 5, 8))
levels = []
for level in range(3):
    if level:
        feature = relu(conv(feature, f"down{level}", 6, 6, 3, 2))
    tower = relu(conv(feature, f"tower{level}", 5, 6, 3, 1))
    boxes, scores = conv(feature, f"box{level}", 4, 6, 1, 1, [4, 4, 3, 3]), conv(tower, f"cls{level}", classes, 5, 1, 1)
    nodes.append(helper.make_node("Concat", [boxes, scores], [f"both{level}"], axis=1))
    shape = constant(f"shape{level}", np.array([1, 4 + classes, -1], np.int64))
    nodes.append(helper.make_node("Reshape", [f"both{level}", shape], [f"flat{level}"]))
    levels.append(f"flat{level}")
cells = sum(height // s * (width // s) for s in (8, 16, 32))
nodes.append(helper.make_node("Concat", levels, ["all"], axis=2))
nodes.append(helper.make_node("Split", ["all", constant("parts", np.array([4, classes], np.int64))], ["b", "c"], axis=1))
nodes.append(helper.make_node("Mul", ["b", constant("stride", np.float32([8]))], ["pixels"]))
nodes.append(helper.make_node("Sigmoid", ["c"], ["likely"]))
nodes.append(helper.make_node("Concat", ["pixels", "likely"], ["output0"], axis=1))
graph = helper.make_graph(
    nodes,
    "small",
    [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, height, width])],
    [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4 + classes, cells])],
    constants,
)
onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), "yolov8.onnx")
