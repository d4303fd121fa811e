"""The peak of a step is at the moment, and of the parts, that the engines make it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mae_dist.config.geometry import ARCHITECTURES
from mae_dist.config.optimisation import OptimConfig
from mae_dist.config.schema import InputConfig, TargetConfig
from mae_dist.model import transformer
from mae_dist.model.sizes import INPUTS
from mae_dist.model.transformer import recompute_activations
from mae_dist.orchestrate.sizing import states
from mae_dist.orchestrate.sizing.activations import Activations, pretraining_activations
from mae_dist.orchestrate.sizing.memory import Memory, peak_memory
from mae_dist.orchestrate.sizing.states import BUCKET, Spread, Trained
from mae_dist.train.engine import TorchEngine
from mae_dist.train.param_groups import make_optimizer
from mae_dist.train.tasks import PretrainTask
from tests.model.small import clips, keep

MILLION = 1_000_000
MODEL = Trained(encoder=80 * MILLION, decoder=20 * MILLION)
NOTHING = Activations(encoder=0, decoder=0, loss=0, until_loss=0, in_encoder=0, in_decoder=0)


def peak(
    stage: int, world: int, *, activations: Activations = NOTHING, accumulation: int = 1, **kept
) -> Memory:
    spread = Spread(stage=stage, world=world, **kept)
    return peak_memory(
        MODEL, activations, spread, micro_batch=1, accumulation=accumulation, sample_pixel_bytes=0
    )


def megabytes(*sizes: int) -> tuple[int, ...]:
    return tuple(size // MILLION for size in sizes)


@pytest.mark.parametrize(
    ("stage", "world", "weights", "optimizer", "gradients"),
    [
        (0, 1, 400, 800, 400),
        (0, 8, 400, 800, 400),
        (1, 1, 800, 800, 400),
        (1, 8, 450, 100, 400),
        (2, 8, 450, 100, 50),
        (3, 8, 50, 100, 50),
    ],
)
def test_a_stage_spreads_what_its_engine_spreads(stage, world, weights, optimizer, gradients):
    spread = Spread(stage=stage, world=world)
    found = (
        states.weights(MODEL, spread),
        states.optimizer_states(MODEL, spread),
        states.gradients(MODEL, spread, computed=MODEL.total, is_accumulating=False),
    )
    assert megabytes(*found) == (weights, optimizer, gradients)


def test_averages_are_another_copy_of_what_a_rank_updates():
    for stage, more in ((0, 400), (1, 50), (3, 50)):
        with_averages, without = peak(stage, 8, averages=True), peak(stage, 8)
        assert with_averages.weights - without.weights == more * MILLION


def test_lars_keeps_half_of_what_adamw_keeps():
    assert peak(0, 1, optimizer="lars").optimizer * 2 == peak(0, 1).optimizer


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_has_a_buffer_of_its_default_size(stage):
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    defaults = DeepSpeedZeroConfig(stage=stage)
    assert defaults.reduce_bucket_size == BUCKET
    assert defaults.max_reuse_distance == 2 * BUCKET
    assert peak(stage, 8).buffers >= 4 * BUCKET


def test_the_peak_is_in_the_forward_pass_where_activations_are_large_and_at_the_end_where_they_are_small():
    large = replace(NOTHING, encoder=10**9, decoder=10**9)
    assert peak(0, 1, activations=large).moment == "forward"
    assert peak(0, 1).moment == "backward"
    assert peak(0, 2).moment == "update"


def test_accumulated_gradients_are_there_during_the_next_forward_pass():
    large = replace(NOTHING, encoder=10**9, decoder=10**9)
    once, twice = (peak(0, 1, activations=large, accumulation=passes) for passes in (1, 2))
    assert twice.total - once.total == 4 * MODEL.total


def test_an_encoder_full_of_activations_peaks_when_the_decoder_has_left_its_gradients():
    encoder_first = replace(NOTHING, encoder=10**9)
    memory = peak(0, 1, activations=encoder_first, is_half=False)
    assert memory.moment == "encoder"
    assert memory.gradients == 4 * MODEL.decoder


def allocated(work) -> int:
    """Most bytes that torch's allocator gives out at a time during `work`."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        work()
    results = profiler.profiler.kineto_results
    changes = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("is_half", [False, True])
@pytest.mark.parametrize(("size", "micro_batch"), [("mae_micro", 64), ("videomae_micro", 16)])
def test_the_peak_of_two_real_steps_is_the_modelled_one(size, micro_batch, is_half, recompute, monkeypatch):
    # A CPU's own way for few tokens keeps scores, which no GPU does.
    monkeypatch.setattr(transformer, "PLAIN_TOKENS", 0)
    architecture, (frames, side, _) = ARCHITECTURES[size], INPUTS[size]
    grid = architecture.grid(frames=frames, height=side, width=side)
    num_kept = grid.num_tokens // 4
    kept: list[Trained] = []

    def train() -> None:
        task = PretrainTask(architecture, grid, InputConfig(), TargetConfig())
        of_encoder = sum(parameter.numel() for parameter in task.model.encoder.parameters())
        of_all = sum(parameter.numel() for parameter in task.parameters())
        kept.append(Trained(encoder=of_encoder, decoder=of_all - of_encoder))
        if recompute:
            recompute_activations(task)
        engine = TorchEngine(
            task,
            lambda module: make_optimizer(
                module, OptimConfig(base_lr=1e-3), depth=architecture.encoder.depth
            ),
            accumulation=1,
            clip_grad_norm=None,
            autocast_dtype=torch.bfloat16 if is_half else None,
        )
        batch = {"clips": clips(architecture, grid, num_samples=micro_batch)}
        batch |= {"keep": keep(grid, num_kept, num_samples=micro_batch)}
        for _ in range(2):
            engine.backward(engine(batch).loss)
            engine.step(1e-4)

    found = allocated(train)
    model = peak_memory(
        kept[0],
        pretraining_activations(
            architecture, grid, num_kept=num_kept, value_bytes=2 if is_half else 4, recompute=recompute
        ),
        Spread(stage=0, world=1, is_half=is_half),
        micro_batch=micro_batch,
        accumulation=1,
        sample_pixel_bytes=frames * side**2 * 3,
        recompute=recompute,
        batches=1,
    )
    assert model.total == pytest.approx(found, rel=0.1)
