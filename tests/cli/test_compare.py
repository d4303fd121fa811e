"""`mae-dist compare RUN...` and `mae-dist leaderboard STORAGE`."""

from __future__ import annotations

import json

import pytest

from mae_dist import storage
from mae_dist.cli.main import main
from tests.cli.followed_run import FollowedRun


def evaluated(uri: str, value: float, **changes) -> FollowedRun:
    """A run whose fine-tuning came out so."""
    run = FollowedRun(uri)
    run.write_config("finetune", **changes)
    result = {"evaluation": "finetune", "protocol": "finetune", "start_from": "pretrained", "metric": "top1"}
    numbers = {"value": value, "standard_error": 0.5, "num_samples": 240, "settings": {"views": "1 x 1"}}
    run.write("evaluations/finetune-pretrained/result.json", result | numbers)
    run.write("evaluations/finetune-pretrained/DONE.json", {"state": "done", "seconds": 9.0})
    return run


def test_runs_stand_beside_each_other_with_what_differs(tmp_path, capsys):
    one = evaluated(str(tmp_path / "demo-01"), 60.0)
    two = evaluated(str(tmp_path / "demo-02"), 70.0, seed=7)
    assert main(["compare", one.uri, two.uri]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    values = [line[:4] for line in lines if "±" in line]
    assert values == [["70.0", "±", "0.5", "demo-02"], ["60.0", "±", "0.5", "demo-01"]]
    assert ["seed", "null", "7"] in lines


def test_compared_as_json_every_number_and_difference_is_there(tmp_path, capsys):
    one = evaluated(str(tmp_path / "demo-01"), 60.0)
    two = evaluated(str(tmp_path / "demo-02"), 70.0, seed=7)
    assert main(["compare", one.uri, two.uri, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    [group] = found["groups"]
    assert [row["run_directory"] for row in group["rows"]] == [two.uri, one.uri]
    assert (found["runs"], found["differences"]) == (["demo-01", "demo-02"], {"seed": [None, 7]})


def test_every_place_that_is_no_run_is_named(tmp_path, capsys):
    run = evaluated(str(tmp_path / "demo-01"), 60.0)
    places = [str(tmp_path), str(tmp_path / "nowhere")]
    assert main(["compare", run.uri, *places]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    for place, line in zip(places, captured.err.splitlines(), strict=True):
        assert line.startswith(f"{place}: not a run directory, config.yaml is missing")


def test_a_leaderboard_finds_the_runs_of_a_storage_and_nothing_else(root, capsys):
    for number in (1, 2):
        evaluated(storage.join(root, f"demo-0{number}"), 60.0 + number)
    storage.write_bytes(storage.join(root, "notes", "readme.md"), b"no run")
    assert main(["leaderboard", root, "--format", "md"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "## Fine-tuning, 1 view · — (240 test samples)"
    assert [line.split(" | ")[1] for line in lines if "±" in line] == ["demo-02", "demo-01"]


def test_a_run_that_is_damaged_hides_no_other(tmp_path, capsys):
    evaluated(str(tmp_path / "demo-01"), 60.0)
    (tmp_path / "demo-02").mkdir()
    (tmp_path / "demo-02" / "config.yaml").write_text("[not, a, run]")
    assert main(["leaderboard", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "60.0 ± 0.5" in printed
    assert f"{tmp_path}/demo-02: the whole run: {tmp_path}/demo-02/config.yaml: holds no mapping" in printed


@pytest.mark.parametrize(
    ("names", "found"),
    [([], "nothing at all"), (list("abcdefg"), "a, b, c, d, e, ...")],
)
def test_a_storage_without_runs_is_told_what_was_looked_for(tmp_path, capsys, names, found):
    for name in names:
        (tmp_path / name).mkdir()
    assert main(["leaderboard", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path}: holds no runs; looked for folders with a config.yaml in them, like NAME-DIGEST, "
        f"and found {found}\n"
    )


def test_a_run_in_place_of_a_storage_is_told_apart(tmp_path, capsys):
    run = evaluated(str(tmp_path), 60.0)
    assert main(["leaderboard", run.uri]) == 2
    assert capsys.readouterr().err == (
        f"{run.uri}: is itself a run; give the folder that holds it, or `mae-dist compare {run.uri}`\n"
    )
