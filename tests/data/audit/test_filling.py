"""A catalog that was filled says what its samples are, and reading them is checked against it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from mae_dist import storage
from mae_dist.config.limits import DecodeLimits
from mae_dist.data.audit.facts import FactSpec
from mae_dist.data.audit.filling import filled
from mae_dist.data.audit.findings import audit
from mae_dist.data.catalog import Catalog, CatalogError
from mae_dist.data.fetch import fetch
from mae_dist.data.order import SampleOrder


def test_sound_samples_get_their_facts_and_corrupt_ones_stay_as_listed(troubled, troubled_files):
    anew = filled(troubled, audit(troubled, FactSpec()))
    rows = {row["key"]: row for row in anew.table.to_pylist()}
    good, page = rows["run/good.mp4"], rows["walk/page.mp4"]
    assert (good["frames"], good["fps"]) == (20, 10.0)
    assert good["sha256"] == hashlib.sha256(troubled_files["run/good.mp4"]).digest()
    assert (page["frames"], page["sha256"], np.isnan(page["fps"])) == (-1, b"", True)
    untouched = ["key", "uri", "media", "row", "offset", "label"]
    assert anew.table.select(untouched).equals(troubled.table.select(untouched))
    assert (anew.classes, anew.chunk, anew.origin) == (troubled.classes, troubled.chunk, troubled.origin)


def test_it_loads_as_it_was_saved_and_filling_again_changes_nothing(troubled, tmp_path):
    anew = filled(troubled, audit(troubled, FactSpec()))
    anew.save(str(tmp_path / "anew.parquet"))
    loaded = Catalog.load(str(tmp_path / "anew.parquet"))
    assert loaded.digest == anew.digest
    assert filled(loaded, audit(loaded, FactSpec(decode=True))).digest == anew.digest


def test_its_digest_is_another_one_and_its_stream_the_same(troubled):
    """The digest then stands for the bytes as well; the order of samples depends on their number alone."""
    anew = filled(troubled, audit(troubled, FactSpec()))
    assert anew.digest != troubled.digest
    positions = np.arange(40)
    orders = [SampleOrder(its.num_samples, its.chunk, 0).at(positions) for its in (troubled, anew)]
    assert all((ours == theirs).all() for ours, theirs in zip(*orders, strict=True))


def test_a_bit_that_flips_after_the_audit_is_noticed_when_it_is_read(troubled):
    anew = filled(troubled, audit(troubled, FactSpec()))
    uri = troubled.table["uri"][0].as_py()
    data = bytearray(storage.read_bytes(uri))
    data[-1] ^= 1
    storage.write_bytes(uri, bytes(data))
    before, after = (next(fetch(catalog.rows(np.array([0])), DecodeLimits())) for catalog in (troubled, anew))
    assert before == bytes(data)
    assert str(after) == "its bytes are not those that were catalogued (sha256 differs)"
    assert audit(anew, FactSpec())["reason"][0].as_py() == str(after)


def test_corrupt_samples_can_be_left_out(troubled):
    anew = filled(troubled, audit(troubled, FactSpec()), drop_corrupt=True)
    assert [key for key in troubled.table["key"].to_pylist() if key not in anew.table["key"].to_pylist()] == [
        "walk/page.mp4",
        "walk/page_again.mp4",
        "walk/without_its_end.mp4",
    ]
    assert anew.classes == troubled.classes


def test_keyframes_keep_their_times_and_boxes(keyframes, tmp_path):
    anew = filled(keyframes, audit(keyframes, FactSpec()), drop_corrupt=True)
    anew.save(str(tmp_path / "anew.parquet"))
    kept = ["time", "boxes"]
    assert (
        Catalog.load(str(tmp_path / "anew.parquet")).table.select(kept).equals(keyframes.table.select(kept))
    )


def test_nothing_left_is_an_error_and_no_empty_catalog(catalog_of):
    catalog = catalog_of({"a.mp4": b"nothing", "b.mp4": b"nothing"})
    with pytest.raises(CatalogError, match="all 2 samples are corrupt: nothing is left to list"):
        filled(catalog, audit(catalog, FactSpec()), drop_corrupt=True)
