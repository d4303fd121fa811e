"""The DeepSpeed ZeRO engine; the one file that knows DeepSpeed."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

if not torch.cuda.is_available():
    # Without it DeepSpeed guesses the accelerator and warns on every rank.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.runtime import compiler
from deepspeed.runtime.utils import combine_grad_norm_groups

from mae_dist.train.engine import (
    Batch,
    Fragments,
    FullState,
    MakeOptimizer,
    StepOutput,
    autocast,
    check_fits,
    follow,
    load_buffers,
    load_weights,
    set_lr,
    shared_fragments,
    trained_parameters,
)
from mae_dist.train.scaling import LossScale

# The shared-memory all-reduce compiles C++ at start (36 s) and takes all ranks to be on one host.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _import_muon() -> None:
    """DeepSpeed asks of each optimiser whether it is its Muon, whose module compiles functions when imported.

    That loads all of torch's compiler, a second of CPU whenever a worker starts; nothing here calls them.
    """
    compile_, compiler.compile = compiler.compile, lambda: compiler.dummy_decorator
    try:
        importlib.import_module("deepspeed.runtime.zero.muon.muon_optimizer")
    finally:
        compiler.compile = compile_


_import_muon()

WHOLE_NUMEL = 10_000
"""Stage 3 leaves parameters up to this size (biases and norms) whole on every rank: gathering them would cost
more time than they cost memory."""

Offload = Literal["none", "optimizer", "parameters"]


class Piece(NamedTuple):
    """A slice of a parameter that lies in one of this rank's flat partitions."""

    name: str
    start: int
    """Where the slice begins in the parameter."""
    partition: int
    offset: int
    """Where it begins in the partition."""
    numel: int


class ZeroEngine:
    """ZeRO stages 1 to 3: every rank updates its own share of the weights.

    Stage 1 spreads the optimiser's state, 2 the gradients too, 3 the weights too. DeepSpeed lays the
    parameters of a group end to end and gives every rank flat partitions of them, in fp32; its optimiser
    works on those. `Piece` says what lies where, and all that is saved, loaded and averaged goes through
    pieces, so that any other stage and world size can put them together again.
    """

    def __init__(
        self,
        module: nn.Module,
        make_optimizer: MakeOptimizer,
        *,
        stage: int,
        micro_batch: int,
        accumulation: int,
        clip_grad_norm: float | None,
        autocast_dtype: torch.dtype | None,
        ema: float | None = None,
        offload: Offload = "none",
    ) -> None:
        deepspeed.init_distributed(dist_init_required=not torch.distributed.is_initialized())
        self.module = module
        self.trained = {name: parameter.numel() for name, parameter in trained_parameters(module)}
        self.scale = LossScale(dynamic=autocast_dtype == torch.float16)
        self._stage = stage
        self._autocast = autocast_dtype
        self._optimizer: Any  # DeepSpeed's ZeRO wrapper; its stubs promise less than it has.
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=module,
            optimizer=make_optimizer(module),
            config={
                "train_micro_batch_size_per_gpu": micro_batch,
                "gradient_accumulation_steps": accumulation,
                # DeepSpeed reads 0 as "do not clip".
                "gradient_clipping": clip_grad_norm or 0.0,
                "zero_optimization": _zero_section(stage, offload),
                # A torch optimiser is "untested" to DeepSpeed; its own would compile C++ for minutes, and
                # torch's fused AdamW is vectorised on CPUs as well.
                "zero_allow_untested_optimizer": True,
                "zero_force_ds_cpu_optimizer": False,
                "steps_per_print": 10**9,
                "wall_clock_breakdown": False,
            },
        )
        self._skip_above, self._norm = math.inf, torch.tensor(math.inf)
        self._skip_what_is_too_large()
        self._pieces = list(self._partitioned_pieces() if stage == 3 else self._mapped_pieces())
        self._ema_decay = ema
        self._ema = [] if ema is None else [partition.detach().clone() for partition in self._partitions]

    def __call__(self, batch: Batch) -> StepOutput:
        with autocast(self._autocast, batch):
            return self._engine(batch)

    def backward(self, loss: Tensor) -> None:
        if self._optimizer.loss_scale != self.scale.value:
            self._optimizer.override_loss_scale(self.scale.value)
        self._engine.backward(loss)
        if not self._engine.is_gradient_accumulation_boundary():
            # Only counts the micro-batch; parameters change at the boundary, in `step`.
            self._engine.step()

    def step(self, lr: float, *, skip_above: float = math.inf) -> Tensor:
        set_lr(self._optimizer, lr)
        self._skip_above = skip_above
        self._engine.step()
        # DeepSpeed's word for a step that it passed over; the reason is looked for only then.
        is_skipped = self._optimizer.overflow
        is_finite = not is_skipped or math.isfinite(self._norm)
        if not is_skipped and self._ema_decay is not None:
            follow(self._ema, self._partitions, self._ema_decay)
        self.scale.count(is_finite=is_finite, is_too_large=is_skipped and is_finite)
        return self._norm

    def fragments(self) -> Fragments:
        found = shared_fragments(self.module, self.scale)
        for kind, partitions in self._partitions_by_kind().items():
            for piece in self._pieces:
                found[f"{kind}/{piece.start}/{piece.name}"] = _slice(partitions, piece)
        return found

    @torch.no_grad()
    def load(self, state: FullState, *, num_updates: int) -> None:
        check_fits(state, self._optimizer.optimizer, averages=self._ema_decay is not None)
        self.scale.load(state.scalars)
        load_buffers(self.module, state)
        updates = float(num_updates - self.scale.skipped_updates)
        for partition in self._partitions:
            kept = {kind: torch.zeros_like(partition) for kind in state.state_kinds}
            # An optimiser begins with its state where it finds none at all.
            step = {"step": torch.tensor(updates, device=partition.device)} if kept else {}
            self._optimizer.optimizer.state[partition] = kept | step
        for kind, partitions in self._partitions_by_kind().items():
            for piece in self._pieces:
                whole = state.flat(kind, piece.name, self.trained[piece.name])
                _slice(partitions, piece).copy_(whole.narrow(0, piece.start, piece.numel))
        if self._stage < 3:
            load_weights(self.module, state)
        else:
            self._refresh_partitioned_weights()

    @property
    def _partitions(self) -> list[Tensor]:
        """The fp32 weights of this rank, which the optimiser updates."""
        if self._stage == 3:
            return self._optimizer.fp32_partitioned_groups_flat
        return self._optimizer.single_partition_of_fp32_groups

    def _partitions_by_kind(self) -> dict[str, list[Tensor]]:
        """Weights, their averages and the optimiser's states, each laid out like the weights."""
        found = {"weight": self._partitions} | ({"ema": self._ema} if self._ema else {})
        # Taken from the optimiser itself: DeepSpeed 0.19 links its own `optim_fragment`s before the later
        # parameter groups have any state.
        states = [self._optimizer.optimizer.state.get(partition, {}) for partition in self._partitions]
        for kind, values in states[0].items():
            if torch.is_tensor(values) and values.shape == self._partitions[0].shape:
                found[kind] = [state[kind] for state in states]
        return found

    def _skip_what_is_too_large(self) -> None:
        """Let DeepSpeed leave out an update above the limit as it leaves out one that is not finite.

        It learns the norm in the middle of its `step` and goes no further, with weights and moments as they
        were, where that is infinite. So a norm above the limit is shown to it as infinite: on the device, so
        that the host waits for it no more often than before.
        """
        function = "_get_norm_groups" if self._stage == 3 else "scaled_global_norm"
        measure = getattr(self._optimizer, function)

        def measure_and_judge() -> Any:
            measured = measure()
            norm = combine_grad_norm_groups(measured) if self._stage == 3 else measured
            self._norm = norm / self.scale.value
            # The limit has more digits than float32, and the guard compares all of them.
            is_too_large = self._norm.double() > self._skip_above
            shown = [
                torch.where(is_too_large, torch.full_like(part, math.inf), part)
                for part in (measured if self._stage == 3 else [measured])
            ]
            return shown if self._stage == 3 else shown[0]

        setattr(self._optimizer, function, measure_and_judge)

    def _mapped_pieces(self) -> Iterator[Piece]:
        """Stages 1 and 2: a partition is a stretch of all parameters of a group."""
        for name, parameter in self.module.named_parameters():
            held = getattr(parameter, "_hp_mapping", None)
            if held is not None:
                inside, partition = held.lp_fragment_address, held.hp_fragment_address
                yield Piece(name, inside.start, held.param_group_index, partition.start, inside.numel)

    def _partitioned_pieces(self) -> Iterator[Piece]:
        """Stage 3: every parameter is cut into one stretch for each rank, the last ones padded."""
        rank = torch.distributed.get_rank()
        for name, parameter in trained_parameters(self.module):
            parameter_id = self._optimizer.get_param_id(parameter)
            partition, offset, padded = self._optimizer.grad_position[parameter_id]
            numel = min(padded, self.trained[name] - rank * padded)
            if numel > 0:
                yield Piece(name, rank * padded, partition, offset, numel)

    def _refresh_partitioned_weights(self) -> None:
        """Stage 3: let the module see the fp32 partitions, as DeepSpeed does after every update."""
        self._optimizer._partition_all_parameters()
        for partition in range(len(self._partitions)):
            self._optimizer._reassign_or_swap_out_partitioned_parameters(partition)
        whole = self._optimizer.persistent_parameters
        if whole:
            whole[0].all_gather(whole)


def _zero_section(stage: int, offload: Offload) -> dict[str, Any]:
    section: dict[str, Any] = {"stage": stage}
    if stage == 1 and not torch.cuda.is_available():
        # Its buffer for gradients, 2 GB that are asked for anew in every step, keeps a device's memory in one
        # piece; a host only pays for the pages and the copy: a tenth of a step of 4 images of a small model.
        section["contiguous_gradients"] = False
    if stage == 3:
        section["stage3_param_persistence_threshold"] = WHOLE_NUMEL
    on_host = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if offload != "none":
        section["offload_optimizer"] = on_host
    if offload == "parameters":
        section["offload_param"] = on_host
    return section


def _slice(partitions: list[Tensor], piece: Piece) -> Tensor:
    return partitions[piece.partition].detach().narrow(0, piece.offset, piece.numel)
