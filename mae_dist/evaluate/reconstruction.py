"""How well hidden patches are predicted on held-out samples, and pictures of it.

The error is the mean squared difference of pixels in [0, 1] over hidden tokens. Two predictors that learn
nothing stand beside the model: the mean colour of the sample's visible pixels, and the nearest visible patch.
A model with normalised targets does not know a patch's own mean and spread; they are put back from the truth
before comparing, which the result says under `own_statistics`.
Suffixes: B samples, N tokens, K kept, H hidden, P values of a patch.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mae_dist import storage
from mae_dist.config.geometry import Grid
from mae_dist.config.schema import RunConfig
from mae_dist.data.batch import StreamSpec, build_block, num_blocks
from mae_dist.data.catalog import Catalog
from mae_dist.data.faults import Fault
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.patches import gather_tokens, hidden_ids, patchify, unpatchify
from mae_dist.model.targets import normalise, to_pixels
from mae_dist.model.weights import native

MAX_SAMPLES = 512
BATCH = 32
HIDDEN_GREY = 0.5


def evaluate_reconstruction(config: RunConfig, *, weights: str, catalog: str, output: str) -> dict[str, Any]:
    """Compare the model with the trivial predictors on up to 512 samples.

    Samples that cannot be read are left out and listed in faults.jsonl. Writes that, result.json and
    gallery.npz into `output`; returns the result. Raises ValueError if no sample can be read.
    """
    model, _ = native.load_masked_autoencoder(storage.read_bytes(weights))
    model.eval()
    samples = Catalog.load(catalog)
    spec = StreamSpec(
        seed=config.seed,
        micro_batch=min(BATCH, samples.num_samples),
        input=config.input,
        augment=config.augment,
        mask=config.mask,
        grid=config.grid,
        train=False,
        decoder=config.data.decoder,
        limits=config.data.limits,
    )
    sums = dict.fromkeys(("model", "mean_visible", "nearest_visible"), 0.0)
    num_samples = num_tokens = 0
    pictures: list[dict[str, np.ndarray]] = []
    faults: list[Fault] = []
    for number in range(min(MAX_SAMPLES // spec.micro_batch, num_blocks(samples, spec))):
        block = build_block(number, samples, spec)
        faults += block["faults"]
        counted = torch.from_numpy(block["counted"])
        if not counted.any():
            continue
        clips = torch.from_numpy(block["clips"])[counted]
        keep = torch.from_numpy(block["keep"])[counted]
        found = compare_predictors(model, clips, keep, config)
        hidden = found["hidden"]
        for name in sums:
            sums[name] += float(((found[name] - found["truth"]) ** 2).mean(-1).sum())
        num_samples += len(clips)
        num_tokens += hidden.numel()
        missing = config.gallery_samples - sum(len(p["original"]) for p in pictures)
        if missing > 0:
            pictures.append(_pictures(found, clips, keep, config, missing))
    if not num_samples:
        raise ValueError(f"{catalog}: none of its first {len(faults)} samples can be read")
    result = {
        "num_samples": num_samples,
        "num_hidden_tokens": num_tokens,
        "split": "held-out",
        "own_statistics": config.target.kind != "pixel",
        **{f"{name}_mse": value / num_tokens for name, value in sums.items()},
    }
    if pictures:
        arrays = {name: np.concatenate([p[name] for p in pictures]) for name in pictures[0]}
        packed = io.BytesIO()
        np.savez_compressed(
            packed,
            original=arrays["original"],
            masked=arrays["masked"],
            reconstructed=arrays["reconstructed"],
        )
        storage.write_bytes(storage.join(output, "gallery.npz"), packed.getvalue())
    if faults:
        lines = "".join(json.dumps({"step": 0} | asdict(fault)) + "\n" for fault in faults)
        storage.write_bytes(storage.join(output, "faults.jsonl"), lines.encode())
    storage.write_json(storage.join(output, "result.json"), result)
    return result


@torch.no_grad()
def compare_predictors(
    model: MaskedAutoencoder, clips_BTHWC: Tensor, keep_BK: Tensor, config: RunConfig
) -> dict[str, Tensor]:
    """Hidden patches in [0, 1], (B, H, P) each: `truth`, `model`, `mean_visible`, `nearest_visible`.

    Also `hidden`, their ids (B, H).
    """
    architecture = config.model.architecture
    mean, std = torch.tensor(config.input.mean), torch.tensor(config.input.std)
    patches_BNP = patchify(clips_BTHWC, patch=architecture.patch, tubelet=architecture.tubelet).float() / 255
    hidden_BH = hidden_ids(keep_BK, patches_BNP.shape[1])
    kept_BKP, truth_BHP = gather_tokens(patches_BNP, keep_BK), gather_tokens(patches_BNP, hidden_BH)
    prediction = model(normalise(kept_BKP, mean, std), keep_BK, hidden_BH)
    colour_B3 = kept_BKP.unflatten(-1, (-1, 3)).mean((1, 2))
    return {
        "hidden": hidden_BH,
        "truth": truth_BHP,
        "model": to_pixels(config.target.kind, prediction, truth_BHP, mean, std),
        "mean_visible": colour_B3.repeat(1, truth_BHP.shape[-1] // 3)[:, None].expand_as(truth_BHP),
        "nearest_visible": gather_tokens(kept_BKP, nearest_kept(config.grid, keep_BK, hidden_BH)),
    }


def nearest_kept(grid: Grid, keep_BK: Tensor, hidden_BH: Tensor) -> Tensor:
    """For each hidden token the index into `keep` of the nearest kept one, (B, H).

    Distance is Euclidean in the grid (time, row, column); the first of equals is taken.
    """
    ids = torch.arange(grid.num_tokens)
    places = torch.stack(
        [ids // grid.per_frame, ids % grid.per_frame // grid.columns, ids % grid.columns], dim=-1
    ).float()
    return torch.cdist(places[hidden_BH], places[keep_BK]).argmin(-1)


def _pictures(
    found: dict[str, Tensor], clips: Tensor, keep: Tensor, config: RunConfig, count: int
) -> dict[str, np.ndarray]:
    architecture = config.model.architecture
    shape = {"patch": architecture.patch, "tubelet": architecture.tubelet}
    original = patchify(clips, **shape).float() / 255
    index = found["hidden"][..., None].expand(-1, -1, original.shape[-1])
    masked = original.scatter(1, index, HIDDEN_GREY)
    filled = original.scatter(1, index, found["model"].clamp(0, 1))

    def to_bytes(patches: Tensor) -> np.ndarray:
        return (unpatchify(patches[:count], config.grid, **shape) * 255).round().byte().numpy()

    return {"original": to_bytes(original), "masked": to_bytes(masked), "reconstructed": to_bytes(filled)}
