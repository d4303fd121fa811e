"""Contradictions between fields are found, and what is right is left alone."""

from __future__ import annotations

import pytest

from mae_dist.config.contradictions import CHECKS, EVALUATION_CHECKS, SHARED, contradictions
from mae_dist.config.load import load
from mae_dist.config.problems import ConfigError
from mae_dist.config.sections import dotted_fields
from mae_dist.config.tree import recipe_names
from mae_dist.config.workers import worker_counts
from tests.config.small import samples

CATALOG = "data.catalog=images"
RUNS = [name for name in recipe_names() if name.startswith("pretrain/")]


@pytest.mark.parametrize("name", RUNS)
def test_packaged_runs_are_clean(name):
    assert contradictions(load(name, samples(name))) == []


@pytest.mark.parametrize(
    ("recipe", "settings", "problem"),
    [
        (
            "in1k",
            "input.height=230",
            "input.height: must be a multiple of 16, the patch of mae_base, got 230; 224 or 240",
        ),
        (
            "in1k",
            "input.width=8",
            "input.width: must be a multiple of 16, the patch of mae_base, got 8; 16 would do",
        ),
        (
            "k400",
            "input.frames=15",
            "input.frames: must be a multiple of 2, the tubelet of videomae_base, got 15; 14 or 16",
        ),
        (
            "k400",
            "input={sampling: uniform, sample_fps: 4}",
            "input.sample_fps: is not used by uniform sampling, got 4.0; null, or input.sampling dense",
        ),
        (
            "k400",
            "evaluations.finetune.eval_batch=64",
            "evaluations.finetune.eval_batch: must be a multiple of views.clips * views.crops = 15, whose "
            "views stay together, got 64; 60 or 75 would do",
        ),
        (
            "in1k",
            "train.global_batch=4000",
            "train.global_batch: must be a multiple of micro_batch * workers = 128 * 8 = 1024, got 4000; "
            "micro_batch 25, 50, 100, 125, 250, 500, or global_batch 3072 or 4096 would do",
        ),
        (
            "in1k",
            "train.global_batch=640",
            "resources.workers 1, 5, or micro_batch 8, 10, 16, 20, 40, 80, or global_batch 1024 would do",
        ),
        (
            "in1k",
            "evaluations.finetune.train.micro_batch=6",
            "evaluations.finetune.train.global_batch: must be a multiple of micro_batch * workers = 6 * 8 = "
            "48, got 1024; micro_batch 1, 2, 4, 8, 16, 32, or global_batch 1008 or 1056 would do",
        ),
        (
            "in1k",
            "resources={engine: torch, zero_stage: 3}",
            "resources.zero_stage: is not used by the torch engine, got 3; 0, or resources.engine deepspeed",
        ),
        (
            "in1k",
            "resources.offload=parameters",
            "resources.offload: parameters needs resources.zero_stage 3, got 1; optimizer would do",
        ),
        (
            "in1k",
            "resources={offload: optimizer, zero_stage: 0}",
            "resources.offload: optimizer needs resources.engine deepspeed and zero_stage 1, 2 or 3, got "
            "deepspeed and 0; none would do",
        ),
        (
            "in1k",
            "evaluations.linear_probe.train.activation_checkpointing=true",
            "evaluations.linear_probe.train.activation_checkpointing: is not used by linear_probe, whose "
            "encoder is frozen, got true; false, or protocol finetune",
        ),
        ("in1k", "train.ema=1.0", "train.ema: must lie in (0, 1), or be null for none, got 1.0"),
        (
            "in1k",
            "evaluations.finetune.train.ema=-0.5",
            "evaluations.finetune.train.ema: must lie in (0, 1), or be null for none, got -0.5",
        ),
        (
            "in1k",
            "train.repeats=3",
            "train.micro_batch: must be a multiple of repeats = 3, whose crops stay together, "
            "got 128; 126 or 129 would do",
        ),
        (
            "in1k",
            "evaluations.finetune.train.repeats=7",
            "evaluations.finetune.train.micro_batch: must be a multiple of repeats = 7",
        ),
        (
            "in1k",
            "train.warmup=1601 epochs",
            "train.warmup: must not be longer than the training, '1600 epochs'",
        ),
        (
            "in1k",
            "evaluations.finetune.train.warmup=200 epochs",
            "evaluations.finetune.train.warmup: must not be",
        ),
        ("in1k", "train.length=0 steps", "train.length: must be greater than 0, got '0 steps'"),
        (
            "k400",
            "evaluations.finetune.head.pool=class_token",
            "head.pool: class_token, but videomae_base has none; mean",
        ),
        (
            "in1k",
            "mask.ratio=0.999",
            "mask.ratio: keeps none of the 196 tokens, got 0.999; at most 0.9949 would do",
        ),
        (
            "in1k",
            "mask={kind: tube, ratio: 0.001}",
            "mask.ratio: hides none of the 196 places of a frame, got 0.001",
        ),
        (
            "k400",
            "mask={kind: causal, ratio: 0.9}",
            "mask.ratio: keeps none of the 8 frames of tokens, got 0.9",
        ),
        ("in1k", "mask={kind: grid, ratio: 0.7}", "mask.ratio: a grid keeps one patch of each cell: 0.75 of"),
        (
            "in1k",
            "mask={kind: grid, ratio: 0.9375}",
            "mask.kind: cells of 4 x 4 patches do not fill 14 x 14 patches; choose another size of the input",
        ),
        (
            "in1k",
            "model={size: mae_base, cross_decoder: true, encoder_mask_token: true}",
            "model.cross_decoder: does not go with model.encoder_mask_token",
        ),
        ("in1k", "mask={kind: grid, rounding: kept}", "mask.rounding: a grid has nothing to round"),
        (
            "k400",
            "mask={predict: running_cell, predict_ratio: 0.6}",
            "mask.predict_ratio: a cell has four places: 0.25, 0.5 or 0.75, got 0.6",
        ),
        (
            "in1k",
            "mask={predict: frame}",
            "mask.predict: frame leaves out no token at predict_ratio 0.5; all says so",
        ),
        ("in1k", "model.decoder_width=500", "model.decoder_width: must be a multiple of 16 (16 heads and"),
        (
            "k400",
            "model.decoder_width=99",
            "must be a multiple of 6 (6 heads and the position table), got 99; 96 or 102",
        ),
        (
            "in1k",
            "evaluations.linear_probe.head.mixup=0.8",
            "head.mixup: is not used by linear_probe, whose encoder is",
        ),
        (
            "in1k",
            "evaluations.linear_probe.head.cutmix=1",
            "head.cutmix: is not used by linear_probe, whose encoder is",
        ),
        ("in1k", "evaluations.linear_probe.head.drop_path=.1", "head.drop_path: is not used by linear_probe"),
        ("in1k", "evaluations.finetune.head.mixup=-1", "head.mixup: must be at least 0, got -1.0"),
        ("in1k", "evaluations.linear_probe.train.optim.layer_decay=.7", "layer_decay: is not used by lars"),
        (
            "in1k",
            "evaluations.linear_probe.train.optim={kind: adamw, layer_decay: 0.7}",
            "layer_decay: is not used by linear_probe, which trains the head alone, got 0.7; null",
        ),
        ("in1k", "evaluations.finetune.start_from=[]", "start_from: must name pretrained or random or both"),
        (
            "in1k",
            "evaluations.finetune.start_from=[random, random]",
            "start_from: must name pretrained or random",
        ),
        (
            "in1k",
            "name=a/b",
            "name: becomes a folder or a file: letters, digits, '-' and '_' only, not starting with '-'",
        ),
        (
            "in1k",
            "evaluations={'a b': {extends: finetune/in1k}}",
            "evaluations.a b: becomes a folder or a file",
        ),
        (
            "in1k",
            "evaluations.reconstruction.extends=finetune/in1k",
            "evaluations.reconstruction: is the name of the",
        ),
        ("in1k", "input.std=[1, 0, 1]", "input.std: must be greater than 0, got [1.0, 0.0, 1.0]"),
        ("in1k", "train.optim.base_lr=0", "train.optim.base_lr: must be greater than 0, got 0.0"),
        ("in1k", "train.optim.weight_decay=-1", "train.optim.weight_decay: must be at least 0, got -1.0"),
        (
            "in1k",
            "train.optim.betas=[0.9, 1.0]",
            "train.optim: betas and momentum must lie in [0, 1), got [0.9, 1.0]",
        ),
        (
            "in1k",
            "train.optim.clip_grad_norm=0",
            "clip_grad_norm: must be greater than 0, or null for none, got 0.0",
        ),
        (
            "in1k",
            "evaluations.finetune.train.optim.layer_decay=2",
            "layer_decay: must lie in (0, 1], or be null",
        ),
        (
            "in1k",
            "augment.scale=[0.5, 0.2]",
            "augment.scale: must be two areas with 0 < smaller <= larger <= 1",
        ),
        ("in1k", "data.cpus_per_task=0", "data.cpus_per_task: must be greater than 0, got 0.0"),
        ("in1k", "checkpoint.every=0 steps", "checkpoint.every: must be greater than 0, got '0 steps'"),
    ],
)
def test_a_contradiction_is_explained(recipe, settings, problem):
    with pytest.raises(ConfigError) as caught:
        load(f"pretrain/{recipe}", [CATALOG, settings])
    message = str(caught.value)
    assert problem in message
    assert len(caught.value.problems) == 1
    assert "(from " in message


def test_partitioned_weights_are_not_compiled():
    with pytest.raises(ConfigError) as caught:
        load("pretrain/in1k", [CATALOG, "resources.zero_stage=3", "train.compile=true"])
    assert (
        "train.compile: does not go with resources.zero_stage 3, which gathers weights between any two "
        "layers; false, or zero_stage 1 or 2"
    ) in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        ["resources={engine: torch, zero_stage: 1}", "train.compile=true"],
        ["resources={zero_stage: 3, offload: parameters}", "train={ema: 0.999, precision: fp16}"],
        ["input.frames=1", "model.size=mae_base", "mask.kind=tube"],  # a tube through one frame
        ["mask={kind: block, ratio: 0.5}"],
        ["mask={kind: grid, ratio: 0.75}"],
        ["mask={predict: running_cell}"],
        ["mask={predict: hidden}", "model.cross_decoder=true"],
        ["model.size=videomae_base", "input.frames=16", "evaluations.linear_probe=null"],
        ["target.kind=norm_pixel_videomae"],  # any target with any family
        ["train.warmup=9999999 steps"],  # not comparable with epochs before the catalog is known
        ["train.warmup=1600 epochs"],
        ["model.decoder_width=256", "model.decoder_depth=1"],
        ["evaluations={}"],
    ],
)
def test_what_may_be_meant_is_left_alone(settings):
    load("pretrain/in1k", [CATALOG, *settings])


def test_the_worker_counts_offered_all_work():
    train = load("pretrain/k400", [CATALOG]).train
    counts = worker_counts(global_batch=train.global_batch, micro_batch=train.micro_batch)
    assert counts == [1, 2, 4, 8, 16, 32]
    for workers in counts:
        load(
            "pretrain/k400",
            [CATALOG, f"resources.workers={workers}", "evaluations={finetune: null, linear_probe: null}"],
        )


def test_checks_read_fields_that_exist():
    """A check whose field was renamed would silently run on values already known to be wrong."""
    known = {path for path, _, _ in dotted_fields()}
    sections = {path.rpartition(".")[0] for path in known} | {path.partition(".")[0] for path in known}
    sections |= {path.partition(".NAME")[0] for path in known}
    sections |= {path.rpartition(".NAME")[0] for path in known}
    for check in CHECKS:
        assert set(check.reads) <= known | sections
    for check in EVALUATION_CHECKS:
        for path in check.reads:
            assert (path if path in SHARED else f"evaluations.NAME.{path}") in known | sections


def test_a_check_is_left_out_where_a_field_it_reads_is_wrong_already():
    with pytest.raises(ConfigError) as caught:
        load("pretrain/in1k", [CATALOG, "resources.workers=none", "input.height=230", "model.size=big"])
    assert [problem.path for problem in caught.value.problems] == ["model.size", "resources.workers"]
