"""The packaged recipes against the papers and scripts that they are transcribed from."""

from __future__ import annotations

import pytest

from mae_dist.config.data_sets import DATA_SETS
from mae_dist.config.lint import lint
from mae_dist.config.load import load_section, load_without_samples
from mae_dist.config.tree import RECIPES, recipe_names
from mae_dist.data.readers.official import SPLIT_SIZES
from mae_dist.orchestrate.packaged import EVALUATION, run_of, run_with
from mae_dist.report import published

NAMES = recipe_names()
RUNS = [name for name in NAMES if name.startswith("pretrain/")]
SECTIONS = [name for name in NAMES if name.startswith(("probe/", "finetune/"))]
FORMS = [name for name in NAMES if name.endswith(("_paper", "_script"))]


@pytest.mark.parametrize("name", RUNS)
def test_a_packaged_run_does_as_the_papers(name):
    assert [str(remark) for remark in lint(load_without_samples(name))] == []


@pytest.mark.parametrize("name", SECTIONS)
def test_a_packaged_evaluation_does_as_the_papers(name):
    config = run_with(name, NAMES)
    if config is None:
        config = load_without_samples(
            "pretrain/cifar10", ["evaluations={}", f"evaluations.{EVALUATION}.extends={name}"]
        )
    assert [str(remark) for remark in lint(config)] == []


@pytest.mark.parametrize("name", FORMS)
def test_a_paper_or_script_form_has_a_twin_from_which_it_differs(name):
    twin = name.rpartition("_")[0]
    read = load_without_samples if name.startswith("pretrain/") else load_section
    assert twin in NAMES
    assert read(name) != read(twin)
    assert twin in (RECIPES / f"{name}.yaml").read_text(), f"{name} does not tell where its twin is"


@pytest.mark.parametrize("data_set", sorted(set(DATA_SETS) - {"cifar10"}))
def test_every_data_set_of_the_papers_has_a_pretraining_and_a_fine_tuning(data_set):
    assert {f"pretrain/{data_set}", f"finetune/{data_set}"} <= set(NAMES)


@pytest.mark.parametrize(
    ("section", "run"),
    [
        ("finetune/k400", "pretrain/k400"),
        ("finetune/k400_large_paper", "pretrain/k400_large"),
        ("finetune/in1k_scratch_huge", "pretrain/in1k_huge"),
        ("finetune/ssv2_2400_paper", "pretrain/ssv2_2400"),
        ("probe/k400_fast", "pretrain/k400"),
        ("probe/knn", None),
        ("finetune/small", None),
    ],
)
def test_an_evaluation_is_made_for_the_run_with_most_of_its_words(section, run):
    assert run_of(section, NAMES) == run


@pytest.mark.parametrize(
    ("name", "batch", "peak", "floor", "epochs"),
    [
        # arXiv 2111.06377, table 8: 1.5e-4 for 256 images, batch 4096.
        ("in1k", 4096, 2.4e-3, 0, 1600),
        ("in1k_large", 4096, 2.4e-3, 0, 1600),
        ("in1k_huge", 4096, 2.4e-3, 0, 1600),
        # arXiv 2203.12602: 1.5e-4 for 256 videos, batch 1024, scripts: GPUs x videos. 1e-5 x batch / 256.
        ("k400", 1024, 6e-4, 4e-5, 800),
        ("k400_1600", 1024, 6e-4, 4e-5, 1600),
        ("k400_script", 64 * 32, 1.2e-3, 8e-5, 800),
        ("k400_small_script", 32 * 32, 6e-4, 4e-5, 1600),
        ("k400_large", 1024, 6e-4, 4e-5, 1600),
        ("k400_large_script", 64 * 8, 3e-4, 2e-5, 1600),
        ("k400_huge_script", 64 * 16, 6e-4, 4e-5, 1600),
        ("ssv2", 1024, 6e-4, 4e-5, 800),
        ("ssv2_2400", 1024, 6e-4, 4e-5, 2400),
        ("ssv2_script", 64 * 32, 1.2e-3, 8e-5, 800),
        ("ssv2_small_script", 64 * 32, 1.2e-3, 8e-5, 2400),
        ("ucf101_script", 8 * 24, 2.25e-4, 7.5e-6, 3200),
        ("hmdb51", 192, 2.25e-4, 7.5e-6, 4800),
    ],
)
def test_a_pretraining_has_the_published_batch_and_rates(name, batch, peak, floor, epochs):
    train = load_without_samples(f"pretrain/{name}").train
    assert train.global_batch == batch
    assert train.peak_lr == pytest.approx(peak)
    assert train.optim.min_lr == pytest.approx(floor)
    assert train.length.value == epochs
    assert train.warmup.value == 40


@pytest.mark.parametrize(
    ("name", "videos", "lr", "floor", "epochs", "layer_decay", "drop_path", "dropout"),
    [
        # MAE: FINETUNE.md, and table 9 of arXiv 2111.06377. Images; lr for 256 of them.
        ("in1k", 1024, 5e-4, 1e-6, 100, 0.65, 0.1, 0),
        ("in1k_paper", 1024, 1e-3, 0, 100, 0.75, 0.1, 0),
        ("in1k_large", 1024, 1e-3, 1e-6, 50, 0.75, 0.2, 0),
        ("in1k_large_paper", 1024, 1e-3, 0, 50, 0.75, 0.1, 0),
        ("in1k_huge", 1024, 1e-3, 1e-6, 50, 0.75, 0.3, 0),
        ("in1k_huge_paper", 1024, 1e-3, 0, 50, 0.75, 0.2, 0),
        # VideoMAE: scripts (GPUs x videos), and the tables of arXiv 2203.12602. Floor for 256 videos.
        ("k400", 64 * 8, 1e-3, 1e-6, 100, 0.75, 0.1, 0),
        ("k400_1600", 64 * 6, 5e-4, 1e-6, 75, 0.75, 0.1, 0),
        ("k400_1600_paper", 512, 1e-3, 1e-6, 75, 0.75, 0.1, 0),
        ("k400_small", 32 * 12, 5e-4, 1e-6, 150, 0.75, 0.1, 0),
        ("k400_small_paper", 512, 1e-3, 1e-6, 150, 0.7, 0.1, 0),
        ("k400_large", 64 * 2, 2e-3, 1e-6, 35, 0.75, 0.1, 0),
        ("k400_large_paper", 512, 1e-3, 1e-6, 50, 0.75, 0.2, 0.5),
        ("k400_huge", 64 * 8, 1e-3, 1e-5, 50, 0.75, 0.2, 0.5),
        ("k400_huge_paper", 512, 1e-3, 1e-6, 50, 0.75, 0.2, 0.5),
        ("ssv2", 64 * 8, 5e-4, 1e-6, 50, 0.75, 0.1, 0),
        ("ssv2_2400", 64 * 6, 5e-4, 1e-6, 30, 0.75, 0.1, 0),
        ("ssv2_2400_paper", 512, 5e-4, 1e-6, 40, 0.75, 0.1, 0),
        ("ssv2_small", 32 * 12, 1e-3, 1e-6, 40, 0.7, 0.1, 0),
        ("ssv2_small_paper", 512, 1e-3, 1e-6, 40, 0.7, 0.1, 0),
        ("ssv2_large", 512, 5e-4, 1e-6, 30, 0.75, 0.2, 0.5),
        ("ucf101", 8 * 16, 5e-4, 1e-5, 100, 0.7, 0.2, 0.5),
        ("hmdb51", 128, 1e-3, 1e-5, 50, 0.7, 0.2, 0.5),
        ("ava", 128, 2.5e-4, 1e-6, 30, 0.75, 0.2, 0),
        ("ava_small", 128, 1e-3, 1e-6, 30, 0.6, 0.2, 0),
        ("ava_large", 128, 2.5e-4, 1e-6, 30, 0.75, 0.2, 0),
        ("ava_huge", 128, 5e-4, 1e-6, 20, 0.8, 0.2, 0),
    ],
)
def test_a_fine_tuning_in_crops_is_the_published_one_in_videos(
    name, videos, lr, floor, epochs, layer_decay, drop_path, dropout
):
    evaluation = load_section(f"finetune/{name}")
    train, head = evaluation.training, evaluation.head
    assert train.global_batch == videos * train.repeats
    assert train.peak_lr == pytest.approx(lr * videos / 256)
    # MAE's floor is given as it is, VideoMAE's scaled as the peak.
    scale = 1 if name.startswith("in1k") else videos / 256
    assert train.optim.min_lr == pytest.approx(floor * scale)
    assert train.length.value == epochs * train.repeats
    assert train.warmup.value == 5 * train.repeats
    assert train.optim.layer_decay == layer_decay
    assert (head.drop_path, head.dropout) == (drop_path, dropout)


@pytest.mark.parametrize(
    ("data_set", "split"), [("k400", "train"), ("ssv2", "train"), ("ucf101", "train1"), ("hmdb51", "train1")]
)
def test_a_data_set_is_as_large_as_its_official_list(data_set, split):
    its = DATA_SETS[data_set]
    assert its.origin is not None
    assert its.num_train == SPLIT_SIZES[its.origin, split]


def test_the_linter_and_the_leaderboard_name_data_sets_alike():
    assert {key: its.name for key, its in published.DATA_SETS.items()} == {
        key: DATA_SETS[key].name for key in published.DATA_SETS
    }
