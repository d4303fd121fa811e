"""Every engine and ZeRO stage trains the same losses, and its state fits any world size and any other stage.

Several engines live one after another in the same two processes: starting those is what takes the time.
"""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from mae_dist.train import checkpoint
from mae_dist.train.checkpoint import Checkpointer, Progress
from mae_dist.train.engine import whole_weights
from tests.ranks import run_ranks
from tests.train.engines import GLOBAL_BATCH, make_engine, num_ranks, train_step

pytestmark = pytest.mark.slow

KINDS = ["torch", "zero1", "zero2", "zero3"]
OFFLOADED = ["zero1+optimizer", "zero2+optimizer", "zero3+optimizer", "zero3+parameters"]
LOSS_TOLERANCE = 1e-6
"""Relative, in float32: sums of gradients are taken in another order."""
WEIGHT_TOLERANCE = 2e-6


def train_steps(
    rank: int,
    kind: str,
    accumulation: int,
    *,
    first: int = 0,
    recompute: bool = False,
    resume: str | None = None,
    save: str | None = None,
):
    """Losses of steps first..5 and the weights after them; saves the state after step 2."""
    engine = make_engine(kind, accumulation=accumulation, recompute=recompute)
    if resume:
        assert checkpoint.load(resume, first, engine).step == first
    losses = []
    for step in range(first, 6):
        losses.append(train_step(engine, step, rank=rank, accumulation=accumulation))
        if save and step == 2:
            saver = Checkpointer(save, rank=rank, world=num_ranks(), attempt="test", keep=2)
            saver.save(engine, Progress(step=3, samples=3 * GLOBAL_BATCH))
            saver.wait()
    found = {}
    for state in ("weight", "ema"):
        whole = whole_weights(engine, kind=state, device=torch.device("cpu"))
        found[state] = {name: whole.flat(state, name, n).numpy() for name, n in engine.trained.items()}
    del engine
    gc.collect()
    return losses, found


def train_many(rank: int, runs: dict[str, dict]):
    return {name: train_steps(rank, **arguments) for name, arguments in runs.items()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def reference(folders):
    """The torch engine in this process, saved on the way: losses and weights."""
    return train_steps(0, "torch", 1, save=str(folders / "torch-1"))


@pytest.fixture(scope="module")
def on_two(folders, reference, two_ranks):
    """On two ranks: uninterrupted, resumed from themselves, and resumed from others; by name, by rank."""
    runs = {}
    for kind in KINDS:
        saved = str(folders / f"{kind}-2")
        runs[f"{kind}"] = {"kind": kind, "accumulation": 1, "save": saved}
        runs[f"{kind} accumulated"] = {"kind": kind, "accumulation": 2}
        runs[f"{kind} resumed"] = {"kind": kind, "accumulation": 1, "resume": saved, "first": 3}
    for kind, source in [("zero1", "zero3-2"), ("zero3", "zero1-2"), ("zero3", "torch-1")]:
        saved = str(folders / source)
        runs[f"{kind} from {source}"] = {"kind": kind, "accumulation": 1, "resume": saved, "first": 3}
    for kind in ("torch", "zero2", "zero3"):
        runs[f"{kind} recomputed"] = {"kind": kind, "accumulation": 2, "recompute": True}
    for kind in OFFLOADED:
        runs[kind] = {"kind": kind, "accumulation": 1, "save": str(folders / kind)}
    runs["zero3+parameters resumed"] = {
        "kind": "zero3+parameters",
        "accumulation": 1,
        "resume": str(folders / "zero3+parameters"),
        "first": 3,
    }
    return two_ranks(train_many, runs)


@pytest.fixture(scope="module")
def on_four(folders, on_two):
    """On four ranks: taken up from one and from two, at other stages; another zero3 is saved on the way."""
    sources = {"zero1": "zero3-2", "zero2": "torch-1", "zero3": "zero2-2"}
    runs = {
        f"{kind} from {source}": {
            "kind": kind,
            "accumulation": 1,
            "resume": str(folders / source),
            "first": 3,
        }
        for kind, source in sources.items()
    }
    runs["zero3"] = {"kind": "zero3", "accumulation": 1, "save": str(folders / "zero3-4")}
    return run_ranks(4, train_many, runs)


@pytest.fixture(scope="module")
def on_one(folders, on_two, on_four):
    """On one rank: uninterrupted, resumed from another stage, and from what more ranks saved; by name."""
    runs = {}
    for kind in KINDS[1:]:
        saved = str(folders / f"{kind}-1")
        runs[kind] = {"kind": kind, "accumulation": 1, "save": saved}
    for kind, source in [
        ("zero2", "zero3-1"),
        ("torch", "zero1-2"),
        ("zero1", "zero3-2"),
        ("zero3", "zero2-2"),
        ("zero2", "zero3-4"),
    ]:
        saved = str(folders / source)
        runs[f"{kind} from {source}"] = {"kind": kind, "accumulation": 1, "resume": saved, "first": 3}
    [found] = run_ranks(1, train_many, runs)
    return found


def assert_close(found, reference, *, since: int = 0):
    assert found[0] == pytest.approx(reference[0][since:], rel=LOSS_TOLERANCE)
    for state, values in reference[1].items():
        for name, expected in values.items():
            np.testing.assert_allclose(found[1][state][name], expected, atol=WEIGHT_TOLERANCE, err_msg=name)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_stage_trains_the_reference_on_one_rank(kind, on_one, reference):
    assert_close(on_one[kind], reference)


@pytest.mark.parametrize("split", ["", " accumulated"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_and_split_of_the_batch_trains_the_reference_on_two_ranks(kind, split, reference, on_two):
    for found in on_two:
        assert_close(found[kind + split], reference)


@pytest.mark.parametrize("kind", ["torch", "zero2", "zero3"])
def test_recomputed_activations_do_not_change_the_training(kind, on_two):
    for found in on_two:
        assert found[f"{kind} recomputed"][0] == found[f"{kind} accumulated"][0]


@pytest.mark.parametrize("kind", OFFLOADED)
def test_what_is_kept_in_host_memory_does_not_change_the_training(kind, reference, on_two):
    for found in on_two:
        assert_close(found[kind], reference)


@pytest.mark.parametrize("kind", [*KINDS, "zero3+parameters"])
def test_a_resumed_training_ends_in_the_same_bits(kind, on_two):
    for found in on_two:
        losses, whole = found[kind]
        later_losses, later = found[f"{kind} resumed"]
        assert later_losses == losses[3:]
        for state, values in whole.items():
            for name, expected in values.items():
                np.testing.assert_array_equal(later[state][name], expected, err_msg=f"{state} {name}")


@pytest.mark.parametrize("name", ["zero1 from zero3-2", "zero3 from zero1-2", "zero3 from torch-1"])
def test_state_of_one_stage_and_world_goes_on_in_another(name, reference, on_two):
    for found in on_two:
        assert_close(found[name], reference, since=3)


@pytest.mark.parametrize(
    "name",
    [
        "zero2 from zero3-1",
        "torch from zero1-2",
        "zero1 from zero3-2",
        "zero3 from zero2-2",
        "zero2 from zero3-4",
    ],
)
def test_state_of_one_two_or_four_ranks_goes_on_on_one(name, reference, on_one):
    assert_close(on_one[name], reference, since=3)


def test_state_of_one_and_two_ranks_goes_on_on_four(reference, on_four):
    for found in on_four:
        for name, resumed in found.items():
            assert_close(resumed, reference, since=3 if "from" in name else 0)
