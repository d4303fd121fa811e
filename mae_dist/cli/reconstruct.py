"""`mae-dist reconstruct WEIGHTS FILE...`: what a pretrained model makes of images and clips of your own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import chain, count
from typing import TYPE_CHECKING, get_args

import yaml

from mae_dist import storage
from mae_dist.config.load import from_dict
from mae_dist.config.masks import MaskKind, problems
from mae_dist.config.problems import ConfigError, Problem
from mae_dist.config.schema import InputConfig, MaskConfig, RunConfig

if TYPE_CHECKING:
    from mae_dist.evaluate.examples import Example, Reconstructor

FRAMES_PER_SECOND = 8
_ABOUT = """\
For every file, in the folder --out:
  images  NAME-reconstructed.png: the original, what the encoder sees, and that with the predicted patches
  videos  the same as three rows of frames, and .mp4 (or .gif), in which the three play side by side

The middle of a file is shown at the model's size. A model that predicts normalised patches does not know
their brightness and contrast: each predicted patch gets those of the original. Printed is the mean squared
error of pixels in [0, 1] over the hidden patches, beside that of two predictors that learn nothing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """WEIGHTS, FILE..., and what is hidden of them."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    parser.add_argument(
        "weights", metavar="WEIGHTS", help="a run directory, or the export/model.safetensors of one"
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="images and videos, local or s3://...")
    parser.add_argument("--out", default="reconstructions", metavar="FOLDER", help="(%(default)s)")
    parser.add_argument(
        "--mask",
        choices=get_args(MaskKind),
        metavar="KIND",
        help=f"{', '.join(get_args(MaskKind))} (as the run has it; else random for images, tube for clips)",
    )
    parser.add_argument(
        "--mask-ratio",
        type=float,
        metavar="SHARE",
        help="of the patches that is hidden (as the run has it; else 0.75 for images, 0.9 for clips)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the masks (%(default)s)")
    parser.add_argument(
        "--frame-stride",
        type=int,
        metavar="FRAMES",
        help="from one frame of a clip to the next (as the run has it; else 4)",
    )
    parser.add_argument("--clip", choices=("mp4", "gif"), default="mp4", help="how clips are written")


def run(arguments: argparse.Namespace) -> int:
    """Write the pictures and print the errors; 1 if a file cannot be read, 2 if nothing can be done.

    Raises ConfigError for a mask that does not fit the model.
    """
    uri = storage.absolute(arguments.weights)
    recipe = _recipe(uri)
    storage.check_writable(arguments.out)
    # Imported here: torch takes seconds, and --help is told without it.
    from mae_dist.data.limits import DecodeError
    from mae_dist.evaluate.examples import Reconstructor
    from mae_dist.model.weights.header import WeightsError, weights_file

    try:
        model = Reconstructor.load(weights_file(uri))
    except WeightsError as error:
        print(error, file=sys.stderr)
        return 2
    mask, size = _mask(arguments, model, recipe), _input(arguments, model, recipe)
    names = _names(arguments.files)
    num_failed = 0
    print(f"{model.card.target}, {mask.kind} mask of {mask.ratio:g}")
    for number, (file, name) in enumerate(zip(arguments.files, names, strict=True)):
        try:
            example = model.show(file, mask, size, seed=arguments.seed, number=number)
        except (DecodeError, storage.StorageError) as error:
            print(f"{file}: {error}", file=sys.stderr)
            num_failed += 1
            continue
        written = ", ".join(_write(example, storage.join(arguments.out, name), clip_format=arguments.clip))
        its = example.errors
        print(
            f"{file}: error {its['model']:.4f} (mean visible pixel {its['mean_visible']:.4f}, nearest "
            f"visible patch {its['nearest_visible']:.4f}): {written}"
        )
    return 1 if num_failed else 0


def _recipe(uri: str) -> RunConfig | None:
    """What was run, where a run is named that says so."""
    config = storage.join(uri, "config.yaml")
    if uri.endswith(".safetensors") or not storage.exists(config):
        return None
    return from_dict(yaml.safe_load(storage.read_bytes(config)), label=config)


def _mask(arguments: argparse.Namespace, model: Reconstructor, recipe: RunConfig | None) -> MaskConfig:
    """What is asked for, and the rest as the run or, of a lone file, the paper has it."""
    papers = MaskConfig(kind="tube", ratio=0.9) if model.card.frames > 1 else MaskConfig()
    mask = recipe.mask if recipe is not None else papers
    kind = arguments.mask or mask.kind
    ratio = mask.ratio if arguments.mask_ratio is None else arguments.mask_ratio
    try:
        mask = MaskConfig(kind=kind, ratio=ratio, rounding=mask.rounding if kind == mask.kind else None)
        wrong = list(problems(mask.kind, model.model.grid, mask.ratio, mask.rounding, "all", 0.5))
    except ValueError as error:
        wrong = [("ratio", str(error))]
    if wrong:
        options = {"kind": "--mask", "ratio": "--mask-ratio", "rounding": "mask.rounding"}
        raise ConfigError("reconstruct", [Problem(options[field], message) for field, message in wrong])
    return mask


def _input(arguments: argparse.Namespace, model: Reconstructor, recipe: RunConfig | None) -> InputConfig:
    """The model's size, and frames chosen as asked for, or as in the run."""
    if arguments.frame_stride is not None:
        if arguments.frame_stride < 1:
            message = f"must be at least 1, got {arguments.frame_stride}"
            raise ConfigError("reconstruct", [Problem("--frame-stride", message)])
        return model.input(frame_stride=arguments.frame_stride)
    if recipe is None:
        return model.input(frame_stride=4)
    its = recipe.input
    return model.input(frame_stride=its.frame_stride, sample_fps=its.sample_fps, sampling=its.sampling)


def _names(files: list[str]) -> list[str]:
    """A name for the pictures of each file, no two the same."""
    names: list[str] = []
    for file in files:
        # Never the name of the file itself, which may lie in the same folder.
        stem = f"{file.rpartition('/')[2].rpartition('.')[0]}-reconstructed"
        candidates = chain([stem], (f"{stem}-{number}" for number in count(2)))
        names.append(next(name for name in candidates if name not in names))
    return names


def _write(example: Example, beside: str, *, clip_format: str) -> Iterator[str]:
    """Write the pictures of one file; gives where."""
    from mae_dist.report.gallery import Gallery, animation_gif, sheet_png, side_by_side

    gallery = Gallery(
        original=example.original[None],
        masked=example.masked[None],
        reconstructed=example.reconstructed[None],
    )
    storage.write_bytes(f"{beside}.png", sheet_png(gallery, 0))
    yield f"{beside}.png"
    if gallery.is_video:
        frames = side_by_side(gallery, 0)
        if clip_format == "gif":
            data = animation_gif(frames)
        else:
            from mae_dist.data.video import encode_h264

            data = encode_h264(frames, FRAMES_PER_SECOND)
        storage.write_bytes(f"{beside}.{clip_format}", data)
        yield f"{beside}.{clip_format}"
