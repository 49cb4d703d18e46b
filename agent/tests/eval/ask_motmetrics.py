"""Asks PyPI's motmetrics about every NAME.truth.txt and NAME.result.txt of a folder; prints JSON by name."""

import glob
import json
import os
import sys

import motmetrics

METRICS = [
    "mota", "motp", "idf1", "idp", "idr", "num_switches", "num_false_positives", "num_misses",
    "num_fragmentations", "num_objects", "num_unique_objects",
]

answers = {}
for truth in sorted(glob.glob(os.path.join(sys.argv[1], "*.truth.txt"))):
    name = os.path.basename(truth)[: -len(".truth.txt")]
    # Both lose the same pixel of MATLAB's convention, so that overlaps stay what they are.
    load = lambda path: motmetrics.io.loadtxt(path, fmt="mot15-2D", min_confidence=-1)
    result = load(truth.replace(".truth.txt", ".result.txt"))
    accumulated = motmetrics.utils.compare_to_groundtruth(load(truth), result, "iou", distth=0.5)
    row = motmetrics.metrics.create().compute(accumulated, metrics=METRICS, name=name).loc[name]
    answers[name] = {key: int(row[key]) if key.startswith("num_") else float(row[key]) for key in METRICS}
json.dump(answers, sys.stdout, indent=2)
