"""What the loop asks of an optimisation engine, and the plain torch engine that is the reference.

Training state travels as named fragments, independent of world size and of the engine: a fragment is a
one-dimensional slice of a parameter or of its optimiser state, named "kind/start/parameter" with kind
`weight`, `buffer` or the optimiser's own name for the state (`exp_avg`, ...).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

Batch = Mapping[str, Any]
Fragments = dict[str, Tensor]


class StepOutput(NamedTuple):
    """What a task makes of one micro-batch: a scalar loss and scalars to average for the log."""

    loss: Tensor
    metrics: dict[str, Tensor]


class Engine(Protocol):
    """Forward, backward and update, however the state is spread over the ranks."""

    module: nn.Module

    def __call__(self, batch: Batch) -> StepOutput: ...

    def backward(self, loss: Tensor) -> None:
        """Add this micro-batch's gradient, divided by the number of micro-batches per step."""
        ...

    def step(self, lr: float) -> Tensor:
        """Update the parameters at this learning rate; returns the global gradient norm before clipping."""
        ...

    def fragments(self) -> Fragments:
        """The part of the training state that this rank has to save; live tensors, not copies."""
        ...

    def load(self, state: FullState, *, num_updates: int) -> None:
        """Take over a state that was saved after `num_updates` updates, at any world size."""
        ...


class FullState:
    """Whole tensors put together from the fragments that all ranks saved."""

    def __init__(self, fragments: Mapping[str, Tensor]) -> None:
        self._pieces: dict[tuple[str, str], list[tuple[int, Tensor]]] = {}
        for key, values in fragments.items():
            kind, start, name = key.split("/", 2)
            self._pieces.setdefault((kind, name), []).append((int(start), values))

    @property
    def state_kinds(self) -> set[str]:
        """Kinds of optimiser state present."""
        return {kind for kind, _ in self._pieces} - {"weight", "buffer"}

    def flat(self, kind: str, name: str, numel: int) -> Tensor:
        """The one-dimensional tensor; raises ValueError if pieces are missing, doubled or of another size."""
        pieces = sorted(self._pieces.get((kind, name), []), key=lambda piece: piece[0])
        end = 0
        for start, values in pieces:
            if start != end:
                break
            end += values.numel()
        if end != numel or not pieces:
            raise ValueError(f"saved state of {name} ({kind}) covers {end} of {numel} values")
        return torch.cat([values for _, values in pieces]) if len(pieces) > 1 else pieces[0][1]


def load_module(module: nn.Module, state: FullState) -> None:
    """Copy weights and buffers into the module."""
    with torch.no_grad():
        for kind, named in [("weight", module.named_parameters()), ("buffer", persistent_buffers(module))]:
            for name, tensor in named:
                if kind == "weight" and not tensor.requires_grad:
                    continue
                tensor.copy_(state.flat(kind, name, tensor.numel()).view_as(tensor))


def module_fragments(module: nn.Module, *, weights: bool) -> Fragments:
    """Buffers of the module, and its trained weights if asked for, whole."""
    found = {f"buffer/0/{name}": buffer.detach().flatten() for name, buffer in persistent_buffers(module)}
    if weights:
        trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        found |= {f"weight/0/{name}": parameter.detach().flatten() for name, parameter in trained}
    return found


def persistent_buffers(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Named buffers that belong to the state dict."""
    kept = module.state_dict().keys()
    return [(name, buffer) for name, buffer in module.named_buffers() if name in kept]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group lr times its own `lr_scale` (layer decay)."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


class TorchEngine:
    """Plain data parallelism: full state on every rank, gradients averaged before the update."""

    def __init__(
        self,
        module: nn.Module,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        *,
        accumulation: int,
        clip_grad_norm: float | None,
        autocast_dtype: torch.dtype | None,
    ) -> None:
        self.module = module
        self._optimizer = make_optimizer(module)
        self._accumulation = accumulation
        self._clip = clip_grad_norm
        self._autocast = autocast_dtype

    def __call__(self, batch: Batch) -> StepOutput:
        with autocast(self._autocast, batch):
            return self.module(batch)

    def backward(self, loss: Tensor) -> None:
        (loss / self._accumulation).backward()

    def step(self, lr: float) -> Tensor:
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        _average(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._clip is not None:
            trained = [p for p in self.module.parameters() if p.grad is not None]
            torch.nn.utils.clip_grads_with_norm_(trained, self._clip, norm)
        set_lr(self._optimizer, lr)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def fragments(self) -> Fragments:
        if _rank() != 0:
            return {}
        found = module_fragments(self.module, weights=True)
        for name, parameter in self.module.named_parameters():
            for kind, values in self._optimizer.state.get(parameter, {}).items():
                if torch.is_tensor(values) and values.shape == parameter.shape:
                    found[f"{kind}/0/{name}"] = values.flatten()
        return found

    def load(self, state: FullState, *, num_updates: int) -> None:
        load_module(self.module, state)
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                self._optimizer.state[parameter] = {
                    kind: state.flat(kind, name, parameter.numel()).view_as(parameter).clone().to(parameter)
                    for kind in state.state_kinds
                } | {"step": torch.tensor(float(num_updates), device=parameter.device)}


def autocast(dtype: torch.dtype | None, batch: Batch) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision as the papers use it: fp32 weights, matrix products in `dtype`; None means fp32."""
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(batch["clips"].device.type, dtype=dtype)


def _average(gradients: list[Tensor]) -> None:
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0
