"""The DeepSpeed ZeRO engine; the one file that knows DeepSpeed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

if not torch.cuda.is_available():
    # Without it DeepSpeed guesses the accelerator and warns on every rank.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed

from mae_dist.train.engine import (
    Batch,
    Fragments,
    FullState,
    StepOutput,
    autocast,
    load_module,
    module_fragments,
    set_lr,
)

# The shared-memory all-reduce compiles C++ at start (36 s) and takes all ranks to be on one host.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


class ZeroEngine:
    """ZeRO stage 1: every rank holds all weights and the optimiser state of its own share of them.

    DeepSpeed flattens the parameters of a group into one vector and cuts it into equal partitions; its
    `_hp_mapping` says which slice of which parameter lies in this rank's partition. Those slices are the
    fragments that are saved, so that any other world size can put them together again.
    """

    def __init__(
        self,
        module: nn.Module,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        *,
        stage: int,
        micro_batch: int,
        accumulation: int,
        clip_grad_norm: float | None,
        autocast_dtype: torch.dtype | None,
    ) -> None:
        deepspeed.init_distributed(dist_init_required=not torch.distributed.is_initialized())
        self.module = module
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
                "zero_optimization": {"stage": stage},
                # A torch optimiser is "untested" to DeepSpeed; its own would compile C++ for minutes.
                "zero_allow_untested_optimizer": True,
                "steps_per_print": 10**9,
                "wall_clock_breakdown": False,
            },
        )

    def __call__(self, batch: Batch) -> StepOutput:
        with autocast(self._autocast, batch):
            return self._engine(batch)

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss)
        if not self._engine.is_gradient_accumulation_boundary():
            # Only counts the micro-batch; parameters change at the boundary, in `step`.
            self._engine.step()

    def step(self, lr: float) -> Tensor:
        set_lr(self._optimizer, lr)
        self._engine.step()
        return torch.as_tensor(self._engine.get_global_grad_norm() or 0.0)

    def fragments(self) -> Fragments:
        found = module_fragments(self.module, weights=False) if torch.distributed.get_rank() == 0 else {}
        for name, held in self._held():
            start = held.lp_fragment_address.start
            found[f"weight/{start}/{name}"] = held.hp_fragment
            for kind, values in self._state_of(held).items():
                found[f"{kind}/{start}/{name}"] = values
        return found

    @torch.no_grad()
    def load(self, state: FullState, *, num_updates: int) -> None:
        load_module(self.module, state)
        for partition in self._optimizer.single_partition_of_fp32_groups:
            self._optimizer.optimizer.state[partition] = {
                kind: torch.zeros_like(partition) for kind in state.state_kinds
            } | {"step": torch.tensor(float(num_updates), device=partition.device)}
        sizes = {name: parameter.numel() for name, parameter in self.module.named_parameters()}
        for name, held in self._held():
            address = held.lp_fragment_address
            for kind, target in ({"weight": held.hp_fragment} | self._state_of(held)).items():
                target.copy_(state.flat(kind, name, sizes[name]).narrow(0, address.start, address.numel))

    def _held(self) -> Iterator[tuple[str, Any]]:
        """Name and `_hp_mapping` of every parameter that reaches into this rank's partitions."""
        for name, parameter in self.module.named_parameters():
            held = getattr(parameter, "_hp_mapping", None)
            if held is not None:
                yield name, held

    def _state_of(self, held: Any) -> Fragments:
        """Slices of the optimiser's state. Taken from the flat state itself: DeepSpeed 0.19 links its own
        `optim_fragment`s before the later parameter groups have any state."""
        partition = self._optimizer.single_partition_of_fp32_groups[held.param_group_index]
        address = held.hp_fragment_address
        return {
            kind: values.narrow(0, address.start, address.numel)
            for kind, values in self._optimizer.optimizer.state[partition].items()
            if torch.is_tensor(values) and values.shape == partition.shape
        }
