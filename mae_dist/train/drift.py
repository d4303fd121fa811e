"""What a training was beyond its run directory's name, compared when it is taken up again.

The directory's name holds what decides the weights: samples, model, masks, optimiser, seed. What is left may

    change freely       workers, micro_batch, engine, ZeRO stage, devices of one kind, where data are decoded:
                        the global batches stay, and the losses up to rounding
    change by name      what `facts` lists: it changes pixels, roundings or verdicts. Refused, with the
                        difference, unless checkpoint.allow_drift names it
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import torch

from mae_dist.config.schema import RunConfig

LIBRARIES = ("torch", "numpy", "timm", "pillow", "av", "deepspeed")
"""Those whose next release may make other pixels or other sums."""


class DriftError(RuntimeError):
    """A checkpoint belongs to a run with other settings or versions than this one."""


def facts(config: RunConfig, *, autocast_dtype: torch.dtype | None) -> dict[str, str]:
    """What has to be the same for a resumed training to go on as it was, by name."""
    return {
        "precision": str(autocast_dtype or torch.float32).removeprefix("torch."),
        "decoder": config.data.decoder,
        "guard": ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(config.guard).items()),
    } | {library: version(library) for library in LIBRARIES}


def check_drift(
    place: str, *, then: Mapping[str, str], now: Mapping[str, str], allowed: Sequence[str]
) -> None:
    """Raise DriftError if a fact is another than it was and its change is not allowed.

    A fact that was not yet recorded then cannot have changed.
    """
    changed = [name for name in sorted(now) if then.get(name, now[name]) != now[name] and name not in allowed]
    if changed:
        lines = [f"  {name}: {then[name]} then, {now[name]} now" for name in changed]
        raise DriftError(
            "\n".join([f"{place}: the run is not what it was when this was saved", *lines])
            + "\nRestore what it was, or accept the change by name: "
            f"--set checkpoint.allow_drift=[{','.join([*allowed, *changed])}]"
        )
