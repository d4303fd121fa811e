"""One catalog or a mix: how a recipe says so, and what is said where it says both or neither."""

from __future__ import annotations

import pytest

from mae_dist.config.load import from_dict, load, to_dict
from mae_dist.config.schema import SourceConfig
from tests.config.small import SMALL, mistakes

MIXED = SMALL.replace(
    "data: {catalog: images}",
    """\
data:
  mix:
    videos: {catalog: k400.parquet, weight: 0.8}
    images: {catalog: in1k.parquet, weight: 0.2}
""",
)
PROBE = "evaluations.probe={extends: probe/in1k, train: {global_batch: 64, micro_batch: 64}}"


@pytest.fixture
def mixed(write) -> str:
    return write(MIXED)


def problems(recipe: str, *settings: str) -> list[str]:
    return [line.strip() for line in mistakes(recipe, *settings).splitlines()[1:]]


def test_a_mix_is_read_and_written(mixed):
    config = load(mixed)
    assert config.data.catalog is None
    assert config.data.mix["videos"] == SourceConfig(catalog="k400.parquet", weight=0.8)
    assert from_dict(to_dict(config)) == config


def test_sources_are_listed_by_name_with_their_fields(mixed):
    assert load(mixed).data.sources == {
        "mix.images.catalog": "in1k.parquet",
        "mix.videos.catalog": "k400.parquet",
    }
    simple = load(mixed, ["data.mix={}", "data.catalog=a"])
    assert simple.data.sources == {"catalog": "a"}


def test_a_setting_changes_adds_and_leaves_out_sources(mixed):
    settings = ["data.mix.videos.weight=3", "data.mix.images=null", "data.mix.more={catalog: x, weight: 1}"]
    mix = load(mixed, settings).data.mix
    assert {name: source.weight for name, source in mix.items()} == {"videos": 3, "more": 1}


def test_a_catalog_beside_a_mix_is_refused(mixed):
    assert problems(mixed, "data.catalog=a") == [
        "data.catalog: cannot stand beside data.mix (images, videos); data.catalog=null or data.mix={} would "
        "do (from --set data.catalog=a)"
    ]


@pytest.mark.parametrize("weight", ["0", "-1"])
def test_weights_are_positive(mixed, weight):
    [problem] = problems(mixed, f"data.mix.videos.weight={weight}")
    assert problem.startswith(f"data.mix.videos.weight: must be greater than 0, got {weight}")


def test_weights_are_finite(mixed):
    assert problems(mixed, "data.mix.videos.weight=.inf")[0].startswith(
        "data.mix.videos.weight: must be a finite number, got inf"
    )


def test_a_source_needs_a_catalog_and_a_weight(mixed):
    assert problems(mixed, "data.mix.more={}") == [
        "data.mix.more.catalog: required; give --set data.mix.more.catalog=URI",
        "data.mix.more.weight: required; give --set data.mix.more.weight=VALUE",
    ]


def test_the_name_of_a_source_becomes_a_file(mixed):
    [problem] = problems(mixed, "data.mix={'a/b': {catalog: x, weight: 1}}")
    assert problem.startswith("data.mix.a/b: becomes a folder or a file: letters, digits, '-' and '_' only")


def test_labelled_names_a_source(mixed):
    assert load(mixed, ["data.labelled=videos"]).data.labelled == "videos"
    [problem] = problems(mixed, "data.labelled=video")
    assert problem.startswith("data.labelled: must be one of images, videos, or null; got 'video'")
    [problem] = problems(mixed, "data.mix={}", "data.catalog=a", "data.labelled=a")
    assert problem.startswith("data.labelled: needs data.mix, or null; got 'a'")


def test_few_labels_are_taken_from_one_catalog(mixed):
    few = [PROBE, "evaluations.probe.labels_per_class=5"]
    load(mixed, [*few, "data.labelled=videos"])
    [problem] = problems(mixed, *few)
    assert problem.startswith(
        "evaluations.probe.labels_per_class: takes the first samples of one catalog, got 5 and a mix of "
        "images, videos; null, or say which with data.labelled"
    )
