"""Files of weights, whoever wrote them: the one door through which they come in, and no code with them.

A safetensors file holds tensors and text. A file of `torch.save` (.pt, .pth, .bin) is a pickle, which says
what to call when it is opened; torch's weights-only reader calls nothing but what makes up tensors and plain
values. What it refuses is refused here, with the name of what the file asks for.
"""

from __future__ import annotations

import argparse
import io
import re
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from mae_dist.model.weights.header import WeightsError, metadata_of

HARMLESS = (argparse.Namespace,)
"""Classes beyond torch's own that published checkpoints hold (their `args`) and that do nothing when made."""

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # of torch.save since 1.6, and before


def open_weights(data: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """What a file of weights holds, on the CPU, and its metadata.

    Of safetensors: tensors by name, and text. Of torch.save: a mapping as it was saved, of tensors, numbers,
    text and containers of these, and {}. Raises WeightsError for everything else, having run none of it.
    """
    if not _is_safetensors(data) and data.startswith((_ZIP, _PICKLE)):
        return _unpickled(data), {}
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise WeightsError(
            f"neither a safetensors file nor one of torch.save ({len(data)} bytes): {error}"
        ) from error
    # The library reads metadata from paths only.
    return tensors, metadata_of(data)


def _is_safetensors(data: bytes) -> bool:
    """Whether a header may follow that is as long as the first bytes say; one in 32 begins like a pickle."""
    return data[8:9] == b"{" and 8 + int.from_bytes(data[:8], "little") <= len(data)


def _unpickled(data: bytes) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(list(HARMLESS)):
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a file made to do harm, or cut short, may fail in any way
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is not None:
            raise WeightsError(
                f"a pickled file that asks for {asked[1]}, which is no part of weights; nothing of it was "
                "run. Ask whoever made it for its tensors alone, best as safetensors"
            ) from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise WeightsError(f"a pickled file that cannot be read as weights alone: {reason}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"a file of torch.save that holds a {type(found).__name__}, not weights by name")
    return found
