"""Folders of corrupted test images become catalogs, whatever archive they came from."""

from __future__ import annotations

import numpy as np
import pytest

from mae_dist import storage
from mae_dist.data.readers import SourceError, build_catalog
from mae_dist.data.readers.corruptions import corruption_of


def put(root: str, *names: str) -> str:
    for name in names:
        storage.write_bytes(storage.join(root, name), b"not opened")
    return root


def test_classes_corruptions_and_severities_are_told_apart(root):
    names = ["blur/zoom/5/cat/a.png", "noise/1/cat/a.png", "noise/1/dog/b.png", "noise/2/dog/b.png"]
    catalog = build_catalog(put(root, *names), kind="corruptions")
    assert catalog.classes == ("cat", "dog")
    assert catalog.table["key"].to_pylist() == names
    assert catalog.table["label"].to_pylist() == [0, 0, 1, 1]
    assert [corruption_of(row.key) for row in catalog.rows(np.arange(4))] == [
        ("zoom", 5),
        ("noise", 1),
        ("noise", 1),
        ("noise", 2),
    ]


@pytest.mark.parametrize("name", ["noise/cat/a.png", "a.png", "noise/high/cat/a.png", "noise/0/cat/a.png"])
def test_an_image_that_lies_elsewhere_is_named(tmp_path, name):
    with pytest.raises(SourceError) as caught:
        build_catalog(put(str(tmp_path), "noise/1/cat/a.png", name), kind="corruptions")
    assert str(caught.value).startswith(
        f"{tmp_path}: {name} does not lie in CORRUPTION/SEVERITY/CLASS, such as "
    )


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"no image file; found labels\.txt"):
        build_catalog(put(str(tmp_path), "noise/1/cat/labels.txt"), kind="corruptions")


def test_samples_of_other_data_sets_are_no_corruptions():
    assert corruption_of("n01440764/ILSVRC2012_val_00000293.JPEG") is None
