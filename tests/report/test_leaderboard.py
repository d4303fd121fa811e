"""Which numbers stand side by side, in which order, and what they are said to have cost."""

import io

import pytest
from rich.console import Console

from mae_dist.config.geometry import ARCHITECTURES
from mae_dist.report.differences import differences, value_words
from mae_dist.report.leaderboard import cost_words, heading, leaderboard, table, title
from mae_dist.report.markdown import differences_markdown, leaderboard_markdown
from mae_dist.report.published import DATA_SETS, PUBLISHED, known_data_set
from mae_dist.report.terminal import differences_table, leaderboard_page

MANY_CLASSES = [{"class": f"c{number}", "correct": 30, "total": 50} for number in range(1000)]
ON_IN1K = {"num_samples": 50_000, "per_class": MANY_CLASSES, "settings": {"views": "1 x 1"}}


@pytest.fixture
def board_of(report_of):
    """The leaderboard of some run directories."""
    return lambda *runs: leaderboard([report_of(run) for run in runs])


def printed(shown, *, width=200):
    console = Console(file=io.StringIO(), width=width)
    console.print(shown)
    return console.file.getvalue()


def drawn(board, *, width=200):
    return printed(leaderboard_page(board, Console(width=width)), width=width)


def group_of(board, name):
    return next(group for group in board["groups"] if group["protocol"]["name"] == name)


def test_a_group_holds_one_protocol_with_the_best_number_first(board_of, finished_run):
    board = board_of(finished_run)
    assert [title(group) for group in board["groups"]] == ["Fine-tuning, 1 view", "Linear probe, 1 view"]
    rows = group_of(board, "finetune")["rows"]
    assert [row["value"] for row in rows] == [80.0, 71.5, 55.25]
    assert [row["kind"] for row in rows] == ["published", "run", "run"]
    assert [row["start_from"] for row in rows[1:]] == ["pretrained", "random"]
    assert rows[0]["source"] == "arXiv 2203.12602, table 2"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"views": "5 x 3"}, "Fine-tuning, 5 x 3 views"),
        ({"views": "1 x 1", "labels_per_class": 20}, "Fine-tuning, 1 view, 20 labels per class"),
        ({"views": "1 x 1", "trainable_blocks": 0.5}, "Fine-tuning, last 0.5 blocks trained, 1 view"),
        ({"boxes": "true ones"}, "Fine-tuning, true boxes"),
        ({"boxes": "people.csv"}, "Fine-tuning, people found by a detector"),
    ],
)
def test_numbers_that_were_measured_otherwise_stand_in_a_group_of_their_own(
    board_of, fake_run, settings, words
):
    fake_run.write_config(evaluations=("finetune", "other"))
    fake_run.write_evaluation("finetune", "pretrained", 70.0, settings={"views": "1 x 1"})
    fake_run.write_evaluation("other", "pretrained", 60.0, protocol="finetune", settings=settings)
    groups = board_of(fake_run)["groups"]
    assert {title(group) for group in groups} == {"Fine-tuning, 1 view", words}
    assert all(len(group["rows"]) == 1 for group in groups)


def test_runs_on_other_test_samples_do_not_meet(board_of, finished_run, tmp_path):
    other = type(finished_run)(tmp_path / "other-4567")
    other.write_config(evaluations=("finetune",))
    other.write_environment(test_catalog={"uri": "clips/test.parquet", "digest": "07" * 32, "num_samples": 9})
    other.write_evaluation("finetune", "pretrained", 90.0)
    board = board_of(finished_run, other)
    assert len([group for group in board["groups"] if group["protocol"]["name"] == "finetune"]) == 2


def test_runs_on_the_same_test_samples_meet_and_what_both_cite_stands_there_once(board_of, finished_run):
    [group] = [
        group
        for group in board_of(finished_run, finished_run)["groups"]
        if group["protocol"]["name"] == "finetune"
    ]
    assert [row["kind"] for row in group["rows"]].count("published") == 1
    assert [row["kind"] for row in group["rows"]].count("run") == 4


def test_a_public_data_set_is_known_by_its_size_and_brings_the_papers_numbers(board_of, fake_run):
    fake_run.write_config(frames=1, evaluations=("linear_probe",))
    fake_run.write_evaluation("linear_probe", "pretrained", 67.1, 0.2, **ON_IN1K)
    [group] = board_of(fake_run)["groups"]
    assert heading(group) == "Linear probe, 1 view · ImageNet-1k (50,000 test samples)"
    assert [(row["value"], row["model"]) for row in group["rows"]] == [
        (76.6, "mae_huge"),
        (75.8, "mae_large"),
        (68.0, "mae_base"),
        (67.1, "mae_micro"),
    ]


@pytest.mark.parametrize("changed", [{"labels_per_class": 13}, {"views": "3 x 1"}])
def test_the_papers_numbers_stay_away_from_what_was_measured_otherwise(board_of, fake_run, changed):
    fake_run.write_config(frames=1, evaluations=("linear_probe",))
    other = ON_IN1K | {"settings": {"views": "1 x 1"} | changed}
    fake_run.write_evaluation("linear_probe", "pretrained", 67.1, 0.2, **other)
    [group] = board_of(fake_run)["groups"]
    assert [row["kind"] for row in group["rows"]] == ["run"]


def test_an_interval_is_shown_where_it_is_known_else_the_standard_error(report_of, fake_run):
    fake_run.write_config(evaluations=("finetune",))
    fake_run.write_evaluation("finetune", "pretrained", 70.0, 2.0)
    report = report_of(fake_run)
    for interval, words in ((None, "70.0 ± 2.0"), ([65.9, 73.7], "70.0 [65.9, 73.7]")):
        report["evaluations"][0]["pretrained"]["interval"] = interval
        [[value, *_]] = table(leaderboard([report])["groups"][0])[1]
        assert value == words


def test_cost_is_that_of_the_pretraining_and_of_the_evaluation(report_of, finished_run):
    report = report_of(finished_run)
    held = {"cpu_hours": 8.0, "gpu_hours": 1.5, "seconds": 60.0}
    report["cost"] = {
        "by_step": [{"name": name, **held} for name in ("pretrain", "finetune-pretrained", "finetune-random")]
    }
    rows = [row for row in group_of(leaderboard([report]), "finetune")["rows"] if row["kind"] == "run"]
    assert [row["cost"]["gpu_hours"] for row in rows] == [3.0, 1.5]
    assert [cost_words(row["cost"]) for row in rows] == ["3 GPU h", "1.5 GPU h"]


def test_cost_that_nobody_recorded_is_the_time_that_passed(board_of, finished_run):
    rows = [row for row in group_of(board_of(finished_run), "finetune")["rows"] if row["kind"] == "run"]
    assert [row["cost"]["seconds"] for row in rows] == pytest.approx([120 + 12.5, 12.5])
    assert cost_words(rows[0]["cost"]) == "2 min 12 s passed"
    assert cost_words({"gpu_hours": 0.0, "cpu_hours": 2.0, "seconds": 9.0}) == "2 CPU h"
    assert cost_words({"gpu_hours": None, "cpu_hours": None, "seconds": None}) == ""


def test_what_has_no_number_yet_is_listed_with_its_reason(board_of, fake_run):
    fake_run.write_config(evaluations=("finetune",))
    fake_run.write_done("evaluations/finetune-random", state="failed", reason="out of memory")
    board = board_of(fake_run)
    assert board["groups"] == []
    assert ("finetune from random weights", "out of memory") in [
        (entry["what"], entry["reason"]) for entry in board["unfinished"]
    ]
    assert f"  {fake_run.uri}: finetune from random weights: out of memory" in drawn(board)


def test_tables_and_markdown_show_every_row(board_of, finished_run):
    board = board_of(finished_run)
    for shown in (drawn(board), leaderboard_markdown(board)):
        for words in ["Fine-tuning, 1 view · clips/test.parquet (240 test samples)", "demo-0123"]:
            assert words in shown
        for words in ["71.5", "random weights", "published: arXiv 2203.12602, table 2", "13.33"]:
            assert words in shown


def test_brackets_and_bars_in_names_stay_text(board_of, fake_run):
    fake_run.write_config(evaluations=("[red]a|b",))
    fake_run.write_evaluation("[red]a|b", "pretrained", 70.0, protocol="finetune")
    board = board_of(fake_run)
    assert "[red]a|b" in drawn(board)
    assert r"\[red\]a\|b" in leaderboard_markdown(board)


def test_fields_that_differ_are_named_as_set_takes_them():
    one = {"storage": "a", "seed": 1, "train": {"optim": {"kind": "lars"}, "ema": None}, "evaluations": {}}
    two = {
        "storage": "b",
        "seed": 1,
        "train": {"optim": {"kind": "adamw"}, "ema": 0.9},
        "mask": {"ratio": 0.5},
    }
    found = differences([one, two])
    assert found == {
        "train.optim.kind": ["lars", "adamw"],
        "train.ema": [None, 0.9],
        "evaluations": [{}, None],
        "mask": [None, {"ratio": 0.5}],
    }
    shown = printed(differences_table(["run-1", "run-2"], found))
    assert shown.splitlines()[0].rstrip() == "Where the configs differ"
    assert "train.optim.kind" in shown
    assert "{ratio}" in shown
    assert "| train.ema | null | 0.9 |" in differences_markdown(["run-1", "run-2"], found)


def test_equal_configs_are_said_to_be_equal():
    assert differences([{"seed": 1}, {"seed": 1}]) == {}
    assert printed(differences_table(["a", "b"], {})).strip() == "The configs do not differ"
    assert differences_markdown(["a", "b"], {}) == "## The configs do not differ\n"


@pytest.mark.parametrize(("value", "words"), [(None, "null"), ([2, 8], "[2, 8]"), (True, "true"), ("a", "a")])
def test_a_value_is_written_as_set_takes_it(value, words):
    assert value_words(value) == words


@pytest.mark.parametrize("number", PUBLISHED, ids=lambda number: f"{number.data_set}-{number.value}")
def test_a_published_number_names_a_data_set_a_model_and_where_it_stands(number):
    assert number.data_set in DATA_SETS
    assert number.model in {*ARCHITECTURES, "ViT-L"}
    assert 0 < number.value < 100
    assert number.source


def test_no_two_published_numbers_are_the_same_measurement():
    measured = [
        (number.data_set, number.protocol, number.setting, number.model, number.pretraining, number.epochs)
        for number in PUBLISHED
    ]
    assert len(set(measured)) == len(measured)


@pytest.mark.parametrize("name", sorted(DATA_SETS))
def test_a_data_set_is_known_by_its_size_also_when_some_videos_are_gone(name):
    its = DATA_SETS[name]
    for num_samples in (its.num_test_samples, round(0.95 * its.num_test_samples)):
        assert known_data_set(num_classes=its.num_classes, num_test_samples=num_samples) == name
    assert known_data_set(num_classes=its.num_classes, num_test_samples=its.num_test_samples // 2) is None
    assert known_data_set(num_classes=its.num_classes + 1, num_test_samples=its.num_test_samples) is None


def test_a_test_set_of_its_own_names_the_data_set(board_of, fake_run):
    """ImageNet-Sketch has as many classes as ImageNet-1k, and about as many samples."""
    fake_run.write_config(frames=1, evaluations=("finetune.sketch",))
    settings = {"views": "1 x 1", "test_set": "s3://bucket/sketch"}
    other = ON_IN1K | {"num_samples": 50_889, "settings": settings, "protocol": "robustness"}
    fake_run.write_evaluation("finetune.sketch", "pretrained", 34.5, 0.2, **other)
    [group] = board_of(fake_run)["groups"]
    assert heading(group) == "Robustness, 1 view · s3://bucket/sketch (50,889 test samples)"
    assert len(group["rows"]) == 1


def test_of_weights_that_were_given_it_says_which_and_counts_the_evaluation_alone(board_of, fake_run):
    fake_run.write_config(evaluations=("finetune",), weights="s3://bucket/runs/long-4567")
    fake_run.write_evaluation("finetune", "pretrained", 70.0)
    fake_run.write_evaluation("finetune", "random", 60.0)
    [group] = board_of(fake_run)["groups"]
    assert [row["pretrained_on"] for row in group["rows"]] == ["s3://bucket/runs/long-4567", None]
    assert [row["cost"]["seconds"] for row in group["rows"]] == [12.5, 12.5]


def test_a_narrow_terminal_shows_the_number_and_whose_it_is(board_of, finished_run):
    board = board_of(finished_run)
    assert "evaluated" in drawn(board, width=160)
    narrow = drawn(board, width=102)
    assert "evaluated" not in narrow.splitlines()[1]
    for words in ["published: arXiv 2203.12602, table 2", "videomae_micro", "demo-0123", "random weights"]:
        assert words in narrow
