"""What a recipe may name as its samples."""

from __future__ import annotations

import numpy as np
import pytest

from mae_dist import storage
from mae_dist.data.readers import SourceError
from mae_dist.data.sources import DRAWN, identify, is_drawn, make_source, open_source


@pytest.fixture
def images(tmp_path, make_image) -> str:
    for number in range(4):
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(make_image(number))
    return str(tmp_path / "images")


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_drawn_set_is_written_listed_and_the_same_every_time(name, tmp_path):
    source = f"drawn://{name}?samples=9&seed=3"
    first, second = (make_source(source, work_folder=str(tmp_path / folder)) for folder in "ab")
    assert first.num_samples == 9
    assert first.num_classes >= 2
    everything = np.arange(first.num_samples)
    for one, other in zip(first.rows(everything), second.rows(everything), strict=True):
        assert one.uri.startswith(str(tmp_path / "a" / "samples"))
        assert storage.read_bytes(one.uri) == storage.read_bytes(other.uri)
        assert one.label == other.label


def test_another_seed_draws_other_samples(tmp_path):
    catalogs = [
        make_source(f"drawn://moving_clips?samples=1&seed={seed}", work_folder=str(tmp_path / str(seed)))
        for seed in (0, 1)
    ]
    pixels = [storage.read_bytes(catalog.rows(np.array([0]))[0].uri) for catalog in catalogs]
    assert pixels[0] != pixels[1]


def test_a_drawn_set_is_identified_by_how_it_is_drawn_before_it_exists():
    identity, catalog = identify("drawn://moving_clips?samples=12&seed=3")
    assert (identity, catalog) == ("drawn moving_clips samples=12 seed=3", None)
    assert identify("drawn://moving_clips?seed=3&samples=12")[0] == identity
    assert identify("drawn://moving_clips?samples=12")[0] == "drawn moving_clips samples=12 seed=0"


@pytest.mark.parametrize(
    "source",
    [
        "drawn://circles?samples=3",
        "drawn://moving_clips",
        "drawn://moving_clips?samples=many",
        "drawn://moving_clips?samples=0",
        "drawn://moving_clips?samples=-5",
        "drawn://moving_clips?samples=3&seed=-1",
        "drawn://moving_clips?samples=3&size=8",
    ],
)
def test_a_drawing_that_does_not_exist_is_refused_with_those_that_do(source):
    assert is_drawn(source)
    with pytest.raises(SourceError) as caught:
        identify(source)
    assert str(caught.value) == (
        f"{source}: no such drawing; give drawn://NAME?samples=NUMBER&seed=NUMBER, NAME one of "
        + ", ".join(sorted(DRAWN))
    )


def test_samples_that_exist_are_identified_by_their_catalog(images):
    identity, catalog = identify(images)
    assert catalog is not None
    assert identity == catalog.digest == open_source(images).digest


def test_a_catalog_file_and_what_it_was_listed_from_are_the_same_samples(images, tmp_path):
    saved = str(tmp_path / "catalog.parquet")
    open_source(images).save(saved)
    assert identify(saved)[0] == identify(images)[0]
    assert make_source(saved, work_folder=str(tmp_path / "work")).digest == identify(images)[0]
    assert not (tmp_path / "work").exists()


def test_a_source_that_is_not_there_is_named(tmp_path):
    with pytest.raises(storage.StorageNotFoundError, match="nowhere: no such file or folder"):
        identify(str(tmp_path / "nowhere"))
