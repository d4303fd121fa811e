"""What is held out to choose with."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mae_dist.data.catalog import Catalog
from mae_dist.data.mix import Mix
from mae_dist.evaluate.split import validation_samples


def catalog(num_samples: int = 90, *, prefix: str = "") -> Catalog:
    """Three classes of unequal size."""
    labels = [0 if n % 6 < 3 else 1 if n % 6 < 5 else 2 for n in range(num_samples)]
    names = [f"{prefix}{number}" for number in range(num_samples)]
    return Catalog.of(keys=names, uris=names, media="image", labels=labels, classes=["a", "b", "c"])


def held_out(samples, share: float = 0.2, seed: int = 0) -> np.ndarray:
    return validation_samples(samples, share=share, seed=seed)


def test_every_class_gives_its_share():
    labels = catalog().table["label"].to_numpy()
    assert np.bincount(labels[held_out(catalog())]).tolist() == [9, 6, 3]


def test_the_order_of_the_samples_does_not_matter():
    samples = catalog()
    order = np.random.default_rng(0).permutation(samples.num_samples)
    shuffled = Catalog(samples.table.take(pa.array(order)), samples.classes, samples.chunk)
    assert held_out(shuffled).tolist() == held_out(samples)[order].tolist()


def test_another_seed_holds_out_others():
    assert held_out(catalog(), seed=1).tolist() != held_out(catalog()).tolist()
    assert held_out(catalog()).tolist() == held_out(catalog()).tolist()


def test_a_mix_is_divided_as_a_whole():
    mix = Mix.of({"x": catalog(60), "y": catalog(30, prefix="y")}, {"x": 1.0, "y": 3.0})
    assert held_out(mix).sum() == 18


def test_a_class_keeps_a_sample_to_learn_from():
    assert held_out(catalog(6), share=0.99).tolist().count(False) == 3


def test_a_share_that_holds_nothing_out_is_refused():
    with pytest.raises(ValueError, match=r"validation_share: 0\.1 of 6 samples is less than half a sample"):
        held_out(catalog(6), share=0.1)
