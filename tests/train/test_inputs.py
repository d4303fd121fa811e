"""Pixels of other channels, shapes, lengths and patches: from files through a step to a loaded export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mae_dist
from mae_dist.config.load import load
from mae_dist.data.batch import build_block
from mae_dist.data.catalog import Catalog
from mae_dist.data.video import encode_h264
from mae_dist.evaluate.reconstruction import evaluate_reconstruction
from mae_dist.train.exporting import export
from mae_dist.train.tasks import ClassifyTask, PretrainTask
from mae_dist.train.training import Training
from mae_dist.train.worker import build_task

NUM_SAMPLES = 8
IMAGE = ("model.size=mae_nano", "mask.kind=random", "input.frames=1", "target.kind=norm_pixel_mae")
CLIP = ("model.size=videomae_micro", "target.kind=norm_pixel_videomae")


def statistics(channels: int) -> tuple[str, ...]:
    return (f"input.channels={channels}", f"input.mean={[0.5] * channels}", f"input.std={[0.25] * channels}")


INPUTS = {
    "grey images": ("png", (*IMAGE, *statistics(1), "input.height=16", "input.width=16")),
    "RGBA images, rectangular": ("rgba", (*IMAGE, *statistics(4), "input.height=12", "input.width=28")),
    "arrays of 6 channels": ("npy", (*IMAGE, *statistics(6), "input.height=20", "input.width=20")),
    "grey clips": ("mp4", (*CLIP, *statistics(1), "input.frames=4", "input.height=16", "input.width=24")),
    "6 frames in tubelets of 3": (
        "mp4",
        (*CLIP, "input.frames=6", "model.tubelet=3", "input.height=24", "input.width=16"),
    ),
    "frames one by one": (
        "mp4",
        (*CLIP, "input.frames=3", "model.tubelet=1", "input.height=16", "input.width=16"),
    ),
    "one tubelet of an image model": (
        "mp4",
        (*IMAGE, "input.frames=2", "model.tubelet=2", "input.height=16", "input.width=16"),
    ),
}


def write_samples(folder: Path, kind: str) -> str:
    """A catalog of files of noise."""
    rng = np.random.default_rng(0)
    uris = []
    for number in range(NUM_SAMPLES):
        suffix = {"rgba": "png"}.get(kind, kind)
        path = folder / f"{number}.{suffix}"
        uris.append(str(path))
        if kind == "npy":
            np.save(path, rng.integers(0, 256, (24, 32, 6), dtype=np.uint8))
        elif kind == "mp4":
            path.write_bytes(encode_h264(rng.integers(0, 256, (12, 32, 48, 3), dtype=np.uint8), 10))
        else:
            shape = (24, 32, 4 if kind == "rgba" else 3)
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
    uri = str(folder / "catalog.parquet")
    media = "video" if kind == "mp4" else "image"
    labels = np.arange(NUM_SAMPLES) % 2
    Catalog.of(keys=uris, uris=uris, media=media, labels=labels, classes=["a", "b"]).save(uri)
    return uri


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_an_input_is_trained_on_exported_loaded_and_evaluated(name, tmp_path):
    kind, settings = INPUTS[name]
    uri = write_samples(tmp_path, kind)
    config = load(
        "pretrain/demo", [f"data.catalog={uri}", "mask.ratio=0.5", "train.micro_batch=4", *settings]
    )
    training = Training(config=config, output=str(tmp_path / "run"), catalog=uri)
    block = build_block(0, training.training_samples(), training.stream())
    assert block["faults"] == []
    task = build_task(training, num_classes=2)
    assert isinstance(task, PretrainTask)
    batch = {name: torch.from_numpy(block[name]) for name in ("clips", "keep")}
    size = config.input
    assert batch["clips"].shape == (4, size.frames, size.height, size.width, size.channels)
    out = task(batch)
    out.loss.backward()
    assert out.loss.isfinite()
    embedding = task.model.encoder.patch_embedding.weight
    assert embedding.grad is not None
    assert embedding.grad.abs().sum() > 0
    export(training, task, training.training_samples())

    encoder = mae_dist.load(training.export)
    tokens = encoder.encode(batch["clips"], pool="tokens")
    patches = task.pixels.normalise(task.pixels.cut(batch["clips"].float() / 255))
    torch.testing.assert_close(tokens, task.model.eval().encode(patches))
    result = evaluate_reconstruction(
        config, weights=training.export, catalog=uri, output=str(tmp_path / "reconstruction")
    )
    assert result["num_samples"] == NUM_SAMPLES
    evaluation = Training(
        config=config,
        output="",
        catalog=uri,
        test_catalog=uri,
        evaluation="finetune",
        weights=training.export,
    )
    classify = build_task(evaluation, num_classes=2)
    assert isinstance(classify, ClassifyTask)
    assert classify.logits(batch["clips"].float() / 255).shape == (4, 2)
    assert evaluation.operations(num_classes=2) > 0
