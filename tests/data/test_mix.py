"""Several catalogs as one: numbered through, kept together, and told from any other mix."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from mae_dist import storage
from mae_dist.data.catalog import Catalog, CatalogError
from mae_dist.data.mix import Mix, describe, load_samples


def catalog(name: str, num_samples: int, *, media: str = "video", classes: tuple[str, ...] = ()) -> Catalog:
    return Catalog.of(
        keys=[f"{name} {number}" for number in range(num_samples)],
        uris=[f"{name}/{number}" for number in range(num_samples)],
        media=media,
        labels=[number % len(classes) if classes else -1 for number in range(num_samples)],
        classes=classes,
        chunk=2,
    )


def mix_of(weights: tuple[float, ...] = (0.75, 0.25), **classes: tuple[str, ...]) -> Mix:
    videos = catalog("videos", 5, classes=classes.get("videos", ("run", "sit")))
    images = catalog("images", 3, media="image", classes=classes.get("images", ("run", "sit")))
    return Mix.of({"videos": videos, "images": images}, dict(zip(("videos", "images"), weights, strict=True)))


def test_samples_are_numbered_through_in_the_order_of_the_names():
    mix = mix_of()
    assert mix.num_samples == 8
    assert [part.name for part in mix.parts] == ["images", "videos"]
    rows = mix.rows(np.array([3, 0, 7, 2, 3]))
    assert [row.key for row in rows] == ["videos 0", "images 0", "videos 4", "images 2", "videos 0"]
    assert [row.media for row in rows] == ["video", "image", "video", "image", "video"]


def test_the_order_of_a_mix_has_its_sizes_chunks_and_weights():
    order = mix_of().order(seed=7, repeats=2)
    assert (order.sizes, order.chunks, order.weights) == ((3, 5), (2, 2), (1, 3))
    assert (order.seed, order.repeats) == (7, 2)


def test_the_peers_of_a_sample_are_those_of_its_source():
    mix = mix_of()
    assert [mix.peers(sample) for sample in (0, 2, 3, 7)] == [range(3), range(3), range(3, 8), range(3, 8)]


def test_labels_hold_where_the_classes_agree():
    mix = mix_of(images=("run",))
    assert mix.classes == ("run", "sit")
    assert [row.label for row in mix.rows(np.arange(8))] == [0, 0, 0, 0, 1, 0, 1, 0]


def test_nothing_is_labelled_where_the_classes_differ():
    mix = mix_of(images=("sit", "run"))
    assert (mix.classes, mix.num_classes) == ((), 0)
    assert {row.label for row in mix.rows(np.arange(8))} == {-1}


def test_the_digest_is_of_all_catalogs_and_of_the_shares():
    digests = {
        mix.digest for mix in (mix_of(), mix_of((0.7, 0.3)), mix_of((0.25, 0.75)), mix_of(images=("run",)))
    }
    assert len(digests) == 4
    assert mix_of((3, 1)).digest == mix_of().digest
    assert pickle.loads(pickle.dumps(mix_of())).digest == mix_of().digest  # noqa: S301


def test_a_mix_comes_back_as_it_was_saved(place):
    mix_of().save(place)
    loaded = load_samples(storage.join(place, "mix.json"))
    assert isinstance(loaded, Mix)
    assert loaded.digest == mix_of().digest
    assert [(part.name, part.weight) for part in loaded.parts] == [("images", 1), ("videos", 3)]
    assert loaded.rows(np.arange(8)) == mix_of().rows(np.arange(8))


def test_samples_are_described_with_digests_and_shares():
    mix = mix_of()
    images, videos = (part.catalog for part in mix.parts)
    assert describe(mix, ["in1k.parquet", "k400.parquet"]) == (
        f"0.25 of in1k.parquet ({images.digest[:12]}); 0.75 of k400.parquet ({videos.digest[:12]})"
    )
    assert describe(videos, ["k400.parquet"]) == f"k400.parquet ({videos.digest[:12]})"


def test_a_single_catalog_is_read_as_one(tmp_path):
    catalog("videos", 2).save(f"{tmp_path}/catalog.parquet")
    assert isinstance(load_samples(f"{tmp_path}/catalog.parquet"), Catalog)


def test_a_mix_that_was_altered_is_refused(tmp_path):
    mix_of().save(str(tmp_path))
    about = json.loads((tmp_path / "mix.json").read_text())
    about["parts"][0]["weight"] = 2
    (tmp_path / "mix.json").write_text(json.dumps(about))
    with pytest.raises(CatalogError, match=r"mix\.json: was altered after it was made \(digest .* delete it"):
        Mix.load(f"{tmp_path}/mix.json")
