"""`mae-dist recipes` and `mae-dist lint`: what they print, and with which status they end."""

from __future__ import annotations

import pytest

from mae_dist.cli.main import main
from mae_dist.config.tree import recipe_names

WIDTH = 110


def listed(capsys, *words: str) -> list[str]:
    assert main(["recipes", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_every_recipe_is_listed_on_a_line_that_fits(capsys):
    heading, *lines = listed(capsys)
    assert heading.split() == ["recipe", "model", "data", "FLOP", "expected"]
    assert [line.split()[0] for line in lines[: len(recipe_names())]] == recipe_names()
    assert max(map(len, [heading, *lines])) <= WIDTH


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("pretrain/k400", ["videomae_base", "Kinetics-400", " 80"]),
        ("pretrain/in1k", ["mae_base", "ImageNet-1k", "83.6 (linear probe 68)"]),
        ("pretrain/demo", ["videomae_micro", "drawn by the run"]),
        ("finetune/ssv2_large", ["videomae_large", "Something-Something V2", "74.3"]),
        ("finetune/ava_huge", ["videomae_huge", "AVA 2.2", "36.5"]),
        ("probe/knn", ["any  ", "any  ", "-"]),
    ],
)
def test_a_line_tells_model_data_and_expected_score(name, columns, capsys):
    (line,) = [line for line in listed(capsys) if line.split()[:1] == [name]]
    for column in columns:
        assert column in line


def test_operations_are_those_of_the_samples_and_the_model(capsys):
    # ViT-B takes about 9.6 G multiply-adds forward, and twice as many backward.
    (line,) = [line for line in listed(capsys) if line.startswith("pretrain/in1k ")]
    number, prefix = line.split()[3:5]
    assert prefix == "E"
    assert float(number) == pytest.approx(1600 * 1_281_167 * 6 * 9.6e9 / 1e18, rel=0.05)


def test_words_choose_by_name_and_header_whatever_their_capitals(capsys):
    _, *lines = listed(capsys, "k400", "vit-l", "paper")
    names = [line.split()[0] for line in lines if "/" in line.split()[0]]
    assert "finetune/k400_large_paper" in names
    assert "pretrain/k400_large" in names
    assert not any("ssv2" in name or "small" in name for name in names)


def test_a_single_recipe_is_shown_with_its_header(capsys):
    lines = listed(capsys, "pretrain/k400")
    assert [line.split()[0] for line in lines[1:2]] == ["pretrain/k400"]
    assert "Paper: arXiv 2203.12602" in "\n".join(lines)
    assert "Hardware:" in "\n".join(lines)


def test_words_that_no_recipe_has_are_named(capsys):
    assert main(["recipes", "k400", "convnext"]) == 1
    assert capsys.readouterr().err == ("no recipe has k400 and convnext; `mae-dist recipes` lists all\n")


def test_a_recipe_of_the_papers_gives_no_remark(capsys):
    assert main(["lint", "pretrain/k400"]) == 0
    assert capsys.readouterr().out == "pretrain/k400: 0 remark(s); taken for Kinetics-400\n"


def test_remarks_are_one_line_each_and_status_1(capsys):
    asked = ["--set", "data.catalog=s3://bucket/ssv2.parquet", "--set", "train.length=801 epochs"]
    assert main(["lint", "pretrain/k400", *asked]) == 1
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading == f"pretrain/k400: {len(lines)} remark(s); taken for Something-Something V2"
    assert lines[0].startswith("  input.frame_stride: got 4; 2 would be right: ")
    assert any(line.startswith("  train.length: got 801 epochs; 800 epochs would be right") for line in lines)


def test_samples_of_no_known_data_set_are_said_to_be_none(capsys):
    assert main(["lint", "pretrain/demo"]) == 0
    assert capsys.readouterr().out.endswith("; no data set of the papers recognised\n")


def test_a_mistake_is_no_remark(capsys):
    assert main(["lint", "pretrain/k400", "--set", "mask.ratio=2"]) == 2
    assert "mask: ratio must lie strictly between 0 and 1" in capsys.readouterr().err


def test_the_recipe_of_one_evaluation_is_looked_at_in_a_run(capsys):
    assert main(["lint", "finetune/k400"]) == 2
    assert "evaluations.NAME.extends=finetune/k400" in capsys.readouterr().err


def test_a_job_begins_with_its_remarks(capsys, tmp_path, monkeypatch):
    from mae_dist.orchestrate import cluster

    monkeypatch.setattr(cluster, "is_cluster_running", lambda: False)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "pretrain/demo", "--dry-run"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["run", "pretrain/demo", "--set", "train.warmup=0 steps", "--dry-run"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("remark: train.warmup: got 0 steps; a twentieth of train.length would be right")
