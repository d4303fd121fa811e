"""Files of weights from anywhere are opened without running what is in them."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from mae_dist.model.weights.files import open_weights
from mae_dist.model.weights.header import WeightsError
from mae_dist.model.weights.native import load_encoder


class Bomb:
    """Unpickling it runs a command, which leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def saved(content, **options) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["zip", "before 1.6", "bare pickle"])
def test_a_file_that_would_run_a_command_is_refused_by_the_name_of_what_it_asks_for(form, tmp_path):
    content = {"model": {"w": torch.zeros(2)}, "extra": Bomb(tmp_path / "fired")}
    data = {
        "zip": lambda: saved(content),
        "before 1.6": lambda: saved(content, _use_new_zipfile_serialization=False),
        "bare pickle": lambda: pickle.dumps(content["extra"], protocol=2),
    }[form]()
    for opened in (open_weights, load_encoder):
        with pytest.raises(
            WeightsError, match=r"pickled file that asks for \w+\.system, .* nothing of it was run"
        ):
            opened(data)
    assert not (tmp_path / "fired").exists()
    if form == "bare pickle":  # the file is a real one
        pickle.loads(data)  # noqa: S301
        assert (tmp_path / "fired").exists()


def test_a_published_checkpoint_is_opened_with_the_arguments_it_was_trained_with():
    content = {
        "model": collections.OrderedDict(w=torch.arange(3.0)),
        "args": argparse.Namespace(lr=1e-3),
        "epoch": 800,
    }
    found, metadata = open_weights(saved(content))
    assert found["model"]["w"].tolist() == [0.0, 1.0, 2.0]
    assert (found["args"].lr, found["epoch"], metadata) == (1e-3, 800, {})


def test_a_safetensors_file_is_opened_with_its_metadata():
    found, metadata = open_weights(save({"w": torch.ones(2)}, metadata={"format": "pt"}))
    assert found["w"].tolist() == [1.0, 1.0]
    assert metadata == {"format": "pt"}


def test_a_published_checkpoint_is_no_export_of_ours():
    with pytest.raises(WeightsError, match="not an export of mae_dist: its metadata says format None"):
        load_encoder(saved({"model": {}}))


def test_a_file_that_holds_no_weights_by_name_is_refused():
    with pytest.raises(WeightsError, match="holds a Tensor, not weights by name"):
        open_weights(saved(torch.zeros(2)))


@pytest.mark.parametrize("data", [b"\x80", b"PK\x03\x04...", b"", b"hello"])
def test_what_is_cut_short_or_no_file_of_weights_is_refused(data):
    with pytest.raises(WeightsError, match=r"cannot be read as weights alone: \w|neither a safetensors file"):
        open_weights(data)


@pytest.mark.parametrize("length", range(40))
def test_a_safetensors_file_is_none_of_a_pickle_however_long_its_header_is(length):
    """A header of 128 bytes, or 256 n more, begins with the byte that a pickle begins with."""
    data = save({"weight": torch.arange(3.0)}, metadata={"note": 8 * length * "x"})
    tensors, metadata = open_weights(data)
    assert tensors["weight"].tolist() == [0, 1, 2]
    assert len(metadata["note"]) == 8 * length
