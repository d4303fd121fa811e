"""A run whose fine-tuned weights are scored on another set, and its encoder evaluated by a run of its own."""

from __future__ import annotations

import pytest

from mae_dist import storage
from mae_dist.data.synthetic import MOTIONS
from mae_dist.model.weights.header import CLASSIFIER, read_card
from tests.integration import small_run

pytestmark = pytest.mark.slow

DATA = {
    "catalog": small_run.CATALOG,
    "test_catalog": "drawn://moving_clips?samples=9&seed=1",
    "cpus_per_task": 0.5,
}
FINETUNE = small_run.EVALUATION | {
    "protocol": "finetune",
    "start_from": ["pretrained"],
    "trainable_blocks": 0.5,
    "eval_batch": 4,
    "robustness": {"other": {"catalog": "drawn://moving_clips?samples=7&seed=2"}},
}


def test_what_a_run_exports_is_scored_and_evaluated_again(tmp_path):
    recipe = small_run.recipe(tmp_path / "first.yaml", "first", data=DATA, evaluations={"finetune": FINETUNE})
    small_run.run(recipe, tmp_path / "home")
    run = small_run.run_directory(tmp_path / "first")
    results = {
        name: storage.read_json(f"{run}/evaluations/{name}/result.json")
        for name in ("finetune-pretrained", "finetune.other-pretrained")
    }
    assert results["finetune-pretrained"]["num_samples"] == 9
    assert results["finetune-pretrained"]["settings"]["trainable_blocks"] == 0.5
    assert results["finetune.other-pretrained"]["num_samples"] == 7
    assert results["finetune.other-pretrained"]["protocol"] == "robustness"
    weights = storage.read_bytes(f"{run}/evaluations/finetune-pretrained/export/model.safetensors")
    assert sorted(read_card(weights, CLASSIFIER)["classes"]) == sorted(MOTIONS)
    report = storage.read_json(f"{run}/report/report.json")
    assert {entry["name"] for entry in report["evaluations"]} == {"finetune", "finetune.other"}

    probe = small_run.EVALUATION | {"protocol": "linear_probe", "start_from": ["pretrained"]}
    again = small_run.recipe(
        tmp_path / "second.yaml", "second", data=DATA, weights=str(run), evaluations={"probe": probe}
    )
    small_run.run(again, tmp_path / "home")
    second = small_run.run_directory(tmp_path / "second")
    assert storage.read_json(f"{second}/evaluations/probe-pretrained/result.json")["num_samples"] == 9
    exports = [storage.read_bytes(f"{its}/export/model.safetensors") for its in (run, second)]
    assert exports[0] == exports[1]
    assert storage.list_dir(f"{second}/checkpoints") == []
