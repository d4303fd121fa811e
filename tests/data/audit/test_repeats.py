"""Equal bytes are found within a catalog and between two; corrupt samples are no repeats."""

from __future__ import annotations

import pytest

from mae_dist import storage
from mae_dist.data.audit import repeats
from mae_dist.data.audit.facts import FactSpec
from mae_dist.data.audit.filling import filled
from mae_dist.data.audit.findings import audit
from mae_dist.data.audit.repeats import conflicts, duplicates, leak


@pytest.fixture
def findings(troubled):
    return audit(troubled, FactSpec())


def names(catalog, samples) -> list[str]:
    return [catalog.table["key"][int(sample)].as_py() for sample in samples]


def test_equal_samples_form_a_group_and_corrupt_ones_none(troubled, findings):
    [group] = duplicates(troubled, findings)
    assert names(troubled, group) == ["run/good.mp4", "run/twice.mp4", "walk/same_as_a_run.mp4"]


def test_equal_samples_with_other_labels_are_in_conflict(troubled, findings):
    groups, labels = duplicates(troubled, findings), troubled.table["label"].to_numpy().copy()
    assert [group.tolist() for group in conflicts(groups, labels)] == [groups[0].tolist()]
    labels[groups[0][2]] = labels[groups[0][0]]
    assert conflicts(groups, labels) == []
    labels[groups[0][0]] = -1  # unknown, and so no other label
    assert conflicts(groups, labels) == []


def test_keyframes_of_one_movie_are_no_duplicates_and_those_of_its_copy_are(keyframes):
    groups = duplicates(keyframes, audit(keyframes, FactSpec()))
    assert [group.tolist() for group in groups] == [[0, 4], [1, 5]]


def test_what_is_in_both_catalogs_is_a_leak(troubled, findings, catalog_of, troubled_files, make_video):
    other = catalog_of(
        {
            "x/new.mp4": make_video(num_frames=17),
            "x/seen.mp4": troubled_files["run/other.mp4"],
            "x/seen_again.mp4": troubled_files["run/other.mp4"],
            "x/page.mp4": troubled_files["walk/page.mp4"],
        },
        "validation",
    )
    found = leak(findings, other)
    assert [names(troubled, found.pairs[:, 0]), names(other, found.pairs[:, 1])] == [
        ["run/other.mp4"],
        ["x/seen.mp4"],
    ]
    assert found.unread == 0


def test_only_files_of_a_length_that_occurs_are_read(findings, catalog_of, troubled_files, monkeypatch):
    other = catalog_of({"a.mp4": b"of no such length", "b.mp4": troubled_files["run/other.mp4"]}, "other")
    asked = []
    digests = repeats.digests

    def counting(catalog, samples, **how):
        asked.extend(samples.tolist())
        return digests(catalog, samples, **how)

    monkeypatch.setattr(repeats, "digests", counting)
    assert len(leak(findings, other).pairs) == 1
    assert asked == [1]


def test_an_audited_catalog_is_compared_without_reading_it(findings, catalog_of, troubled_files):
    other = catalog_of({"b.mp4": troubled_files["run/other.mp4"]}, "other")
    audited = filled(other, audit(other, FactSpec()))
    storage.delete(other.table["uri"][0].as_py())
    assert len(leak(findings, audited).pairs) == 1


def test_what_cannot_be_compared_is_counted(findings, catalog_of, troubled_files):
    other = catalog_of({"b.mp4": troubled_files["run/other.mp4"]}, "other")
    storage.delete(other.table["uri"][0].as_py())
    found = leak(findings, other)
    assert (found.pairs.shape, found.unread) == ((0, 2), 1)
