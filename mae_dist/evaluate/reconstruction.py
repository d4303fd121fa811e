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
from mae_dist.model.weights.native import ModelCard

MAX_SAMPLES = 512
BATCH = 32
HIDDEN_GREY = 0.5
PREDICTORS = ("model", "mean_visible", "nearest_visible")


def evaluate_reconstruction(config: RunConfig, *, weights: str, catalog: str, output: str) -> dict[str, Any]:
    """Compare the model with the trivial predictors on up to 512 samples.

    Samples that cannot be read are left out and listed in faults.jsonl. Writes that, result.json and
    gallery.npz into `output`; returns the result. Raises ValueError if no sample can be read.
    """
    # The grid is that of this input: weights that were given may have been trained at another size.
    model, card = native.load_masked_autoencoder(storage.read_bytes(weights), config.grid)
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
    sums: dict[str, float] = dict.fromkeys(PREDICTORS, 0.0)
    num_samples = num_tokens = 0
    shown: list[dict[str, np.ndarray]] = []
    faults: list[Fault] = []
    for number in range(min(MAX_SAMPLES // spec.micro_batch, num_blocks(samples, spec))):
        block = build_block(number, samples, spec)
        faults += block["faults"]
        counted = torch.from_numpy(block["counted"])
        if not counted.any():
            continue
        clips = torch.from_numpy(block["clips"])[counted]
        keep = torch.from_numpy(block["keep"])[counted]
        found = compare_predictors(model, card, config.grid, clips, keep)
        for name, error in errors(found).items():
            sums[name] += float(error.sum())
        num_samples += len(clips)
        num_tokens += found["hidden"].numel()
        missing = config.gallery_samples - sum(len(its["original"]) for its in shown)
        if missing > 0:
            shown.append(
                {name: its[:missing] for name, its in pictures(card, config.grid, clips, found).items()}
            )
    if not num_samples:
        raise ValueError(f"{catalog}: none of its first {len(faults)} samples can be read")
    result = {
        "num_samples": num_samples,
        "num_hidden_tokens": num_tokens,
        "split": "held-out",
        "own_statistics": card.target != "pixel",
        **{f"{name}_mse": value / num_tokens for name, value in sums.items()},
    }
    if shown:
        arrays = {name: np.concatenate([its[name] for its in shown]) for name in shown[0]}
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
    model: MaskedAutoencoder, card: ModelCard, grid: Grid, clips_BTHWC: Tensor, keep_BK: Tensor
) -> dict[str, Tensor]:
    """Hidden patches in [0, 1], (B, H, P) each: `truth` and what each of PREDICTORS says.

    Also `hidden`, their ids (B, H). `clips_BTHWC` are uint8, of this grid; `card` says what the model
    was given and what it predicts.
    """
    architecture = card.architecture
    mean, std = torch.tensor(card.mean), torch.tensor(card.std)
    patches_BNP = patchify(clips_BTHWC, patch=architecture.patch, tubelet=architecture.tubelet).float() / 255
    hidden_BH = hidden_ids(keep_BK, patches_BNP.shape[1])
    kept_BKP, truth_BHP = gather_tokens(patches_BNP, keep_BK), gather_tokens(patches_BNP, hidden_BH)
    prediction = model(normalise(kept_BKP, mean, std), keep_BK, hidden_BH)
    colour_BC = kept_BKP.unflatten(-1, (-1, architecture.channels)).mean((1, 2))
    num_places = truth_BHP.shape[-1] // architecture.channels
    return {
        "hidden": hidden_BH,
        "truth": truth_BHP,
        "model": to_pixels(card.target, prediction, truth_BHP, mean, std),
        "mean_visible": colour_BC.repeat(1, num_places)[:, None].expand_as(truth_BHP),
        "nearest_visible": gather_tokens(kept_BKP, nearest_kept(grid, keep_BK, hidden_BH)),
    }


def errors(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean squared error of every hidden patch, (B, H), by predictor, of what `compare_predictors` found."""
    return {name: (found[name] - found["truth"]).square().mean(-1) for name in PREDICTORS}


def nearest_kept(grid: Grid, keep_BK: Tensor, hidden_BH: Tensor) -> Tensor:
    """For each hidden token the index into `keep` of the nearest kept one, (B, H).

    Distance is Euclidean in the grid (time, row, column); the first of equals is taken.
    """
    ids = torch.arange(grid.num_tokens)
    places = torch.stack(
        [ids // grid.per_frame, ids % grid.per_frame // grid.columns, ids % grid.columns], dim=-1
    ).float()
    return torch.cdist(places[hidden_BH], places[keep_BK]).argmin(-1)


def pictures(
    card: ModelCard, grid: Grid, clips_BTHWC: Tensor, found: dict[str, Tensor]
) -> dict[str, np.ndarray]:
    """`original`, `masked` (hidden patches are grey) and `reconstructed` clips, RGB uint8 (B, T, H, W, 3).

    Visible patches are shown as they were: no loss has asked the model to predict them. Of more than three
    channels the first three are shown, of fewer the first one as grey.
    """
    shape = {"patch": card.architecture.patch, "tubelet": card.architecture.tubelet}
    original = patchify(clips_BTHWC, **shape).float() / 255
    index = found["hidden"][..., None].expand(-1, -1, original.shape[-1])
    masked = original.scatter(1, index, HIDDEN_GREY)
    filled = original.scatter(1, index, found["model"].clamp(0, 1))

    def to_bytes(patches: Tensor) -> np.ndarray:
        clips = (unpatchify(patches, grid, **shape) * 255).round().byte()
        clips = clips[..., :3] if clips.shape[-1] >= 3 else clips[..., :1].expand(*clips.shape[:-1], 3)
        return clips.numpy()

    return {"original": to_bytes(original), "masked": to_bytes(masked), "reconstructed": to_bytes(filled)}
