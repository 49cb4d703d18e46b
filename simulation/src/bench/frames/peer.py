"""The same job as the agent's frame path, as it is usually written in Python: OpenCV reads the video, onnxruntime
detects, supervision's ByteTrack follows, paho-mqtt tells. It is measured beside the agent by `make bench`.

It is given every advantage that a short program has: no masks, no motion test, no store, no acknowledgement, one
message for each new track and each end, at QoS 1. It never looks at the agent's own code.
"""

import argparse
import json
import resource
import time

started = time.monotonic()

import cv2
import numpy as np
import onnxruntime
import paho.mqtt.client as mqtt
import supervision

SCORE_MIN = 0.3
NMS_IOU_MAX = 0.6
UPDATE_INTERVAL_S = 5.0


def session_of(path):
    """One thread, as the agent's session has: the other cores are the decoders'."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def head_of(session, path):
    """The class head: its weights, and its bias last; absent where the model holds it."""
    by_name = {port.name: port for port in session.get_inputs()}
    if "cls_w" not in by_name:
        return {}
    values = np.fromfile(path, dtype="<f4")
    return {"cls_w": values[:-1].reshape(by_name["cls_w"].shape), "cls_b": values[-1:]}


def letterbox(frame, width, height):
    scale = min(width / frame.shape[1], height / frame.shape[0])
    inner = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    picture = np.zeros((height, width, 3), np.uint8)
    small = cv2.resize(frame, inner, interpolation=cv2.INTER_AREA)
    picture[top : top + inner[1], left : left + inner[0]] = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
    return picture[None], scale, left, top


def detect(session, head, picture):
    outputs = dict(zip([port.name for port in session.get_outputs()], session.run(None, {"image": picture, **head})))
    return outputs["boxes"].reshape(-1, 4), outputs["scores"].reshape(-1)


def raw_fps(session, head, picture, runs):
    began = time.perf_counter()
    for _ in range(runs):
        session.run(None, {"image": picture, **head})
    return runs / (time.perf_counter() - began)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--video", required=True)
    arguments.add_argument("--model", required=True)
    arguments.add_argument("--head", required=True)
    arguments.add_argument("--port", type=int, required=True, help="of the broker on this machine")
    arguments.add_argument("--frames", type=int, default=600)
    arguments.add_argument("--raw-runs", type=int, default=100)
    options = arguments.parse_args()

    session = session_of(options.model)
    head = head_of(session, options.head)
    _, height, width, _ = next(port.shape for port in session.get_inputs() if port.name == "image")
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", options.port)
    client.loop_start()

    blank = np.zeros((1, height, width, 3), np.uint8)
    raw_began = time.monotonic()
    raw_before = raw_fps(session, head, blank, options.raw_runs)
    raw_took = time.monotonic() - raw_began

    tracker = supervision.ByteTrack(frame_rate=10)
    capture = cv2.VideoCapture(options.video)
    told, messages = {}, 0

    def tell(kind, track, box, score):
        event = {"type": kind, "id": track, "label": "person", "box": box, "score": score, "frame_time": time.time()}
        client.publish("peer/events", json.dumps(event), qos=1)

    first_detection_s, frames, in_run_s, cpu_began = None, 0, 0.0, time.process_time()
    began = time.perf_counter()
    while frames < options.frames:
        fine, frame = capture.read()
        if not fine:
            capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            continue
        picture, scale, left, top = letterbox(frame, width, height)
        run_began = time.thread_time()
        boxes, scores = detect(session, head, picture)
        in_run_s += time.thread_time() - run_began
        kept = scores >= SCORE_MIN
        boxes = (boxes[kept] * [width, height, width, height] - [left, top, left, top]) / scale
        scores = scores[kept]
        sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        best = cv2.dnn.NMSBoxes(sizes.tolist(), scores.tolist(), SCORE_MIN, NMS_IOU_MAX) if len(boxes) else []
        best = np.asarray(best, dtype=int).reshape(-1)
        found = supervision.Detections(
            xyxy=boxes[best].astype(np.float32).reshape(-1, 4),
            confidence=scores[best].astype(np.float32),
            class_id=np.zeros(len(best), dtype=int),
        )
        tracks = tracker.update_with_detections(found)
        now = time.monotonic()
        here = set()
        for box, score, track in zip(tracks.xyxy, tracks.confidence, tracks.tracker_id):
            here.add(int(track))
            last = told.get(int(track))
            if last is None or now - last[0] >= UPDATE_INTERVAL_S:
                tell("new" if last is None else "update", int(track), [int(side) for side in box], float(score))
                messages += 1
                told[int(track)] = (now, [int(side) for side in box], float(score))
        for track in set(told) - here:
            _, box, score = told.pop(track)
            tell("end", track, box, score)
            messages += 1
        if first_detection_s is None:
            first_detection_s = time.monotonic() - started - raw_took
        frames += 1
    seconds = time.perf_counter() - began
    cpu_s = time.process_time() - cpu_began

    raw = (raw_before + raw_fps(session, head, blank, options.raw_runs)) / 2
    client.loop_stop()
    print(
        json.dumps(
            {
                "frames": frames,
                "messages": messages,
                "path_fps": frames / seconds,
                "raw_fps": raw,
                "ratio": frames / seconds / raw,
                "cpu_ms_outside_inference": (cpu_s - in_run_s) * 1000 / frames,
                "first_detection_ms": first_detection_s * 1000,
                "resident_bytes_max": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
