"""`mae-dist weights`: what it says of files, and what it writes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import timm
import torch
import yaml

import mae_dist
from mae_dist import storage
from mae_dist.cli.main import main
from mae_dist.model.weights.exports import for_authors
from mae_dist.model.weights.header import exported_weights
from mae_dist.model.weights.reading import to_native
from tests.model.foreign import weights_of
from tests.model.small import SMALL_MAE, SMALL_VIDEOMAE


@pytest.fixture
def checkpoint(tmp_path) -> str:
    """A file of the authors of MAE, with a decoder."""
    path = tmp_path / "mae_visualize.pth"
    path.write_bytes(for_authors(weights_of(SMALL_MAE, "masked_autoencoder"))["model.pth"])
    return str(path)


def test_inspect_tells_dialect_kind_geometry_and_parameters(checkpoint, capsys):
    assert main(["weights", "inspect", checkpoint]) == 0
    said = {" ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    for line in (
        "dialect MAE (authors)",
        "kind masked autoencoder",
        "size none that has a name",
        "encoder width 48, depth 3, heads 3, mlp 192",
        "input 1 x 16 x 16",
        "patch 1 x 4 x 4",
        "class token yes",
        "target norm_pixel_mae",
    ):
        assert line in said, line


def test_inspect_counts_parameters_as_they_are(checkpoint, capsys):
    assert main(["weights", "inspect", checkpoint, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == sum(
        t.numel() for t in weights_of(SMALL_MAE, "masked_autoencoder").tensors.values()
    )
    assert found["remarks"] == []


def test_convert_writes_what_load_takes(checkpoint, tmp_path, capsys):
    target = str(tmp_path / "ours.safetensors")
    assert main(["weights", "convert", checkpoint, target]) == 0
    assert "masked autoencoder from MAE (authors)" in capsys.readouterr().out
    pixels = torch.rand(1, 16, 16, 3)
    assert torch.equal(mae_dist.load(target).encode(pixels), mae_dist.load(checkpoint).encode(pixels))
    assert main(["weights", "convert", checkpoint, target, "--encoder-only"]) == 0
    assert "encoder from MAE (authors)" in capsys.readouterr().out
    assert main(["weights", "convert", checkpoint, str(tmp_path / "ours.pth")]) == 2
    assert "call it something.safetensors" in capsys.readouterr().err


def test_check_prints_the_largest_difference_by_library(checkpoint, capsys):
    assert main(["weights", "check", checkpoint]) == 0
    timms, transformers = capsys.readouterr().out.splitlines()
    assert timms.startswith("timm: tokens equal up to rounding, largest difference ")
    assert transformers.startswith("transformers: predictions equal up to rounding, largest difference ")
    assert main(["weights", "check", checkpoint, "--json", "--encoder-only"]) == 0
    assert [row["what"] for row in json.loads(capsys.readouterr().out)] == ["tokens", "tokens"]


def test_export_of_a_run_carries_what_its_evaluations_gave(tmp_path, capsys):
    run = tmp_path / "demo-0123"
    probe = run / "evaluations" / "probe-pretrained"
    probe.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump({"name": "demo", "evaluations": {"probe": {}}}))
    result = {"protocol": "linear_probe", "metric": "top1", "value": 41.25, "interval": [37.3, 45.2]}
    (probe / "result.json").write_text(json.dumps(result | {"num_samples": 240}))
    (probe / "DONE.json").write_text(json.dumps({"state": "done", "reason": None, "seconds": 1.0}))
    weights = weights_of(SMALL_MAE, "masked_autoencoder")
    storage.write_bytes(exported_weights(str(run)), to_native(weights))
    folder = tmp_path / "for-timm"
    assert main(["weights", "export", str(run), str(folder), "--to", "timm"]) == 0
    assert capsys.readouterr().out.split() == [
        f"{folder}/{name}" for name in ("model.safetensors", "config.json", "README.md")
    ]
    assert "| probe | linear_probe | 41.25 (37.3 to 45.2) |" in (folder / "README.md").read_text()
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert model.num_features == 48


def test_what_a_file_does_not_say_is_asked_for_and_taken(tmp_path, capsys):
    weights = weights_of(SMALL_VIDEOMAE, "masked_autoencoder")
    content = torch.load(_written(tmp_path, for_authors(weights)["model.pth"]), weights_only=True)
    torch.save({"model": content["model"]}, tmp_path / "bare.pth")
    command = ["weights", "inspect", str(tmp_path / "bare.pth")]
    assert main(command) == 2
    assert "state it (--heads ENCODER,DECODER)" in capsys.readouterr().err
    assert main([*command, "--heads", "3,4", "--input", "4x16x16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["input"] == [4, 16, 16]
    assert found["remarks"] == ["not said by the file, taken from what is published: mean, std, target"]


def _written(folder, data: bytes) -> str:
    (folder / "model.pth").write_bytes(data)
    return str(folder / "model.pth")


def test_what_cannot_be_written_is_refused_with_the_reason(tmp_path, capsys):
    crossed = weights_of(replace(SMALL_MAE, cross_decoder=True), "masked_autoencoder")
    (tmp_path / "model.safetensors").write_bytes(to_native(crossed))
    export = ["weights", "export", str(tmp_path), str(tmp_path / "to")]
    assert main([*export, "--to", "huggingface"]) == 2
    assert "no decoder of cross-attention" in capsys.readouterr().err
    assert main([*export, "--to", "huggingface", "--encoder-only"]) == 0


@pytest.mark.parametrize(
    "wrong", [["--heads", "1,2,3"], ["--input", "224"], ["--mean", "1,2"], ["--target", "hog"]]
)
def test_statements_that_say_nothing_are_refused(wrong, checkpoint):
    with pytest.raises(SystemExit, match="2"):
        main(["weights", "inspect", checkpoint, *wrong])


def test_a_file_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["weights", "inspect", str(tmp_path / "none.pth")]) == 2
    assert f"{tmp_path}/none.pth" in capsys.readouterr().err
