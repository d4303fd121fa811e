"""A small collection of clips with one of every problem, and its catalog."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mae_dist import storage
from mae_dist.data.catalog import Catalog
from mae_dist.data.readers import build_catalog


@pytest.fixture(scope="session")
def troubled_files(make_video) -> dict[str, bytes]:
    """Name -> bytes: what is wrong stands in the name."""
    good = make_video(num_frames=20)
    return {
        "run/good.mp4": good,
        "run/other.mp4": make_video(num_frames=30),
        "run/short.mp4": make_video(num_frames=5),
        "run/twice.mp4": good,
        "walk/page.mp4": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "walk/page_again.mp4": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "walk/same_as_a_run.mp4": good,
        "walk/without_its_end.mp4": good[: len(good) // 2],
    }


@pytest.fixture
def catalog_of(tmp_path) -> Callable[..., Catalog]:
    """Write these files into a folder of that name, and list it."""

    def write(files: dict[str, bytes], folder: str = "clips") -> Catalog:
        for name, data in files.items():
            storage.write_bytes(f"{tmp_path}/{folder}/{name}", data)
        return build_catalog(f"{tmp_path}/{folder}")

    return write


@pytest.fixture
def troubled(catalog_of, troubled_files) -> Catalog:
    """Their catalog; samples are numbered in the order of their names."""
    return catalog_of(troubled_files)


@pytest.fixture
def keyframes(catalog_of, make_video) -> Catalog:
    """Two keyframes, at second 0 and 1, of each of three movies, of which the last is the first."""
    movie = make_video(num_frames=20)
    movies = catalog_of({"a.mp4": movie, "b.mp4": make_video(num_frames=30), "c.mp4": movie}, "movies")
    return Catalog.of(
        keys=[f"{name}/{second}" for name in "abc" for second in (0, 1)],
        uris=[uri for uri in movies.table["uri"].to_pylist() for _ in (0, 1)],
        media="video",
        labels=[-1] * 6,
        classes=["sit"],
        times=[0.0, 1.0] * 3,
        boxes=[[]] * 6,
    )
