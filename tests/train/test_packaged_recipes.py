"""Every packaged recipe takes one step: its pixels, mask, target, head and optimiser in a narrow model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mae_dist.config import geometry
from mae_dist.config.load import load_without_samples
from mae_dist.config.probing import FROZEN_PROTOCOLS
from mae_dist.config.schema import AugmentConfig, EvaluationConfig, RunConfig
from mae_dist.config.tree import recipe_names
from mae_dist.data.augment import augment
from mae_dist.data.decoded import Pixels
from mae_dist.data.masking import keep_ids, predict_ids
from mae_dist.evaluate.attentive import AttentiveHeads
from mae_dist.evaluate.features import TOKENS, layer_and_pool, set_names
from mae_dist.evaluate.heads import LinearHeads
from mae_dist.model.classifier import POOLS
from mae_dist.model.encoder import Encoder
from mae_dist.orchestrate.packaged import EVALUATION, run_with
from mae_dist.train.param_groups import make_optimizer
from mae_dist.train.tasks import PatchInput
from mae_dist.train.training import Training
from mae_dist.train.worker import build_task

NAMES = recipe_names()
RUNS = [name for name in NAMES if name.startswith("pretrain/")]
SECTIONS = [name for name in NAMES if name.startswith(("probe/", "finetune/"))]
FOR_ANY_RUN = {
    "finetune/small": "pretrain/cifar10",
    "probe/small": "pretrain/cifar10",
    "probe/knn": "pretrain/in1k",
}
"""Evaluations that are made for no run in particular, and one they go with."""
NARROW = geometry.Stack(width=48, depth=4, heads=2)
NARROW_DECODER = geometry.Stack(width=24, depth=1, heads=2)
NUM_CLASSES = 5


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    """Every named size keeps its patches, positions and tokens, and loses its width and depth."""
    for name, its in geometry.ARCHITECTURES.items():
        narrow = replace(its, encoder=NARROW, decoder=NARROW_DECODER)
        monkeypatch.setitem(geometry.ARCHITECTURES, name, narrow)


def clips(config: RunConfig, how: AugmentConfig) -> torch.Tensor:
    """Two samples of noise, cropped and coloured as the recipe asks: uint8 (2, T, H, W, 3)."""
    size, rng = config.input, np.random.default_rng(0)
    source = rng.integers(0, 256, (size.frames, size.height + 32, size.width + 64, 3), dtype=np.uint8)
    drawn = [augment(Pixels(source), how, size, seed=0, epoch=0, sample=sample) for sample in range(2)]
    return torch.from_numpy(np.stack(drawn))


def masks(config: RunConfig) -> dict[str, torch.Tensor]:
    """What the encoder sees of the two samples, and what is predicted where the recipe says."""
    its, grid, given = config.mask, config.grid, {}
    keep = [
        keep_ids(its.kind, grid, its.ratio, rounding=its.rounding, seed=0, epoch=0, sample=sample)
        for sample in range(2)
    ]
    given["keep"] = torch.from_numpy(np.stack(keep))
    if its.predict != "all":
        predict = [
            predict_ids(its.predict, grid, its.predict_ratio, kept, seed=0, epoch=0, sample=sample)
            for sample, kept in enumerate(keep)
        ]
        given["predict"] = torch.from_numpy(np.stack(predict))
    return given


def take_a_step(config: RunConfig, evaluation: str | None, batch: dict) -> float:
    """The loss of one update by the recipe's task and optimiser, which has to move the weights."""
    training = Training(config=config, output="", catalog="", evaluation=evaluation)
    task = build_task(training, num_classes=NUM_CLASSES).train()
    optimizer = make_optimizer(task, training.train.optim, depth=NARROW.depth)
    before = [parameter.detach().clone() for parameter in task.parameters() if parameter.requires_grad]
    for group in optimizer.param_groups:
        group["lr"] = training.train.peak_lr * group.get("lr_scale", 1.0)
    loss = task(batch).loss
    loss.backward()
    optimizer.step()
    after = [parameter for parameter in task.parameters() if parameter.requires_grad]
    assert all(parameter.isfinite().all() for parameter in after)
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    return loss.item()


@pytest.mark.parametrize("name", RUNS)
def test_a_packaged_run_takes_a_step(name):
    config = load_without_samples(name)
    loss = take_a_step(config, None, {"clips": clips(config, config.augment), **masks(config)})
    # Normalised patches have a variance of one, so that an untrained predictor is off by about that.
    assert 0.5 < loss < 3


def in_its_run(section: str) -> RunConfig:
    """The run that an evaluation is made for, with nothing else to evaluate."""
    if section in FOR_ANY_RUN:
        asked = ["evaluations={}", f"evaluations.{EVALUATION}.extends={section}"]
        return load_without_samples(FOR_ANY_RUN[section], asked)
    config = run_with(section, NAMES)
    assert config is not None, f"{section} is made for no run; say in FOR_ANY_RUN which it goes with"
    return config


@pytest.mark.parametrize("name", SECTIONS)
def test_a_packaged_evaluation_takes_a_step(name):
    config = in_its_run(name)
    evaluation = config.evaluations[EVALUATION]
    batch = {"clips": clips(config, evaluation.augment), "label": torch.tensor([0, 3]), "block": 0}
    if evaluation.protocol in FROZEN_PROTOCOLS:
        losses = learn_from_features(config, evaluation, batch)
    elif evaluation.protocol == "detect":
        boxes = torch.tensor([[[10.0, 20.0, 90.0, 200.0]], [[0.0, 0.0, 0.0, 0.0]]])
        is_box = torch.tensor([[True], [False]])
        does = torch.zeros(2, 1, NUM_CLASSES, dtype=torch.uint8)
        losses = take_a_step(config, EVALUATION, batch | {"boxes": boxes, "is_box": is_box, "actions": does})
    else:
        losses = take_a_step(config, EVALUATION, batch)
    assert np.isfinite(losses).all()


def learn_from_features(config: RunConfig, evaluation: EvaluationConfig, batch: dict) -> np.ndarray:
    """What all heads of a protocol lose in their first update on kept features; votes have no loss."""
    wanted, architecture = evaluation.features, config.model.architecture
    is_attentive = evaluation.protocol == "attentive_probe"
    numbers = [layer % (NARROW.depth + 1) for layer in wanted.layers]
    names = set_names(numbers, (TOKENS,) if is_attentive else wanted.pools)
    encoder, pixels = Encoder(architecture, config.grid).eval(), PatchInput(architecture, config.input)
    rows = {"label": batch["label"]}
    with torch.no_grad():
        found = encoder.layers(pixels.normalise(pixels.cut(batch["clips"]).float() / 255), set(numbers))
    for name in names:
        layer, pool = layer_and_pool(name)
        extra = encoder.num_extra_tokens
        rows[name] = found[layer][:, extra:] if pool == TOKENS else POOLS[pool](found[layer], extra)
    options = {"seed": 0, "device": torch.device("cpu")}
    if evaluation.protocol == "knn":
        return torch.stack([rows[name] for name in names]).numpy()
    if is_attentive:
        [name] = names
        heads = AttentiveHeads(
            name, NARROW.width, NUM_CLASSES, evaluation.heads, evaluation.attentive, **options
        )
    else:
        heads = LinearHeads(names, NARROW.width, NUM_CLASSES, evaluation.heads, **options)
    losses = heads.update(rows, 1.0)
    assert heads.finite().all()
    return losses.numpy()
