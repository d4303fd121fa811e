"""A run whose evaluations share one extraction, and the same job again."""

from __future__ import annotations

import pytest

from mae_dist import storage
from tests.integration import small_run

pytestmark = pytest.mark.slow

SHARED = {"eval_batch": 4, "features": {"layers": [2, -1], "validation_share": 0.3}}
EVALUATIONS = {
    "probe": SHARED | {"protocol": "feature_probe", "heads": {"length": "5 epochs", "batch": 16}},
    "knn": SHARED | {"protocol": "knn"},
    "attentive": {
        "protocol": "attentive_probe",
        "start_from": ["pretrained"],
        "eval_batch": 4,
        "features": {"validation_share": 0.3},
        "attentive": {"heads": 3},
        "heads": {"kind": "adamw", "length": "2 epochs", "batch": 16, "base_lrs": [1.0e-3]},
    },
}


def test_a_run_extracts_once_for_all_that_need_it_and_reports_every_protocol(tmp_path):
    data = {
        "catalog": "drawn://moving_clips?samples=24&seed=0",
        "test_catalog": "drawn://moving_clips?samples=9&seed=1",
        "cpus_per_task": 0.5,
    }
    recipe = small_run.recipe(tmp_path / "small.yaml", "runs", data=data, evaluations=EVALUATIONS)
    small_run.run(recipe, tmp_path / "home")
    run = small_run.run_directory(tmp_path / "runs")
    assert len(storage.list_dir(f"{run}/features")) == 3  # both starts, and tokens of the pretrained one
    report = storage.read_json(f"{run}/report/report.json")
    assert report["state"] == "complete"
    found = {entry["name"]: entry for entry in report["evaluations"]}
    assert sorted(found) == ["attentive", "knn", "probe"]
    for entry in found.values():
        assert entry["pretrained"]["num_samples"] == 9
        assert entry["settings"]["held_out_samples"] >= 4
    assert found["probe"]["random"]["num_samples"] == 9
    assert found["probe"]["settings"]["tried"] == 10
    assert found["knn"]["settings"]["tried"] == 8

    changed = EVALUATIONS | {"knn": EVALUATIONS["knn"] | {"knn": {"temperature": 0.1}}}
    again = small_run.recipe(tmp_path / "small.yaml", "runs", data=data, evaluations=changed)
    output = small_run.run(again, tmp_path / "home")
    states = dict(line.split()[:2] for line in output.splitlines() if " kept" in line or " done " in line)
    assert {name for name, state in states.items() if state == "done"} == {
        "knn-pretrained",
        "knn-random",
        "report",
    }
