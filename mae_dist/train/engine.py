"""What the loop asks of an optimisation engine, and the plain torch engine that is the reference.

Training state travels as named fragments, independent of world size and of the engine: a fragment is a
one-dimensional slice of a parameter or of its optimiser state, named "kind/start/parameter" with kind

    weight, ema     a trained parameter, and its moving average
    buffer          a buffer of the module, whole
    scalar          a number of the engine, one float64
    exp_avg, ...    the optimiser's own name for its state
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mae_dist.train.scaling import LossScale

Batch = Mapping[str, Any]
Fragments = dict[str, Tensor]
MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


class StepOutput(NamedTuple):
    """What a task makes of one micro-batch: a scalar loss and scalars to average for the log."""

    loss: Tensor
    metrics: dict[str, Tensor]


class Engine(Protocol):
    """Forward, backward and update, however the state is spread over the ranks."""

    module: nn.Module
    trained: dict[str, int]
    """Number of values of every trained parameter, by name; a rank may hold fewer or none of them."""
    scale: LossScale

    def __call__(self, batch: Batch) -> StepOutput: ...

    def backward(self, loss: Tensor) -> None:
        """Add this micro-batch's gradient, divided by the number of micro-batches per step."""
        ...

    def step(self, lr: float, *, skip_above: float = math.inf) -> Tensor:
        """Update the parameters at this learning rate; returns the global gradient norm before clipping.

        A gradient that is not finite (the norm returned is then infinite), or of a norm above `skip_above`,
        changes nothing on any rank: the update is skipped and counted in `scale`.
        """
        ...

    def fragments(self) -> Fragments:
        """The part of the training state that this rank has to save; live tensors, not copies."""
        ...

    def load(self, state: FullState, *, num_updates: int) -> None:
        """Take over a state that was saved after `num_updates` updates, skipped ones included.

        It may come from any engine and any world size. Raises ValueError, before anything is changed, if it
        lacks the average that this engine keeps or is that of another optimiser.
        """
        ...


class FullState:
    """Whole tensors put together from the fragments that all ranks saved."""

    def __init__(self, fragments: Mapping[str, Tensor]) -> None:
        self._pieces: dict[tuple[str, str], list[tuple[int, Tensor]]] = {}
        for key, values in fragments.items():
            kind, start, name = key.split("/", 2)
            self._pieces.setdefault((kind, name), []).append((int(start), values))

    @property
    def kinds(self) -> set[str]:
        """Kinds of fragments present."""
        return {kind for kind, _ in self._pieces}

    @property
    def state_kinds(self) -> set[str]:
        """Kinds of optimiser state present."""
        return self.kinds - {"weight", "ema", "buffer", "scalar"}

    @property
    def scalars(self) -> dict[str, float]:
        """The engine's numbers by name."""
        return {name: self.flat(kind, name, 1).item() for kind, name in self._pieces if kind == "scalar"}

    def pieces(self, kind: str, name: str) -> list[tuple[int, Tensor]]:
        """Fragments in order, each with the place of its first value."""
        return sorted(self._pieces.get((kind, name), []), key=lambda piece: piece[0])

    def flat(self, kind: str, name: str, numel: int) -> Tensor:
        """The one-dimensional tensor; raises ValueError if pieces are missing, doubled or of another size."""
        pieces = self.pieces(kind, name)
        end = 0
        for start, values in pieces:
            if start != end:
                break
            end += values.numel()
        if end != numel or not pieces:
            raise ValueError(f"saved state of {name} ({kind}) covers {end} of {numel} values")
        return torch.cat([values for _, values in pieces]) if len(pieces) > 1 else pieces[0][1]


def trained_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters that are optimised."""
    return ((name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad)


def persistent_buffers(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Named buffers that belong to the state dict."""
    kept = module.state_dict().keys()
    return [(name, buffer) for name, buffer in module.named_buffers() if name in kept]


@torch.no_grad()
def load_weights(module: nn.Module, state: FullState, *, kind: str = "weight") -> None:
    """Copy the trained parameters into the module; with kind "ema", their averages."""
    for name, parameter in trained_parameters(module):
        parameter.copy_(state.flat(kind, name, parameter.numel()).view_as(parameter))


@torch.no_grad()
def load_buffers(module: nn.Module, state: FullState) -> None:
    """Copy the buffers into the module."""
    for name, buffer in persistent_buffers(module):
        buffer.copy_(state.flat("buffer", name, buffer.numel()).view_as(buffer))


def shared_fragments(module: nn.Module, scale: LossScale) -> Fragments:
    """What every rank holds whole and rank 0 saves: buffers and the engine's numbers. {} elsewhere."""
    if _rank() != 0:
        return {}
    found = {f"buffer/0/{name}": buffer.detach().flatten() for name, buffer in persistent_buffers(module)}
    for name, value in scale.scalars().items():
        found[f"scalar/0/{name}"] = torch.tensor([value], dtype=torch.float64)
    return found


def whole_weights(engine: Engine, *, kind: str, device: torch.device) -> FullState:
    """Trained parameters (or, kind "ema", their averages) and rank 0's buffers, whole on every rank.

    A collective: all ranks have to call it. `device` is where the group communicates.
    """
    held = FullState(engine.fragments())
    wanted = [(kind, name, numel, torch.float32) for name, numel in engine.trained.items()]
    for name, buffer in persistent_buffers(engine.module):
        wanted.append(("buffer", name, buffer.numel(), buffer.dtype))
    found = {}
    for wanted_kind, name, numel, dtype in wanted:
        whole = torch.zeros(numel, dtype=dtype, device=device)
        for start, values in held.pieces(wanted_kind, name):
            whole[start : start + values.numel()] = values
        if dist.is_initialized():
            # Each value lies on one rank and is zero on the others; summed as bytes, it arrives bit by bit.
            dist.all_reduce(whole.view(torch.uint8))
        found[f"{wanted_kind}/0/{name}"] = whole
    return FullState(found)


STATE_KINDS = {"AdamW": {"exp_avg", "exp_avg_sq"}, "Lars": {"momentum_buffer"}, "SGD": {"momentum_buffer"}}
"""What the optimisers of recipes keep for each value."""


def check_fits(state: FullState, optimizer: torch.optim.Optimizer, *, averages: bool) -> None:
    """Raise ValueError if `state` lacks wanted `averages` or comes from another kind of optimiser."""
    if averages and "ema" not in state.kinds:
        raise ValueError(
            "the saved state has no moving average of the weights: it was trained with train.ema=null. Set "
            "that again, or begin a run of its own with --set name=..."
        )
    name = type(optimizer).__name__
    wanted = STATE_KINDS.get(name, state.state_kinds)
    # Before the first update there is none.
    if state.state_kinds not in (set(), wanted):
        raise ValueError(
            f"the saved state is that of another optimiser: it has {', '.join(sorted(state.state_kinds))}, "
            f"and {name} needs {', '.join(sorted(wanted))}. Set optim.kind to what it was, or begin a run of "
            "its own with --set name=..."
        )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group lr times its own `lr_scale` (layer decay)."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


class TorchEngine:
    """Plain data parallelism: full state on every rank, gradients averaged before the update.

    The reference for the others, so plain before fast: gradients are averaged after the backward pass and
    not beside it, and each step waits for the device once, to read the gradient's norm: whether there is an
    update depends on it, and with that the loss scale and what the guard does next. DeepSpeed reads it too.
    `ema` is the share of itself that the moving average of the weights keeps in every update; None: no
    average.
    """

    def __init__(
        self,
        module: nn.Module,
        make_optimizer: MakeOptimizer,
        *,
        accumulation: int,
        clip_grad_norm: float | None,
        autocast_dtype: torch.dtype | None,
        ema: float | None = None,
    ) -> None:
        self.module = module
        self.trained = {name: parameter.numel() for name, parameter in trained_parameters(module)}
        self.scale = LossScale(dynamic=autocast_dtype == torch.float16)
        self._optimizer = make_optimizer(module)
        self._accumulation = accumulation
        self._clip = clip_grad_norm
        self._autocast = autocast_dtype
        self._ema_decay = ema
        copied = [] if ema is None else trained_parameters(module)
        self._ema = {name: parameter.detach().clone() for name, parameter in copied}

    def __call__(self, batch: Batch) -> StepOutput:
        with autocast(self._autocast, batch):
            return self.module(batch)

    def backward(self, loss: Tensor) -> None:
        (loss * (self.scale.value / self._accumulation)).backward()

    def step(self, lr: float, *, skip_above: float = math.inf) -> Tensor:
        updated = [p for p in self.module.parameters() if p.grad is not None]
        gradients = [p.grad for p in updated if p.grad is not None]
        _average(gradients)
        if self.scale.value != 1:
            for gradient in gradients:
                gradient.mul_(1 / self.scale.value)
        norm = torch.nn.utils.get_total_norm(gradients)
        size = float(norm)
        is_finite, is_too_large = math.isfinite(size), size > skip_above
        if is_finite and not is_too_large:
            if self._clip is not None:
                torch.nn.utils.clip_grads_with_norm_(updated, self._clip, norm)
            set_lr(self._optimizer, lr)
            self._optimizer.step()
            if self._ema_decay is not None:
                weights = [parameter.data for _, parameter in trained_parameters(self.module)]
                follow(list(self._ema.values()), weights, self._ema_decay)
        self._optimizer.zero_grad(set_to_none=True)
        self.scale.count(is_finite=is_finite, is_too_large=is_too_large)
        return norm if is_finite else torch.full_like(norm, math.inf)

    def fragments(self) -> Fragments:
        if _rank() != 0:
            return {}
        found = shared_fragments(self.module, self.scale)
        for name, parameter in trained_parameters(self.module):
            found[f"weight/0/{name}"] = parameter.detach().flatten()
            for kind, values in self._optimizer.state.get(parameter, {}).items():
                if torch.is_tensor(values) and values.shape == parameter.shape:
                    found[f"{kind}/0/{name}"] = values.flatten()
        return found | {f"ema/0/{name}": values.flatten() for name, values in self._ema.items()}

    def load(self, state: FullState, *, num_updates: int) -> None:
        check_fits(state, self._optimizer, averages=self._ema_decay is not None)
        self.scale.load(state.scalars)
        load_weights(self.module, state)
        load_buffers(self.module, state)
        updates = float(num_updates - self.scale.skipped_updates)
        for name, parameter in trained_parameters(self.module):
            kept = {
                kind: state.flat(kind, name, parameter.numel()).view_as(parameter).clone().to(parameter)
                for kind in state.state_kinds
            }
            # An optimiser begins with its state where it finds none at all.
            step = {"step": torch.tensor(updates, device=parameter.device)} if kept else {}
            self._optimizer.state[parameter] = kept | step
        for name, values in self._ema.items():
            values.copy_(state.flat("ema", name, values.numel()).view_as(values))


def follow(averages: list[Tensor], weights: list[Tensor], decay: float) -> None:
    """One step of the moving average: average = decay * average + (1 - decay) * weight, in place."""
    get_ema_multi_avg_fn(decay)(averages, weights, None)


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
