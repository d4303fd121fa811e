"""What an export says of itself, read without torch and without its tensors.

A safetensors file begins with the length of its header, 8 bytes, and the header as JSON; what its writer
noted stands in there under __metadata__.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mae_dist import storage

MASKED_AUTOENCODER = "mae_dist.masked_autoencoder.1"
"""Format of the export of a pretraining."""
ENCODER = "mae_dist.encoder.1"
"""Format of an encoder without a decoder, which others' files are converted to; see native.py."""
CLASSIFIER = "mae_dist.classifier.1"
"""Format of the export of a fine-tuning."""
TOKENIZER = "mae_dist.tokenizer.1"
"""Format of the export of a tokenizer."""
COMPONENTS = "mae_dist.components.1"
"""Format of the basis that the target pca is made with."""


def exported_weights(run: str) -> str:
    """What a pretraining in the folder `run` leaves."""
    return storage.join(run, "export", "model.safetensors")


def weights_file(given: str) -> str:
    """The file of weights that is meant: the one given, or what the run in the folder given has exported."""
    return given if given.endswith(".safetensors") else exported_weights(given)


class WeightsError(ValueError):
    """A file of weights that does not hold what was asked for."""


def metadata_of(data: bytes) -> dict[str, str]:
    """What the writer of a safetensors file noted, {} if nothing. Raises WeightsError if it is none."""
    length = int.from_bytes(data[:8], "little")
    try:
        return json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (ValueError, AttributeError):
        raise WeightsError(f"no safetensors file ({len(data)} bytes)") from None


def read_card(data: bytes, *expected: str) -> dict[str, Any]:
    """The card of an export of a format among `expected`, as plain data. Raises WeightsError otherwise."""
    metadata = metadata_of(data)
    check_format(metadata, *expected)
    return json.loads(metadata["card"])


def check_format(metadata: Mapping[str, str], *expected: str) -> None:
    """Raise WeightsError unless the metadata are those of an export of one of these formats."""
    if metadata.get("format") not in expected:
        raise WeightsError(
            f"a file of weights, but not an export of mae_dist: its metadata says format "
            f"{metadata.get('format')!r}, expected {' or '.join(map(repr, expected))}"
        )
