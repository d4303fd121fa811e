"""Action detection: train a detector, judge the people of the test, write result.json."""

from __future__ import annotations

from typing import Any

import numpy as np

from mae_dist import storage
from mae_dist.config.detection import DetectionConfig
from mae_dist.data.boxes import CORNERS
from mae_dist.data.catalog import Catalog, labels_disagree
from mae_dist.data.mix import load_samples
from mae_dist.data.people import People, excluded_of, people_of
from mae_dist.evaluate.average_precision import OFFICIAL_IOU, ActionBoxes, average_precisions
from mae_dist.train.detection import Judgements, read_judgements
from mae_dist.train.launch import run_training
from mae_dist.train.training import Training


def evaluate_detector(training: Training, *, name: str, start_from: str, use_gpu: bool) -> dict[str, Any]:
    """Run action detection from one starting point and write its result.json; returns the result.

    Nobody is detected in a keyframe that cannot be read, and faults.jsonl names it. Raises ValueError, before
    anything is trained, if the labels of the test samples mean something else.
    """
    protocol = training.protocol
    assert protocol is not None
    assert training.test_catalog is not None
    detection = protocol.detection
    samples, truth = load_samples(training.catalog), Catalog.load(training.test_catalog)
    complaint = labels_disagree(samples.classes, truth.classes)
    if complaint:
        raise ValueError(f"{training.test_catalog}: {complaint}")
    judged, people = training.test_samples(), people_of(truth, detection)
    summary = run_training(training, use_gpu=use_gpu)
    judgements = read_judgements(training.output, world=summary["world"])
    result = {
        "evaluation": name,
        "protocol": protocol.protocol,
        "start_from": start_from,
        **frame_map(truth, judged, people, judgements, detection, num_actions=samples.num_classes),
        "settings": {
            "length": str(protocol.training.length),
            "global_batch": protocol.training.global_batch,
            "optimiser": protocol.training.optim.kind,
            "peak_lr": protocol.training.peak_lr,
            "training_samples": summary["num_training_samples"],
            "boxes": "true ones" if detection.boxes is None else detection.boxes,
            "min_score": None if detection.boxes is None else detection.min_score,
            "people_judged": len(judgements["sample"]),
            "keyframes_judged": judged.num_samples,
            "overlap": OFFICIAL_IOU,
            "detections_per_keyframe": detection.per_keyframe,
            "test_frame": f"whole, within {detection.test_height} x {detection.test_width}",
            "workers": summary["world"],
        },
        "published": None
        if protocol.published is None
        else {"value": protocol.published.value, "source": protocol.published.source},
    }
    storage.write_json(storage.join(training.output, "result.json"), result)
    return result


def frame_map(
    truth: Catalog,
    judged: Catalog,
    people: People,
    judgements: Judgements,
    detection: DetectionConfig,
    *,
    num_actions: int,
) -> dict[str, Any]:
    """The frame mAP in percent, and the average precision of every action that counts and occurs.

    `judged` are the keyframes that the judgements' sample numbers mean, and `people` their boxes and scores.
    Raises ValueError if none of the actions that count occurs.
    """
    excluded = excluded_of(detection)
    keyframes = {key: number for number, key in enumerate(judged.table["key"].to_pylist())}
    shown = _shown(truth, excluded, keyframes)
    precision = average_precisions(
        shown,
        _detected(judged, people, judgements),
        num_actions=num_actions,
        counted=None if detection.actions is None else [number - 1 for number in detection.actions],
        per_keyframe=detection.per_keyframe,
    )
    occurs = ~np.isnan(precision)
    if not occurs.any():
        raise ValueError("none of the actions in detection.actions occurs in the test catalog")
    totals = np.bincount(shown.action, minlength=num_actions)
    return {
        "metric": "frame_map",
        "value": 100 * float(precision[occurs].mean()),
        # Detections of one movie depend on each other; what that does to the mean is not known here.
        "standard_error": None,
        "num_samples": truth.num_samples,
        "num_classes": int(occurs.sum()),
        "per_class": [
            {
                "class": truth.classes[action],
                "value": 100 * float(precision[action]),
                "total": int(totals[action]),
            }
            for action in np.flatnonzero(occurs).tolist()
        ],
    }


def _shown(truth: Catalog, excluded: frozenset[str], keyframes: dict[str, int]) -> ActionBoxes:
    """The true boxes, once for each of their actions; `keyframes` numbers keyframes, and is added to."""
    rows = []
    for row in truth.rows(np.arange(truth.num_samples)):
        if row.key in excluded:
            continue
        number = keyframes.setdefault(row.key, len(keyframes))
        rows += [
            (number, [box[name] for name in CORNERS], label)
            for box in row.boxes or []
            for label in box["labels"]
        ]
    # Lists have three decimals; catalogs keep float32, whose digits beyond the sixth are not theirs.
    corners = np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, 4).round(6)
    numbers, actions = (np.array([row[place] for row in rows], dtype=np.int64) for place in (0, 2))
    return ActionBoxes(numbers, corners, actions, np.ones(len(rows)))


def _detected(judged: Catalog, people: People, judgements: Judgements) -> ActionBoxes:
    """Every person in every action, at the product of both scores."""
    keys = judged.table["key"].to_pylist()
    found = np.array(
        [
            people[keys[sample]][place]
            for sample, place in zip(judgements["sample"], judgements["place"], strict=True)
        ],
        dtype=np.float64,
    ).reshape(-1, 5)
    num_people, num_actions = judgements["probability"].shape
    return ActionBoxes(
        judgements["sample"].repeat(num_actions),
        found[:, :4].round(6).repeat(num_actions, axis=0),
        np.tile(np.arange(num_actions), num_people),
        (judgements["probability"] * found[:, 4:]).ravel(),
    )
