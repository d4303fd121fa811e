"""What the linter says of settings that nothing forbids, and that it leaves alone what may be meant."""

from __future__ import annotations

import pytest

from mae_dist.config.data_sets import DATA_SETS, known_data_sets
from mae_dist.config.lint import lint
from mae_dist.config.load import load_without_samples

FINETUNE = "evaluations.finetune"
SSV2 = "data.catalog=s3://bucket/ssv2/train.csv"


@pytest.mark.parametrize(
    ("recipe", "settings", "remark"),
    [
        (
            "ssv2",
            ["augment.flip=true"],
            "augment.flip: got true; false would be right: labels of Something-Something V2 tell left from "
            "right (arXiv 2203.12602, appendix)",
        ),
        (
            "ssv2",
            [f"{FINETUNE}.augment.flip=true"],
            f"{FINETUNE}.augment.flip: got true; false would be right",
        ),
        (
            "k400",
            ["augment.interpolation=bicubic"],
            "augment.interpolation: got bicubic; bilinear would be right",
        ),
        (
            "in1k",
            [f"{FINETUNE}.augment.interpolation=bilinear"],
            f"{FINETUNE}.augment.interpolation: got bilinear; bicubic",
        ),
        ("in1k", ["augment.color_jitter=[20, 0.1, 0.1]"], "augment.color_jitter: got [20, 0.1, 0.1]; null"),
        ("in1k", ["augment.rand_augment=rand-m9-mstd0.5-inc1"], "augment.rand_augment: got rand-m9-mstd0.5"),
        ("in1k", ["augment.erasing=0.25"], "augment.erasing: got 0.25; 0 would be right"),
        ("in1k", ["input.mean=[123.675, 116.28, 103.53]"], "input.mean: got [123.675, 116.28, 103.53]; [0."),
        ("k400", ["input.mean=[0.5, 0.5, 0.5]"], "input.mean: got [0.5, 0.5, 0.5]; [0.485, 0.456, 0.406] w"),
        ("k400", ["input.std=[0.225, 0.225, 0.325]"], "input.std: got [0.225, 0.225, 0.325]; [0.229, 0.224"),
        ("k400", ["input.frame_stride=2"], "input.frame_stride: got 2; 4 would be right: clips of Kinetics"),
        ("ssv2", ["input.sampling=uniform"], "input.sampling: got uniform; dense, and sampling uniform in"),
        ("ssv2", [f"{FINETUNE}.sampling=dense"], f"{FINETUNE}.sampling: got dense; uniform would be right"),
        ("k400", [f"{FINETUNE}.sampling=uniform"], f"{FINETUNE}.sampling: got uniform; dense would be right"),
        (
            "k400",
            [f"{FINETUNE}.views={{clips: 1, crops: 1}}"],
            f"{FINETUNE}.views: got 1 x 1; {{clips: 5, crops: 3}} would be right",
        ),
        ("k400", [f"{FINETUNE}.views.side=0.875"], f"{FINETUNE}.views.side: got 0.875; 1 would be right: v"),
        ("in1k", [f"{FINETUNE}.views.side=1"], f"{FINETUNE}.views.side: got 1; 0.875 would be right: 224 o"),
        ("in1k", [f"{FINETUNE}.augment.scale=[0.2, 1]"], f"{FINETUNE}.augment.scale: got [0.2, 1]; [0.08, "),
        (
            "in1k",
            ["train.optim.base_lr=2.4e-3"],
            "train.optim.base_lr: got 0.0024; at most 0.000625 for a batch of 4096 would be right: it is "
            "multiplied by global_batch / 256, which gives a peak of 0.038",
        ),
        (
            "k400",
            ["train.global_batch=256", "train.optim.min_lr=1e-4"],
            "train.optim.min_lr: got 0.0001; at most 1.5e-05 would be right: it is never scaled, and the "
            "peak is 0.00015",
        ),
        ("in1k", ["train.optim.betas=[0.9, 0.999]"], "train.optim.betas: got [0.9, 0.999]; [0.9, 0.95] wou"),
        (
            "in1k",
            [f"{FINETUNE}.train.optim.betas=[0.9, 0.95]"],
            f"{FINETUNE}.train.optim.betas: got [0.9, 0.95]; [0.9, 0.999]",
        ),
        (
            "in1k",
            [f"{FINETUNE}.train.optim.layer_decay=null"],
            f"{FINETUNE}.train.optim.layer_decay: got null; 0.75 would",
        ),
        (
            "in1k",
            [f"{FINETUNE}.start_from=[random]"],
            f"{FINETUNE}.train.optim.layer_decay: got 0.65; null would be right: the lower layers of random",
        ),
        (
            "k400_1600",
            [f"{FINETUNE}.train.optim.base_lr=2e-3"],
            f"{FINETUNE}.train.optim.base_lr: got 0.002; the learning rate for 256 videos, divided by repea",
        ),
        ("in1k", ["train.warmup=0 steps"], "train.warmup: got 0 steps; a twentieth of train.length would be"),
        ("in1k", ["train.length=60 epochs"], "train.warmup: got 40 epochs; a twentieth to a ninth of"),
        ("k400", ["train.length=801 epochs"], "train.length: got 801 epochs; 800 epochs would be right: the"),
        (
            "in1k",
            ["evaluations.linear_probe.train.optim.weight_decay=0.05"],
            "evaluations.linear_probe.train.optim.weight_decay: got 0.05; 0 would be right",
        ),
        (
            "k400",
            ["evaluations.linear_probe.train.micro_batch=4"],
            "evaluations.linear_probe.train.micro_batch: got 4; at least 16 would be right: a probe's batch",
        ),
        (
            "in1k",
            ["target.kind=norm_pixel_videomae"],
            "target.kind: got norm_pixel_videomae; norm_pixel_mae would be right: MAE normalises all values",
        ),
        ("k400", ["target.kind=norm_pixel_mae"], "target.kind: got norm_pixel_mae; norm_pixel_videomae wou"),
        ("k400", ["mask={kind: random, ratio: 0.75}"], "mask: got random 0.75; {kind: tube, ratio: 0.9} wo"),
        (
            "k400",
            ["mask.rounding=kept"],
            "mask.rounding: got kept; null would be right: 152 of 1568 tokens are kept, 160 by the rounding",
        ),
        ("in1k", [f"{FINETUNE}.head.pool=class_token"], f"{FINETUNE}.head.pool: got class_token; mean would"),
        ("k400", [f"{FINETUNE}.head.init_scale=1"], f"{FINETUNE}.head.init_scale: got 1; 0.001 would be ri"),
        ("k400_large", [f"{FINETUNE}.head.drop_path=0"], f"{FINETUNE}.head.drop_path: got 0; 0.2 would be "),
        ("in1k", [f"{FINETUNE}.head.label_smoothing=0"], f"{FINETUNE}.head.label_smoothing: got 0; 0.1 wou"),
        (
            "in1k",
            ["data.catalog=images.parquet", "data.test_catalog=images.parquet"],
            "data.test_catalog: got images.parquet; the validation or test samples would be right: these are",
        ),
        (
            "in1k",
            ["model.size=mae_large"],
            f"{FINETUNE}.published: got 83.6; null, or the number of this run would be right: it is of "
            "ViT-B, and the model is mae_large",
        ),
        (
            "in1k",
            ["model.size=mae_large"],
            f"{FINETUNE}.robustness.a.published: got 35.9; null, or the number of this run would be right",
        ),
        (
            "k400",
            ["train.length=400 epochs"],
            f"{FINETUNE}.published: got 80; null, or the number of this run would be right: it is of 800 ep",
        ),
        (
            "in1k",
            [f"{FINETUNE}.labels_per_class=13"],
            "it is of all labels, and labels_per_class is 13",
        ),
        ("in1k", [f"{FINETUNE}.trainable_blocks=4"], "it is of all blocks, and trainable_blocks is 4"),
    ],
)
def test_what_may_not_be_meant_is_said_with_what_would_be_right_and_its_source(recipe, settings, remark):
    said = [str(each) for each in lint(load_without_samples(f"pretrain/{recipe}", settings))]
    assert any(remark in each for each in said), "\n".join(said)
    assert all(each.endswith(")") for each in said)


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("k400", ["augment.flip=false"]),  # the paper flips, the authors' code does not
        ("k400", ["input={frames: 32, frame_stride: 2}"]),  # the same window, seen twice as often
        ("k400", ["input={frame_stride: 1, sample_fps: 7.5}"]),
        ("k400", ["mask={kind: random, ratio: 0.9}"]),  # MAE on videos
        ("in1k", ["target.kind=pixel"]),
        ("in1k", ["evaluations.linear_probe.head.pool=mean"]),
        ("in1k", ["train.length=500000 steps"]),
        ("cifar10", ["train.optim.base_lr=2e-3", "augment.interpolation=bicubic"]),
        ("demo", ["train.global_batch=64", "train.micro_batch=32"]),
    ],
)
def test_what_may_be_meant_is_left_alone(recipe, settings):
    assert [str(each) for each in lint(load_without_samples(f"pretrain/{recipe}", settings))] == []


def test_weights_that_are_given_have_been_trained_already():
    settings = ["weights=runs/other", "augment.color_jitter=[20, 0.1, 0.1]", "train.warmup=0 steps"]
    assert lint(load_without_samples("pretrain/in1k", settings)) == []


def test_a_run_on_other_samples_is_judged_by_what_these_are():
    said = {each.path for each in lint(load_without_samples("pretrain/k400", [SSV2]))}
    assert {
        "augment.flip",
        "input.frame_stride",
        f"{FINETUNE}.sampling",
        f"{FINETUNE}.views",
        f"{FINETUNE}.augment.flip",
        "evaluations.linear_probe.augment.flip",
    } <= said


def test_a_catalog_tells_itself_what_it_was_built_as():
    config = load_without_samples("pretrain/k400", ["data.catalog=clips.parquet"])
    assert lint(config) == []
    assert "augment.flip" in {each.path for each in lint(config, origins={"catalog": "something_v2"})}


def test_steps_and_epochs_are_compared_once_the_samples_are_counted():
    config = load_without_samples("pretrain/in1k", ["train.warmup=5000 steps", "train.length=10 epochs"])
    assert "train.warmup" not in {each.path for each in lint(config)}
    assert "train.warmup" in {each.path for each in lint(config, num_samples=1_281_167)}


def test_a_batch_larger_than_its_data_is_remarked():
    said = [str(each) for each in lint(load_without_samples("pretrain/in1k"), num_samples=500)]
    assert "train.global_batch: got 4096; at most 500 would be right" in said[0]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://bucket/k400/train.csv", "k400"),
        ("s3://bucket/Kinetics-400/train", "k400"),
        ("s3://bucket/something-something-v2/train.json", "ssv2"),
        ("data/sthv2_sth-sth.parquet", "ssv2"),
        ("data/UCF-101/trainlist01.txt", "ucf101"),
        ("data/hmdb51.parquet", "hmdb51"),
        ("data/ava_v2.2/train.csv", "ava"),
        ("s3://bucket/imagenet/train", "in1k"),
        ("s3://bucket/imagenet-21k", None),
        ("s3://bucket/imagenet-a", None),
        ("data/java/cifar100", None),
        ("s3://bucket/k400_and_ssv2.parquet", None),
        ("clips.parquet", None),
    ],
)
def test_a_data_set_is_known_by_its_name_in_a_path(uri, name):
    config = load_without_samples("pretrain/demo", [f"data.catalog={uri}"])
    expected = {"catalog": DATA_SETS[name]} if name else {}
    assert known_data_sets(config) == expected
