"""A tokenizer that a run trains is what another one predicts, and a basis is made before it is predicted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mae_dist import storage
from mae_dist.model.weights.header import COMPONENTS, MASKED_AUTOENCODER, TOKENIZER, check_format, metadata_of
from tests.integration import small_run

pytestmark = pytest.mark.slow

DATA = {
    "catalog": small_run.CATALOG,
    "test_catalog": "drawn://moving_clips?samples=9&seed=1",
    "cpus_per_task": 0.5,
}


def run(folder: Path, **changes) -> Path:
    recipe = small_run.recipe(folder.with_suffix(".yaml"), folder.name, data=DATA, **changes)
    small_run.run(recipe, folder.parent / "home")
    return small_run.run_directory(folder)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_what_a_run_makes_is_what_the_next_one_predicts(tmp_path):
    tokenizer = run(tmp_path / "tokenizer", tokenizer={"vocabulary": 16, "width": 8, "blocks": 1})
    made = storage.read_bytes(f"{tokenizer}/export/model.safetensors")
    check_format(metadata_of(made), TOKENIZER)
    last = json.loads((tokenizer / "metrics.jsonl").read_text().splitlines()[-1])
    assert 1 <= last["codes_used"] <= 16
    assert last["error"] > 0

    target = {"kind": "token", "tokenizer": str(tokenizer), "vocabulary": 16, "frames": "double"}
    predicting = run(tmp_path / "token", target=target)
    assert storage.read_bytes(f"{predicting}/target/token.safetensors") == made
    weights = metadata_of(storage.read_bytes(f"{predicting}/export/model.safetensors"))
    check_format(weights, MASKED_AUTOENCODER)
    card = json.loads(weights["card"])
    assert card["target"] == "token"
    assert card["architecture"]["predicted"] == 4 * 16
    assert card["provenance"]["Target frames"] == "double"
    assert not storage.exists(f"{predicting}/evaluations/reconstruction/result.json")
    assert storage.exists(f"{predicting}/report/index.html")


def test_a_basis_is_made_once_and_kept(tmp_path):
    target = {"kind": "pca", "components": 10, "basis_patches": 500}
    once = run(tmp_path / "first", target=target)
    basis = storage.read_bytes(f"{once}/target/pca.safetensors")
    check_format(metadata_of(basis), COMPONENTS)
    again = run(tmp_path / "second", target=target)
    assert storage.read_bytes(f"{again}/target/pca.safetensors") == basis
    assert losses(again) == losses(once)
