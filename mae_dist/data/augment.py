"""From a decoded image or clip to the pixels of a training sample.

    crop -> flip -> RandAugment -> colours -> random erasing     every draw keyed by (seed, epoch, sample)

Everything stays uint8, and every frame of a clip is treated alike.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from mae_dist.config.schema import AugmentConfig, InputConfig
from mae_dist.data import keys
from mae_dist.data.decoded import Decoded
from mae_dist.data.transforms import (
    FILTERS,
    Box,
    center_box,
    flip,
    multi_scale_box,
    needs_torch,
    placed_box,
    random_resized_box,
)

_ERASED_AREA = (0.02, 1 / 3)
_ERASED_ASPECT = (0.3, 1 / 0.3)
_ERASING_ATTEMPTS = 10


def augment(
    source: Decoded,
    config: AugmentConfig,
    size: InputConfig,
    *,
    seed: int,
    epoch: int,
    sample: int,
) -> np.ndarray:
    """uint8 (T, size.height, size.width, size.channels), contiguous; T as the source has it.

    Raises ValueError if `config.rand_augment` is not a string that timm understands.
    """
    box, is_flipped = placement(
        config, source.height, source.width, size, seed=seed, epoch=epoch, sample=sample
    )
    clip = source.crop(box, size.height, size.width, config.interpolation)
    if is_flipped:
        clip = flip(clip)
    if config.rand_augment is not None:
        word = int(keys.rng(seed, epoch, sample, "rand_augment").integers(2**32))
        clip = _rand_augment(clip, _transform(config.rand_augment, config.interpolation, size), word)
    clip = np.ascontiguousarray(clip)
    if config.color_jitter is not None:
        clip = _shift_colors(clip, config.color_jitter, keys.rng(seed, epoch, sample, "colors"))
    rng = keys.rng(seed, epoch, sample, "erasing")
    if rng.random() < config.erasing:
        _erase(clip, size, rng)
    return clip


def placement(
    config: AugmentConfig,
    source_height: int,
    source_width: int,
    size: InputConfig,
    *,
    seed: int,
    epoch: int,
    sample: int,
) -> tuple[Box, bool]:
    """The box that `augment` cuts out of a source of this size, and whether it is then mirrored."""
    rng = keys.rng(seed, epoch, sample, "crop")
    box = crop_box(config, source_height, source_width, size.height, size.width, rng)
    return box, config.flip and keys.rng(seed, epoch, sample, "flip").random() < 0.5


def prepare(config: AugmentConfig, size: InputConfig) -> None:
    """Import and build what `augment` will use, because the first sample should not pay for it."""
    if needs_torch(size.height, size.width):
        import torch  # noqa: F401
    if config.rand_augment is not None:
        _transform(config.rand_augment, config.interpolation, size)


def crop_box(
    config: AugmentConfig,
    source_height: int,
    source_width: int,
    height: int,
    width: int,
    rng: np.random.Generator,
) -> Box:
    """The box that `config.crop` chooses for a training sample."""
    match config.crop:
        case "center":
            return center_box(source_height, source_width, height, width)
        case "random_resized":
            return random_resized_box(source_height, source_width, config.scale, rng)
        case "multi_scale":
            return multi_scale_box(source_height, source_width, height, width, rng)
        case "anywhere":
            return placed_box(source_height, source_width, height, width, config.side, rng)


def _rand_augment(clip: np.ndarray, transform: Any, word: int) -> np.ndarray:
    """timm's RandAugment with the same operations, strengths and signs in every frame."""
    frames = []
    for frame in clip:
        # timm draws from the global generators; seeding them anew for each frame repeats the draws.
        with keys.seeded_globals(word):
            frames.append(np.asarray(transform(Image.fromarray(np.ascontiguousarray(frame)))))
    return np.stack(frames)


@lru_cache(maxsize=8)
def _transform(rand_augment: str, interpolation: str, size: InputConfig) -> Any:
    # Imported here: timm brings torch along, and decoding needs neither.
    from timm.data.auto_augment import rand_augment_transform

    try:
        return rand_augment_transform(
            rand_augment,
            {
                "translate_const": int(min(size.height, size.width) * 0.45),
                "img_mean": tuple(round(255 * channel) for channel in size.mean),
                "interpolation": FILTERS[interpolation],
            },
        )
    except (AssertionError, ValueError, KeyError) as error:
        raise ValueError(
            f"rand_augment: timm reads strings like 'rand-m9-mstd0.5-inc1', got {rand_augment!r}"
        ) from error


def _shift_colors(
    clip: np.ndarray, amounts: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Shift hue, saturation and value of all pixels by one draw each; hue goes round, the others stop."""
    hue, saturation, value = rng.uniform(-1, 1, 3) * amounts * np.array([256 / 360, 255, 255])
    levels = np.arange(256)
    tables = [(levels + round(hue)) % 256]
    tables += [np.clip(levels + round(shift), 0, 255) for shift in (saturation, value)]
    # All frames as one tall picture.
    picture = Image.fromarray(clip.reshape(-1, *clip.shape[2:])).convert("HSV")
    shifted = picture.point(np.concatenate(tables).tolist()).convert("RGB")
    return np.array(shifted).reshape(clip.shape)


def _erase(clip: np.ndarray, size: InputConfig, rng: np.random.Generator) -> None:
    """Overwrite one rectangle, the same in every frame, with noise of the input's mean and deviation.

    timm's RandomErasing in mode "pixel": area 2% to 33%, aspect 0.3 to 3.3.
    """
    height, width = clip.shape[1:3]
    for _ in range(_ERASING_ATTEMPTS):
        area = height * width * rng.uniform(*_ERASED_AREA)
        aspect = math.exp(rng.uniform(math.log(_ERASED_ASPECT[0]), math.log(_ERASED_ASPECT[1])))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < h < height and 0 < w < width:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            noise = rng.normal(size.mean, size.std, (h, w, clip.shape[-1])) * 255
            clip[:, top : top + h, left : left + w] = np.clip(np.rint(noise), 0, 255).astype(np.uint8)
            return
