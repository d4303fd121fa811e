"""Features that nobody extracted, written as an extraction does."""

from __future__ import annotations

import torch

from mae_dist.evaluate.features import Features

NUM_CLASSES = 5


def kept_features(
    root: str,
    *,
    num_samples: int = 60,
    views: int = 1,
    block: int = 7,
    names: tuple[str, ...] = ("1.mean", "2.mean"),
    shape: tuple[int, ...] = (8,),
    seed: int = 0,
) -> Features:
    """Noise around one centre per class, in float64; sample n has label n mod 5, a block `block` samples."""
    generator = torch.Generator().manual_seed(0)
    centres = {name: torch.randn(NUM_CLASSES, *shape, generator=generator) for name in names}
    generator.manual_seed(seed + 1)
    features = Features.of(root, {"features": list(names), "seed": seed})
    records = []
    for number, start in enumerate(range(0, num_samples, block)):
        samples = torch.arange(start, min(start + block, num_samples)).repeat_interleave(views)
        labels = samples % NUM_CLASSES
        columns = {"sample": samples, "label": labels, "view": torch.arange(len(samples)) % views}
        noise = {name: torch.randn(len(samples), *shape, generator=generator) for name in names}
        columns |= {name: (centres[name][labels] + noise[name]).double() for name in names}
        records.append(features.write_block(number, columns))
    features.note(records, [])
    features.complete(num_blocks=len(records), num_rows=num_samples * views)
    return features
