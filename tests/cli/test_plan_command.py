"""`mae-dist plan`: what it prints, and how it ends."""

from __future__ import annotations

import json

import pytest

from mae_dist.cli.main import main

K400 = ["plan", "pretrain/k400", "--gpus", "64"]


def test_a_plan_tells_memory_speed_decoding_time_and_cost_without_any_samples(capsys):
    prices = ["--price-gpu-hour", "2", "--price-cpu-hour", "0.05"]
    assert main([*K400, "--gpu", "h100", "--samples", "240436", *prices]) == 0
    printed = capsys.readouterr().out
    for words in (
        "94.2 M trained (encoder 86.2 M, decoder 8.0 M)",
        "200 GFLOP for a sample",
        "--set resources.workers=64 --set resources.zero_stage=1 --set train.micro_batch=16",
        "samples/s at 20.0 % MFU",
        "GB/s from storage",
        "187,841 steps in ",
        "at the prices given",
        "arXiv 2203.12602, table 3",
        "benchmarks/decode/2026-11-21.md",
    ):
        assert words in printed


def test_a_plan_is_one_object_as_json(capsys):
    assert main([*K400, "--json", "--decode-ms", "20", "--sample-mb", "2"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["recommended"] in plan["choices"]
    assert plan["course"]["feeding"]["decode_seconds"] == 0.02
    assert plan["problems"] == []


def test_a_plan_that_cannot_work_ends_with_2_and_its_reasons(capsys):
    assert main(["plan", "pretrain/k400", "--gpus", "48"]) == 2
    captured = capsys.readouterr()
    assert "cannot work: train.global_batch: 1024 cannot be divided among 48 GPUs" in captured.err
    assert "recommended" not in captured.out


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (["--gpu", "h10"], "no GPU is known as 'h10'; did you mean 'h100'?"),
        (["--set", "sed=3"], "sed: no such field; did you mean 'seed'?"),
        (["--evaluation", "probe"], "not in the recipe, which has linear_probe, finetune"),
    ],
)
def test_a_mistake_is_one_screen_and_status_2(asked, complaint, capsys):
    assert main([*K400, *asked]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err


@pytest.mark.parametrize(
    "asked", [["--mfu", "20"], ["--gpus", "0"], ["--node-cpus", "-1"], ["--decode-ms", "0"]]
)
def test_numbers_that_cannot_be_are_refused(asked, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*K400, *asked])
    assert "must be a" in capsys.readouterr().err
