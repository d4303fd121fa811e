"""CPU time from the bytes of a JPEG to a random resized crop of 224x224, against torchvision's way.

Ours gives uint8 (the device normalises it), the reference float32 after Pillow's bicubic resize, ToTensor and
Normalize: what MAE's own loader does. Files are made here; both ways see the same files and boxes, in turns,
on one thread.

    python benchmarks/jpeg.py [--rounds 15] [--json]
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, functional

from mae_dist.data.image import open_image
from mae_dist.data.transforms import Box, random_resized_box

SIZE = 224
SCALE = (0.2, 1.0)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# Height, width, files, JPEG quality, the least speed-up claimed.
SOURCES = {
    "500x375": (375, 500, 24, 82, 2.4),
    "1600x1200": (1200, 1600, 4, 82, 2.4),
}

Way = Callable[[bytes, Box], object]


def ours(data: bytes, box: Box) -> np.ndarray:
    """mae_dist: uint8 (1, 224, 224, 3)."""
    return open_image(data).crop(box, SIZE, SIZE, "bicubic")


def reference(data: bytes, box: Box) -> torch.Tensor:
    """MAE's loader: float32 (3, 224, 224), normalised."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    crop = functional.resized_crop(image, *box, [SIZE, SIZE], InterpolationMode.BICUBIC)
    return functional.normalize(functional.to_tensor(crop), MEAN, STD)


def picture(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 (height, width, 3) with the spectrum of a photograph, amplitude ~ frequency ** -1.35."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = np.maximum(frequency, 1 / max(height, width)) ** -1.35
    fields = []
    for _ in range(3):
        spectrum = amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape))
        field = np.fft.irfft2(spectrum, (height, width))
        fields.append((field - field.mean()) / field.std())
    light, warm, green = fields  # colours vary less than the brightness, as in nature
    rgb = np.stack([light + 0.3 * warm, light - 0.15 * warm + 0.1 * green, light - 0.3 * green], axis=-1)
    return np.clip(128 + 52 * rgb, 0, 255).astype(np.uint8)


def encode(pixels: np.ndarray, quality: int) -> bytes:
    """A 4:2:0 JPEG, as cameras and ImageNet have them."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return file.getvalue()


def milliseconds(way: Way, work: list[tuple[bytes, Box]]) -> float:
    """CPU milliseconds per image."""
    start = time.process_time()
    for data, box in work:
        way(data, box)
    return (time.process_time() - start) / len(work) * 1000


def compare(name: str, rounds: int) -> dict[str, object]:
    """Median over the rounds of the ratio within a round, and of each way alone."""
    height, width, num_files, quality, goal = SOURCES[name]
    rng = np.random.default_rng(0)
    files = [encode(picture(height, width, rng), quality) for _ in range(num_files)]
    pairs = []
    for number in range(rounds + 1):
        work = [(data, random_resized_box(height, width, SCALE, rng)) for data in files]
        if number % 2:
            old, new = milliseconds(reference, work), milliseconds(ours, work)
        else:
            new, old = milliseconds(ours, work), milliseconds(reference, work)
        if number:  # the first round warms up
            pairs.append((old, new))
    measured = statistics.median(old / new for old, new in pairs)
    return {
        "what": f"RandomResizedCrop {SIZE}, bicubic, antialiased, from {name} JPEG: times Pillow + ToTensor"
        " + Normalize, CPU time",
        "measured": round(measured, 2),
        "goal": goal,
        "met": measured >= goal,
        "milliseconds": round(statistics.median(new for _, new in pairs), 3),
        "milliseconds_reference": round(statistics.median(old for old, _ in pairs), 3),
        "kilobytes": round(sum(map(len, files)) / num_files / 1000, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print the claims as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    claims = [compare(name, arguments.rounds) for name in SOURCES]
    if arguments.json:
        print(json.dumps({"claims": claims}, indent=1))
        return
    for claim in claims:
        print(
            f"{claim['measured']:.2f}x (goal {claim['goal']}x)  {claim['milliseconds']} ms against "
            f"{claim['milliseconds_reference']} ms, {claim['kilobytes']} KB: {claim['what']}"
        )


if __name__ == "__main__":
    main()
