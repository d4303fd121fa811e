"""The weights that are taken out of a checkpoint are those that the training had, or their averages."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from mae_dist.config.load import load
from mae_dist.train.checkpoint import Checkpointer, Progress
from mae_dist.train.kept import export_checkpoint
from mae_dist.train.training import Training
from mae_dist.train.worker import build_engine, build_task
from tests.orchestrate.test_preflight import save_catalog


@pytest.mark.parametrize("ema", ["null", "0.5"])
def test_a_checkpoint_is_exported_as_the_training_would_export_itself(tmp_path, ema):
    settings = ["resources.engine=torch", "resources.workers=1", f"train.ema={ema}"]
    training = Training(
        config=load("pretrain/demo", settings),
        output=str(tmp_path / "out"),
        catalog=save_catalog(tmp_path, [0, 1], ["a", "b"]),
    )
    task = build_task(training, num_classes=2)
    pace = training.pace(training.training_samples(), world=1)
    engine = build_engine(task, training, pace, torch.device("cpu"))
    fragments = engine.fragments()
    kind = "weight" if ema == "null" else "ema"
    for number, values in enumerate(fragments[name] for name in sorted(fragments) if name.startswith(kind)):
        values.fill_(float(number))
    saver = Checkpointer(str(tmp_path / "saved"), rank=0, world=1, attempt="a", keep=1)
    saver.save(engine, Progress(step=7))
    saver.wait()
    assert export_checkpoint(training, checkpoints=str(tmp_path / "saved"), step=7) == {"step": 7}
    exported = load_file(tmp_path / "out" / "export" / "model.safetensors")
    names = sorted(name.split("/", 2)[2] for name in fragments if name.startswith(kind))
    assert len(names) > 10
    for number, name in enumerate(names):
        assert (exported[name.removeprefix("model.")] == number).all()
