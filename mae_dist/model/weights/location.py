"""Where somebody's weights lie: a file, the folder of a run, of a model, or of a DeepSpeed checkpoint."""

from __future__ import annotations

from mae_dist import storage
from mae_dist.model.weights.header import WeightsError, exported_weights
from mae_dist.model.weights.reading import Weights, read_weights
from mae_dist.model.weights.stated import Stated, of_config, of_preprocessor

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pyth", ".ckpt")
"""Of files; anything else is a folder."""
IN_A_FOLDER = ("model.safetensors", "pytorch_model.bin", "model.pth", "mp_rank_00_model_states.pt")
"""What may lie in one that is no run: of timm and transformers, of exports, of DeepSpeed."""


def find_weights(path: str) -> str:
    """The file that is meant by a path; that of a run if there is none, so that it is named as missing."""
    if path.endswith(SUFFIXES):
        return path
    candidates = [exported_weights(path), *(storage.join(path, name) for name in IN_A_FOLDER)]
    return next((uri for uri in candidates if storage.exists(uri)), candidates[0])


def read_at(path: str, *, given: Stated | None = None, encoder_only: bool = False) -> tuple[Weights, str]:
    """The weights at a path in whatever dialect, and the URI of their file; see `read_weights`.

    Raises StorageError if they cannot be read, WeightsError, with the URI, if they cannot be used.
    """
    uri = find_weights(path)
    data = storage.read_bytes(uri)
    try:
        weights = read_weights(data, given=given, beside=_beside(uri), encoder_only=encoder_only)
    except WeightsError as error:
        raise WeightsError(f"{uri}: {error}") from error
    return weights, uri


def _beside(uri: str) -> Stated:
    """What the file's name and the files beside it say."""
    folder, _, name = uri.rpartition("/")
    # The authors of MAE say it in the name alone: what is to be looked at was trained on pixels.
    stated = Stated(target="pixel") if "visualize" in name else Stated()
    for file, read in (("config.json", of_config), ("preprocessor_config.json", of_preprocessor)):
        where = storage.join(folder or ".", file)
        if storage.exists(where):
            stated = stated.otherwise(read(storage.read_json(where)))
    return stated
