"""Which samples of a catalog lie at one place."""

from __future__ import annotations

from mae_dist.data.catalog import Catalog
from mae_dist.data.places import first_at_place


def catalog_of(uris: list[str], **where: list[int]) -> Catalog:
    keys = [str(number) for number in range(len(uris))]
    return Catalog.of(keys=keys, uris=uris, media="video", labels=[-1] * len(uris), classes=(), **where)


def test_samples_of_one_file_are_stood_for_by_the_first():
    catalog = catalog_of(["/b", "/a", "/c", "/a", "/b", "/b"])
    assert first_at_place(catalog).tolist() == [0, 1, 2, 1, 0, 0]


def test_rows_and_members_of_one_file_are_places_of_their_own():
    assert first_at_place(catalog_of(["/a"] * 4, rows=[3, 1, 3, 2])).tolist() == [0, 1, 0, 3]
    assert first_at_place(catalog_of(["/a", "/b", "/a"], offsets=[512, 512, 1024])).tolist() == [0, 1, 2]


def test_a_single_sample_is_at_a_place_of_its_own():
    assert first_at_place(catalog_of(["/a"])).tolist() == [0]
