"""A pretraining whose kept checkpoints are probed on the way, and the same job again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mae_dist import storage
from tests.integration import small_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    small_run.recipe(
        folder / "small.yaml",
        "runs",
        data={
            "catalog": small_run.CATALOG,
            "test_catalog": "drawn://moving_clips?samples=9&seed=1",
            "cpus_per_task": 0.5,
        },
        # The last step is saved too, but is the final weights'.
        checkpoint={"every": "4 steps", "keep": 1, "keep_every": "8 steps"},
        evaluations={
            "finetune": small_run.EVALUATION
            | {
                "protocol": "finetune",
                "start_from": ["pretrained"],
                "checkpoints": ["last", "every 8 steps"],
                "workers": 1,
            },
        },
    )
    return folder / "small.yaml"


def test_kept_checkpoints_are_probed_and_a_second_job_repeats_none_of_it(recipe):
    small_run.run(str(recipe), recipe.parent / "home")
    run = small_run.run_directory(recipe.parent / "runs")
    results = {
        folder: storage.read_json(f"{run}/evaluations/{folder}/result.json")
        for folder in storage.list_dir(f"{run}/evaluations")
        if folder.startswith("finetune-pretrained")
    }
    steps = {folder: result.get("pretraining_step") for folder, result in results.items()}
    assert steps == {"finetune-pretrained": None, "finetune-pretrained@8": 8}
    assert all(result["num_samples"] == 9 for result in results.values())
    early, final = (
        load_file(run / where / "export" / "model.safetensors") for where in ("kept/step-000000008", ".")
    )
    assert early.keys() == final.keys()
    assert not all(torch.equal(early[name], final[name]) for name in final)
    report = storage.read_json(f"{run}/report/report.json")
    assert report["state"] == "complete"

    output = small_run.run(str(recipe), recipe.parent / "home")
    kept = {line.split()[0] for line in output.splitlines() if " kept" in line}
    assert kept >= {"pretrain", "weights@8", "finetune-pretrained@8"}
    told = json.loads((run / "steps.json").read_text())
    assert [entry["name"] for entry in told["history"]].count("finetune-pretrained@8") == 1
