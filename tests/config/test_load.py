"""Reading a recipe: names, files, extends, settings, and the way back to YAML."""

from __future__ import annotations

import dataclasses

import pytest

from mae_dist.config.duration import Duration
from mae_dist.config.load import (
    STAND_INS,
    digest,
    from_dict,
    load,
    load_section,
    to_dict,
    to_yaml,
)
from mae_dist.config.schema import RunConfig
from mae_dist.config.sections import dotted_fields, is_required
from mae_dist.config.studies import StudyConfig
from mae_dist.config.tree import RECIPES, recipe_names
from mae_dist.config.workers import WorkerRange
from tests.config.small import CATALOG, SMALL, mistakes, samples

RUNS = [name for name in recipe_names() if name.startswith("pretrain/")]
SECTIONS = [name for name in recipe_names() if name.startswith(("probe/", "finetune/"))]


@pytest.mark.parametrize("name", RUNS)
def test_a_packaged_run_needs_nothing_but_its_catalog(name):
    assert set(load(name, samples(name)).data.sources.values()) == {"s3://bucket/catalog.parquet"}


@pytest.mark.parametrize("name", ["pretrain/cifar10", "pretrain/in1k", "pretrain/k400"])
def test_a_catalog_that_only_the_user_can_know_is_asked_for(name):
    assert mistakes(name).splitlines() == [
        f"{name}: 1 problem(s)",
        "  data.catalog: required; give --set data.catalog=URI, or several catalogs in data.mix",
    ]


@pytest.mark.parametrize("name", SECTIONS)
def test_a_packaged_evaluation_loads_by_itself_and_into_any_run(name):
    section = load_section(name)
    settings = [CATALOG, f"evaluations.extra.extends={name}", "evaluations.extra.head.pool=mean"]
    used = load("pretrain/in1k", settings).evaluations["extra"]
    assert dataclasses.replace(section, head=dataclasses.replace(section.head, pool="mean")) == used


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_opens_with_what_a_reader_needs_before_spending_money(path):
    header = path.read_text().partition("\n\n")[0]
    comment = " ".join(line.lstrip("# ") for line in header.splitlines() if line.startswith("#"))
    for word in ("arXiv", "Hardware", "all-clock", "xpected"):
        assert word in comment


@pytest.mark.parametrize("name", ["pretrain/in1k", "pretrain/k400"])
def test_the_paper_recipes_run_on_8_to_64_workers(name):
    micro_batch = {"pretrain/in1k": 64, "pretrain/k400": 16}[name]  # as their headers say
    assert load(name, [CATALOG]).resources.workers == WorkerRange(8, 8)
    for workers in (16, 32, 64):
        load(name, [CATALOG, f"resources.workers={workers}", f"train.micro_batch={micro_batch}"])


def test_the_paper_recipes_have_the_papers_peak_learning_rates():
    in1k, k400 = load("pretrain/in1k", [CATALOG]), load("pretrain/k400", [CATALOG])
    assert in1k.train.peak_lr == pytest.approx(2.4e-3)  # arXiv 2111.06377, table 8: 1.5e-4 * 4096 / 256
    assert in1k.evaluations["linear_probe"].train.peak_lr == pytest.approx(6.4)  # table 10
    assert k400.train.peak_lr == pytest.approx(6e-4)  # arXiv 2203.12602: 1.5e-4 * 1024 / 256
    assert (in1k.grid.num_tokens, k400.grid.num_tokens) == (196, 1568)


@pytest.mark.parametrize("name", RUNS)
def test_a_config_survives_being_written_and_read(name, write):
    config = load(
        name, [*samples(name), "train.optim.base_lr=1.23456789012345e-7", "checkpoint.every=1234567 steps"]
    )
    assert load(write(to_yaml(config))) == config
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (Duration(1_234_567, "steps"), "1234567 steps"),
        (Duration(800.0, "epochs"), "800 epochs"),
        (Duration(0.1, "epochs"), "0.1 epochs"),
        (Duration(0.00001, "epochs"), "0.00001 epochs"),
        (Duration(0, "steps"), "0 steps"),
    ],
)
def test_a_duration_is_written_as_it_is_read(duration, text):
    assert str(duration) == text


def test_a_setting_reaches_every_field():
    mix = "data.mix.finetune={catalog: images, weight: 1}"
    mix_and_set = [
        mix,
        "evaluations.finetune.robustness.finetune={catalog: images, published: {value: 1, source: us}}",
    ]
    config = load("pretrain/in1k", mix_and_set)
    for path, _, _ in dotted_fields():
        value = to_dict(config)
        for name in path.replace("NAME", "finetune").split("."):
            value = None if value is None else value[name]
        if value is None or path.endswith(("published.value", "published.source")):
            continue
        text = to_yaml_value(value)
        assert load("pretrain/in1k", [*mix_and_set, f"{path.replace('NAME', 'finetune')}={text}"]) == config


def to_yaml_value(value: object) -> str:
    import json

    return json.dumps(value)


def test_the_last_of_several_settings_holds():
    assert load("pretrain/in1k", [CATALOG, "seed=1", "seed=2"]).seed == 2


def test_a_mapping_given_by_a_setting_is_merged():
    config = load("pretrain/k400", [CATALOG, "mask={ratio: 0.75}"])
    assert (config.mask.kind, config.mask.ratio) == ("tube", 0.75)


def test_a_null_evaluation_is_left_out():
    config = load("pretrain/in1k", [CATALOG, "evaluations.finetune=null"])
    assert list(config.evaluations) == ["linear_probe"]


def test_values_override_what_they_extend_at_every_depth(write):
    write("extends: pretrain/in1k\nseed: 3\nmask: {ratio: 0.5}\n", "shared/mine.yaml")
    write("protocol: finetune\nextends: finetune/in1k.yaml\ntrain: {length: 5 epochs}\n", "shared/short.yaml")
    recipe = write(
        "extends: shared/mine.yaml\nmask: {ratio: 0.6}\n"
        "evaluations:\n  finetune: null\n  short:\n    extends: shared/short.yaml\n    eval_batch: 7\n"
    )
    config = load(recipe, [CATALOG])
    assert (config.seed, config.mask.ratio, config.mask.kind) == (3, 0.6, "random")
    assert sorted(config.evaluations) == ["linear_probe", "short"]
    short = config.evaluations["short"]
    assert (str(short.train.length), short.eval_batch, short.train.optim.layer_decay) == ("5 epochs", 7, 0.65)


def test_yaml_numbers_without_a_point_and_merge_keys_are_understood(write):
    config = load(write(SMALL.replace("mask: {", "mask: &m {") + "augment: {scale: [2e-1, 1]}\n"))
    assert config.train.optim.base_lr == 1e-3
    assert config.augment.scale == (0.2, 1.0)
    anchored = "x: &x {base_lr: 2e-3, min_lr: 1e-5}\n"
    text = SMALL.replace("optim: {base_lr: 1e-3}", "optim: {<<: *x, min_lr: 0.0}")
    assert "x: no such field" in mistakes(write(anchored + text))
    assert "optim" not in mistakes("run.yaml")


def test_equal_configs_have_equal_digests_and_different_ones_do_not():
    config = load("pretrain/in1k", [CATALOG])
    again = from_dict(to_dict(config))
    other = load("pretrain/in1k", [CATALOG, "seed=1"])
    assert digest(config) == digest(again) == digest(to_dict(config))
    assert digest(config) != digest(other)
    assert digest({"b": config.mask, "a": [1, None]}) == digest({"a": [1, None], "b": other.mask})
    assert len(digest(config)) == 12
    assert int(digest(config), 16) >= 0


def test_every_required_field_has_a_stand_in():
    fields = [*dotted_fields(RunConfig), *dotted_fields(StudyConfig)]
    required = {field.name for _, _, field in fields if is_required(field)}
    assert required == set(STAND_INS)


def test_an_empty_mapping_means_none_of_it():
    assert load("pretrain/k400", [CATALOG]).evaluations
    assert load("pretrain/k400", [CATALOG, "evaluations={}"]).evaluations == {}


@pytest.mark.parametrize(
    ("name", "lr", "batch", "epochs"),
    [
        ("finetune/in1k", 5e-4, 1024, 100),
        ("finetune/in1k_scratch", 1e-4, 4096, 300),
        ("finetune/k400", 1e-3, 512, 100),
        ("finetune/k400_1600", 5e-4, 384, 75),
        ("finetune/ssv2", 5e-4, 512, 50),
        ("finetune/ucf101", 5e-4, 128, 100),
        ("finetune/hmdb51", 1e-3, 128, 50),
        ("probe/ssv2", 0.1, 1024, 100),
        ("probe/in1k", 0.1, 16384, 90),
    ],
)
def test_recipes_have_the_authors_numbers_whether_they_count_samples_or_crops(name, lr, batch, epochs):
    """Theirs are of decoded samples: a learning rate for 256 of them, a batch, passes over the data."""
    train = load_section(name).training
    assert train.peak_lr == pytest.approx(lr * batch / 256)
    assert train.global_batch == batch * train.repeats
    assert train.length == Duration(epochs * train.repeats, "epochs")


@pytest.mark.parametrize(
    ("name", "frames_apart", "hidden", "batch", "epochs", "peak_lr"),
    [
        ("pretrain/k400", 4, 0.9, 1024, 800, 6e-4),
        ("pretrain/ssv2", 2, 0.9, 1024, 800, 6e-4),
        ("pretrain/ucf101", 4, 0.75, 192, 3200, 2.25e-4),
        ("pretrain/hmdb51", 2, 0.75, 192, 4800, 2.25e-4),
    ],
)
def test_video_pretraining_is_that_of_the_paper(name, frames_apart, hidden, batch, epochs, peak_lr):
    config = load(name, [CATALOG])
    assert (config.input.frame_stride, config.mask.ratio) == (frames_apart, hidden)
    assert (config.train.global_batch, config.train.length) == (batch, Duration(epochs, "epochs"))
    assert config.train.peak_lr == pytest.approx(peak_lr)


@pytest.mark.parametrize("name", ["pretrain/ssv2", "finetune/ssv2", "probe/ssv2"])
def test_nothing_is_mirrored_where_left_and_right_are_labels(name):
    config = load(name, [CATALOG]) if name.startswith("pretrain") else load_section(name)
    assert not config.augment.flip


def test_every_protocol_is_in_the_short_experiment_on_cifar10():
    evaluations = load("pretrain/cifar10_protocols", [CATALOG]).evaluations
    assert {name: its.protocol for name, its in evaluations.items()} == {
        "linear_probe": "linear_probe",
        "feature_probe": "feature_probe",
        "knn": "knn",
        "finetune": "finetune",
        "partial": "finetune",
        "scratch": "finetune",
    }
    assert evaluations["partial"].trainable_blocks == 2
    assert evaluations["scratch"].start_from == ("random",)
    assert {evaluations[name].baseline for name in ("finetune", "partial")} == {"scratch"}
    assert evaluations["scratch"].training.optim.layer_decay is None
