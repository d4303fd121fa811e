"""People in a micro-batch: their loss, and their judgement in a test."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mae_dist.config.duration import Duration
from mae_dist.config.geometry import Grid, architecture
from mae_dist.config.optimisation import OptimConfig, TrainConfig
from mae_dist.config.schema import EvaluationConfig, HeadConfig, InputConfig
from mae_dist.model.encoder import Encoder
from mae_dist.train.detection import DetectTask, judge_test, read_judgements
from tests.model.small import randomised

MICRO = architecture("videomae_micro")  # patches of 8 pixels and 2 frames
GRID = Grid(frames=1, rows=4, columns=4)
TRAIN = TrainConfig(
    length=Duration(1, "steps"), global_batch=2, micro_batch=2, optim=OptimConfig(base_lr=1.0)
)


@pytest.fixture(scope="module")
def task() -> DetectTask:
    evaluation = EvaluationConfig(protocol="detect", train=TRAIN, head=HeadConfig())
    task = DetectTask(MICRO, GRID, InputConfig(), evaluation, num_actions=3)
    randomised(task, seed=2)
    return task.eval()


def batch(*, height: int = 32, width: int = 32) -> dict:
    """Three clips: two people, nobody, one person in the second of three places."""
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 16, (3, 3, 4)).astype(np.float32)
    boxes[..., 2:] += boxes[..., :2]
    return {
        "clips": torch.from_numpy(rng.integers(0, 256, (3, 2, height, width, 3), dtype=np.uint8)),
        "boxes": torch.from_numpy(boxes),
        "is_box": torch.tensor([[True, True, False], [False] * 3, [False, True, False]]),
        "actions": torch.from_numpy(rng.integers(0, 2, (3, 3, 3), dtype=np.uint8)),
        "shown": np.array([[height, width]] * 3),
        "counted": torch.tensor([True] * 3),
        "sample": np.array([7, 8, 9]),
        "block": 0,
    }


def part(given: dict, clips: slice) -> dict:
    return {name: value if name == "block" else value[clips] for name, value in given.items()}


def logits_of(task: DetectTask, given: dict, clip: int, place: int, height: int, width: int) -> torch.Tensor:
    box = torch.cat([torch.zeros(1), given["boxes"][clip, place]])[None]
    return task.logits(given["clips"][clip : clip + 1, :, :height, :width], box)[0]


def test_the_loss_is_that_of_every_person_by_clip_and_of_nothing_else(task):
    given = batch()
    expected = 0.0
    for clip, place in [(0, 0), (0, 1), (2, 1)]:
        chance = logits_of(task, given, clip, place, 32, 32).sigmoid()
        does = given["actions"][clip, place].bool()
        expected -= torch.where(does, chance, 1 - chance).log().mean().item()
    assert task(given).loss.item() == pytest.approx(expected / 3, rel=1e-5)


def test_a_person_counts_the_same_in_a_micro_batch_of_any_size(task):
    given = batch()
    parts = [task(part(given, slice(clip, clip + 1))).loss for clip in range(3)]
    assert torch.stack(parts).mean().item() == pytest.approx(task(given).loss.item(), rel=1e-5)


def test_a_micro_batch_without_people_trains_nothing(task):
    loss = task(part(batch(), slice(1, 2))).loss
    assert loss.item() == 0
    loss.backward()
    assert all(not p.grad.any() for p in task.parameters() if p.grad is not None)
    task.zero_grad(set_to_none=True)


@torch.no_grad()
def test_everybody_in_a_clip_that_counts_is_judged_and_named(task):
    given = batch() | {"counted": torch.tensor([True, True, False])}
    judged = task.judge(given)
    assert judged["sample"].tolist() == [7, 7]
    assert judged["place"].tolist() == [0, 1]
    for place in range(2):
        expected = logits_of(task, given, 0, place, 32, 32).sigmoid().numpy()
        np.testing.assert_allclose(judged["probability"][place], expected, rtol=1e-4)


@torch.no_grad()
def test_pictures_of_several_sizes_are_judged_in_whole_patches(task):
    given = batch(height=40, width=64) | {"shown": np.array([[40, 47], [40, 64], [29, 64]])}
    judged = task.judge(given)
    order = np.argsort(judged["sample"], kind="stable")
    assert judged["sample"][order].tolist() == [7, 7, 9]
    assert judged["place"][order].tolist() == [0, 1, 1]
    sizes = [(0, 0, 40, 40), (0, 1, 40, 40), (2, 1, 24, 64)]
    for found, (clip, place, height, width) in zip(judged["probability"][order], sizes, strict=True):
        expected = logits_of(task, given, clip, place, height, width).sigmoid().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_judgements_of_all_ranks_are_read_together(task, tmp_path):
    judge_test(task, [batch(), batch()], output=str(tmp_path), rank=0)
    judge_test(task, [], output=str(tmp_path), rank=1)
    judge_test(task, [batch()], output=str(tmp_path), rank=2)
    judged = read_judgements(str(tmp_path), world=3)
    assert judged["sample"].tolist() == [7, 7, 9] * 3
    assert judged["probability"].shape == (9, 3)
    assert len(read_judgements(str(tmp_path), world=2)["place"]) == 6


def test_detection_starts_from_the_encoder_it_is_given_with_its_norm(task):
    given = Encoder(MICRO, GRID)
    randomised(given, seed=9)
    task.take_encoder(given)
    for name, values in task.model.encoder.state_dict().items():
        assert torch.equal(values, given.state_dict()[name])
