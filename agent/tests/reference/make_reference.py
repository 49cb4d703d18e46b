#!/usr/bin/env python3
"""Makes what the detector's test compares with: pictures, small models, and golden.json.

Needs numpy, pillow, onnx and onnxruntime. Run it in this directory after a change to the default model or to the
letterbox:

    python make_reference.py [VTEST_AVI]

With the path of Debian's vtest.avi (package opencv-doc) the pictures are cut out of it again (needs ffmpeg).
It shares no code with the detector: it is the detector, written a second time.
"""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from PIL import Image

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent.parent / "models"
WIDTH, HEIGHT = 384, 288
SCORE_MIN, NMS_IOU = 0.3, 0.5

# name: (frame of the video, left, top, right, bottom)
PICTURES = {
    "same.png": (650, 300, 150, 684, 438),  # the model's own size: no scaling at all
    "wide.png": (100, 320, 130, 640, 310),  # scaled up, black above and below
    "tall.png": (650, 130, 130, 430, 530),  # scaled down, black left and right
}


def cut_pictures(video):
    for name, (number, *box) in PICTURES.items():
        select = ["-vf", f"select=eq(n\\,{number})", "-frames:v", "1", "-f", "image2pipe", "-c:v", "png", "-"]
        frame = subprocess.run(["ffmpeg", "-v", "error", "-i", video, *select], check=True, capture_output=True).stdout
        Image.open(io.BytesIO(frame)).convert("RGB").crop(box).save(HERE / name, optimize=True)


def letterbox(picture):
    scale = min(WIDTH / picture.width, HEIGHT / picture.height)
    width, height = (max(1, int(side * scale + 0.5)) for side in picture.size)
    left, top = (WIDTH - width) // 2, (HEIGHT - height) // 2
    canvas = Image.new("RGB", (WIDTH, HEIGHT))
    # The same averages in either order; but each pass rounds to bytes, and a detector notices the odd step of color in
    # the third digit. The agent takes columns first, Pillow rows first: here columns first, by two calls.
    columns = picture.resize((picture.width, height), Image.Resampling.BILINEAR)
    canvas.paste(columns.resize((width, height), Image.Resampling.BILINEAR), (left, top))
    return np.asarray(canvas), (left, top, width, height)


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def decode(boxes, scores, size, place):
    left, top, width, height = place
    found = []
    for (x1, y1, x2, y2), score in zip(boxes.tolist(), scores.tolist()):
        if score >= SCORE_MIN:
            x = [min(max((v * WIDTH - left) * size[0] / width, 0), size[0]) for v in (x1, x2)]
            y = [min(max((v * HEIGHT - top) * size[1] / height, 0), size[1]) for v in (y1, y2)]
            found.append(((x[0], y[0], x[1], y[1]), score))
    kept = []
    for box, score in sorted(found, key=lambda item: -item[1]):
        if all(iou(box, other) <= NMS_IOU for other, _ in kept):
            kept.append((box, score))
    return [{"box": [round(v, 3) for v in box], "score": round(score, 6)} for box, score in kept]


def golden():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(MODELS / "centernet_u8_384x288_top100_w16.onnx", options)
    head = np.fromfile(MODELS / "centernet_person.head.f32", "<f4")
    inputs = {"cls_w": head[:-1].reshape(1, -1, 1, 1), "cls_b": head[-1:]}
    pictures = []
    for name in PICTURES:
        picture = Image.open(HERE / name).convert("RGB")
        tensor, place = letterbox(picture)
        boxes, scores = session.run(["boxes", "scores"], {"image": tensor[None], **inputs})
        points = [(x, y) for y in range(5, HEIGHT, 23) for x in range(7, WIDTH, 29)]
        pictures.append({
            "file": name,
            "place": place,
            "points": [[x, y, *tensor[y, x].tolist()] for x, y in points],
            "raw_boxes": [round(v, 6) for v in boxes.ravel().tolist()],
            "raw_scores": [round(v, 6) for v in scores.tolist()],
            "detections": decode(boxes, scores, picture.size, place),
        })
    text = json.dumps({"onnxruntime": onnxruntime.__version__, "pictures": pictures})
    (HERE / "golden.json").write_text(text.replace('{"file"', '\n{"file"') + "\n")


def small_models():
    """Models of a few hundred bytes with the ports of real ones: each gives constants, whatever the picture."""

    def save(name, inputs, outputs, metadata=None, external=False):
        nodes, weights = [], []
        for port, value in outputs.items():
            weights.append(onnx.numpy_helper.from_array(value, f"{port}_value"))
            nodes.append(helper.make_node("Identity", [f"{port}_value"], [port]))
        if external:
            # A file that is there: the test runs in the package's directory. A hostile model would name etc/passwd and
            # hope for a working directory of /.
            weights[0].ClearField("raw_data")
            weights[0].data_location = TensorProto.EXTERNAL
            weights[0].external_data.add(key="location", value="Cargo.toml")
        ports = [helper.make_tensor_value_info(port, kind, shape) for port, (kind, shape) in inputs.items()]
        kinds = {port: helper.np_dtype_to_tensor_dtype(value.dtype) for port, value in outputs.items()}
        results = [helper.make_tensor_value_info(p, kinds[p], value.shape) for p, value in outputs.items()]
        graph = helper.make_graph(nodes, "constant", ports, results, weights)
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
        helper.set_model_props(model, metadata or {})
        (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())

    picture = {"image": (TensorProto.UINT8, [1, 64, 96, 3])}
    boxes = np.array([[[0.25, 0.25, 0.5, 0.75], [0.26, 0.25, 0.5, 0.75], [0.5, 0.5, 1, 1], [0, 0, 1, 1]]], np.float32)
    scores = np.array([[0.5, 0.75, 0.625, 0.125]], np.float32)
    save("plain", picture, {"boxes": boxes, "scores": scores}, {"classes": "person"})
    broken = scores.copy()
    broken[0, 1:3] = np.nan, np.inf
    save("not_numbers", picture, {"boxes": boxes, "scores": broken})
    save("other_class", picture, {"boxes": boxes, "scores": scores}, {"classes": "car"})
    save("external", picture, {"boxes": boxes, "scores": scores}, external=True)
    # One cell short of a YOLO.
    yolo = {"images": (TensorProto.FLOAT, [1, 3, 64, 96])}
    save("unknown", yolo, {"output0": np.zeros((1, 6, 125), np.float32)})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        cut_pictures(sys.argv[1])
    small_models()
    golden()
