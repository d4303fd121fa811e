"""What a micro-batch of bytes becomes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mae_dist.config.duration import Duration
from mae_dist.config.geometry import Grid, architecture
from mae_dist.config.optimisation import OptimConfig, TrainConfig
from mae_dist.config.schema import EvaluationConfig, HeadConfig, InputConfig, TargetConfig, ViewsConfig
from mae_dist.data.masking import keep_ids
from mae_dist.model.patches import patchify
from mae_dist.model.targets import TARGETS
from mae_dist.train.tasks import ClassifyTask, PretrainTask

MICRO = architecture("mae_micro")
GRID = Grid(frames=1, rows=4, columns=4)
TRAIN = TrainConfig(
    length=Duration(1, "steps"), global_batch=4, micro_batch=4, optim=OptimConfig(base_lr=1.0)
)


def batch(block: int = 0) -> dict:
    rng = np.random.default_rng(block)
    keep = np.stack([keep_ids("random", GRID, 0.75, seed=0, epoch=0, sample=i) for i in range(4)])
    return {
        "clips": torch.from_numpy(rng.integers(0, 256, (4, 1, 16, 16, 3), dtype=np.uint8)),
        "keep": torch.from_numpy(keep),
        "label": torch.tensor([0, 1, 2, 1]),
        "counted": torch.tensor([True, True, True, False]),
        "block": block,
    }


def classify_task(protocol="finetune", views: ViewsConfig | None = None, **head) -> ClassifyTask:
    torch.manual_seed(0)
    evaluation = EvaluationConfig(
        protocol=protocol, train=TRAIN, head=HeadConfig(**head), views=views or ViewsConfig()
    )
    return ClassifyTask(MICRO, GRID, InputConfig(), evaluation, num_classes=3, seed=0)


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_the_loss_is_the_mean_square_over_hidden_patches_and_nothing_else(kind):
    torch.manual_seed(0)
    task = PretrainTask(MICRO, GRID, InputConfig(), TargetConfig(kind=kind))
    given = batch()
    patches = patchify(given["clips"], patch=4, tubelet=1).float() / 255
    mean, std = torch.tensor(InputConfig().mean), torch.tensor(InputConfig().std)
    errors = []
    for sample in range(4):
        kept = given["keep"][sample]
        hidden = torch.tensor([token for token in range(16) if token not in kept.tolist()])
        normal = (patches[sample].unflatten(-1, (-1, 3)) - mean) / std
        prediction = task.model(normal.flatten(-2)[kept][None], kept[None], hidden[None])
        target = TARGETS[kind](patches[sample][hidden][None], mean, std)
        errors.append(((prediction - target) ** 2).mean())
    assert task(given).loss.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)


def test_the_decoder_may_predict_a_part_and_what_was_seen_does_not_count():
    """The same error as of all hidden patches, where all are asked for, seen ones among them, or few."""
    torch.manual_seed(0)
    task = PretrainTask(MICRO, GRID, InputConfig(), TargetConfig())
    given = batch()
    everything = torch.arange(16).expand(4, -1)
    is_kept = torch.stack([torch.isin(everything[0], kept) for kept in given["keep"]])
    hidden = everything[~is_kept].reshape(4, -1)
    whole = task(given).loss
    torch.testing.assert_close(task(given | {"predict": hidden}).loss, whole)

    errors = []
    task.model.register_forward_hook(lambda module, inputs, output: errors.append(output.detach()))
    few = hidden[:, ::2]
    alone = task(given | {"predict": few}).loss
    with_seen = torch.cat([few, given["keep"]], dim=1)
    assert errors[0].shape[1] == few.shape[1]
    # What else is asked for is seen by the decoder's attention, so that the loss is near and not equal.
    beside = task(given | {"predict": with_seen}).loss
    assert errors[1].shape[1] == with_seen.shape[1]
    patches = patchify(given["clips"], patch=4, tubelet=1).float() / 255
    mean, std = torch.tensor(InputConfig().mean), torch.tensor(InputConfig().std)
    target = TARGETS["norm_pixel_mae"](patches.gather(1, few[..., None].expand(-1, -1, 48)), mean, std)
    for loss, prediction in ((alone, errors[0]), (beside, errors[1][:, : few.shape[1]])):
        assert loss.item() == pytest.approx(((prediction - target) ** 2).mean().item(), rel=1e-5)


def test_hidden_pixels_do_not_reach_the_prediction():
    torch.manual_seed(0)
    task = PretrainTask(MICRO, GRID, InputConfig(), TargetConfig())
    given, seen = batch(), []
    task.model.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    changed = dict(given, clips=given["clips"].clone())
    hidden = next(token for token in range(16) if token not in given["keep"][0].tolist())
    row, column = divmod(hidden, 4)
    changed["clips"][0, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] ^= 255
    task(given)
    task(changed)
    assert torch.equal(seen[0], seen[1])


def test_mixing_depends_on_the_block_alone():
    task = classify_task(mixup=0.8, cutmix=1.0)
    np.random.seed(1)
    first = task(batch(3)).loss
    np.random.seed(2)
    assert task(batch(3)).loss == first
    assert task(batch(4) | {"clips": batch(3)["clips"]}).loss != first


def test_rows_that_do_not_count_are_not_scored():
    task = classify_task()
    task.eval()
    scores = task.score(batch())
    assert scores["total"].tolist() == [1, 1, 1]
    assert scores["correct5"].tolist() == [1, 1, 1]
    expected = (task.logits(batch()["clips"].float() / 255).argmax(1) == batch()["label"])[:3]
    assert scores["correct"].sum() == expected.sum()


def test_the_answer_over_several_views_is_the_mean_of_their_softmax():
    task = classify_task(views=ViewsConfig(crops=2))
    task.eval()
    views = {"label": torch.tensor([0, 0, 2, 2]), "counted": torch.tensor([True] * 4)}
    logits = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.4, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 1.0]])
    task.logits = lambda clips: logits
    scores = task.score(batch() | views)
    # The first view of sample 0 outweighs its second one; of sample 1 the wrong one does.
    assert scores["correct"].tolist() == [1, 0, 0]
    assert scores["correct_views"].tolist() == [0.5, 0, 0.5]
    assert scores["total"].tolist() == [1, 0, 1]


def test_a_probe_trains_nothing_but_its_head():
    task = classify_task("linear_probe")
    task(batch()).loss.backward()
    assert {name for name, p in task.named_parameters() if p.grad is not None} == {
        "model.head.weight",
        "model.head.bias",
    }


@pytest.mark.parametrize("protocol", ["linear_probe", "finetune"])
def test_an_evaluation_starts_from_the_encoder_it_is_given(protocol):
    pretrained = PretrainTask(MICRO, GRID, InputConfig(), TargetConfig())
    task = classify_task(protocol)
    task.take_encoder(pretrained.model.encoder)
    for name, values in task.model.encoder.state_dict().items():
        assert torch.equal(values, pretrained.model.encoder.state_dict()[name])
