"""From AVA's lists and a file of people to a frame mAP in the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mae_dist import storage
from mae_dist.data.keys import rng
from mae_dist.data.readers import Request, build_catalog
from mae_dist.data.synthetic import moving_clip
from mae_dist.data.video import encode_h264
from tests.integration import small_run

pytestmark = pytest.mark.slow

ACTIONS = "".join(f'item {{\n  name: "{name}"\n  id: {n}\n}}\n' for n, name in enumerate(("go", "stay"), 1))
FOUND = {"m00": (0.05, 0.1, 0.45, 0.95), "m01": (0.5, 0.1, 0.95, 0.95)}


def put_movies(folder: Path, split: str, num_movies: int) -> str:
    """Movies of three seconds with one person on each side, who does one thing each; returns the catalog."""
    lines = []
    for index in range(num_movies):
        frames = moving_clip(rng(index, 0, index, "clip"), index % 2, frames=24, size=64)
        storage.write_bytes(f"{folder}/{split}/m{index:02d}.mp4", encode_h264(frames, 8))
        for second in (1, 2):
            lines.append(f"m{index:02d},{second:04d},0.0,0.1,0.5,1.0,1,0")
            lines.append(f"m{index:02d},{second:04d},0.5,0.1,1.0,1.0,2,1")
    lists = {
        f"ava_{split}_v2.2.csv": "\n".join(lines),
        f"ava_{split}_excluded_timestamps_v2.2.csv": "",
        "ava_action_list_v2.2.pbtxt": ACTIONS,
    }
    for name, text in lists.items():
        storage.write_bytes(f"{folder}/{split}-lists/{name}", text.encode())
    request = Request(split=split, annotations=f"{folder}/{split}-lists")
    build_catalog(f"{folder}/{split}", kind="ava", request=request).save(f"{folder}/{split}.parquet")
    return f"{folder}/{split}.parquet"


def test_detected_people_become_a_frame_map_in_the_report(tmp_path):
    found = [f"{movie},0001,{','.join(map(str, box))},,0.9" for movie, box in FOUND.items()]
    (tmp_path / "people.csv").write_text("\n".join(found) + "\nm00,0000,0,0,1,1,,0.95\n")
    detect = {
        "extends": "finetune/ava.yaml",
        "train": small_run.TRAIN | {"length": "4 steps", "warmup": "0 steps"},
        "detection": {
            "boxes": f"{tmp_path}/people.csv",
            "actions": None,
            "test_height": 32,
            "test_width": 48,
        },
        "eval_batch": 2,
        "published": None,
    }
    recipe = small_run.recipe(
        tmp_path / "small.yaml",
        f"{tmp_path}/runs",
        data={
            "catalog": put_movies(tmp_path, "train", 6),
            "test_catalog": put_movies(tmp_path, "val", 3),
            "cpus_per_task": 0.5,
        },
        evaluations={"ava": detect},
    )
    small_run.run(recipe, tmp_path / "home")
    run = small_run.run_directory(tmp_path / "runs")
    result = storage.read_json(f"{run}/evaluations/ava-pretrained/result.json")
    assert result["settings"]["people_judged"] == 3
    assert result["settings"]["keyframes_judged"] == 3
    # Of six people who go, one is in the file, and so of those who stay: at best 1/6 each.
    assert 0 < result["value"] <= 100 / 6 + 1e-6
    assert [(row["class"], row["total"]) for row in result["per_class"]] == [("go", 6), ("stay", 6)]
    report = storage.read_json(f"{run}/report/report.json")
    assert report["state"] == "complete"
    [entry] = report["evaluations"]
    assert (entry["metric"], entry["pretrained"]["value"]) == ("frame_map", result["value"])
    assert np.isfinite(entry["per_class"][0]["pretrained"])
