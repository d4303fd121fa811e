"""The report as Markdown has the numbers of the page."""

import pytest

from mae_dist.report.markdown import report_markdown, table, text


def test_every_evaluation_is_a_row_with_its_gain_and_the_published_number(report_of, finished_run):
    written = report_markdown(report_of(finished_run))
    assert written.startswith("# demo (complete)\n\n## Evaluations\n\n")
    row = (
        r"| finetune | Top-1 | 71.5 ± 1.5 \[68.6, 74.4\] | 55.2 ± 2.0 \[51.3, 59.2\] | +16.2 ± 2.5 | gain | "
    )
    assert f"{row}80.0 (arXiv 2203.12602, table 2) |" in written.splitlines()
    for line in [
        "- loss: 0.534 → 0.43",
        "- error of hidden patches: 0.012",
        "- command: python jobs/demo.py",
    ]:
        assert line in written.splitlines()
    assert "## Missing" not in written
    assert "Early warning" not in written
    again = written.partition("## The same again\n\n")[2].splitlines()
    assert "    python jobs/demo.py" in again


def test_warnings_come_first_and_what_was_lost_is_told(report_of, finished_run):
    cost = {"gpu_hours": 12.0, "cpu_hours": 96.0, "lost_gpu_hours": 1.5, "lost_cpu_hours": 12.0}
    report = report_of(finished_run) | {
        "warnings": ["linear_probe fell"],
        "cost": cost | {"wall_seconds": 7200.0, "busy_seconds": 5400.0},
    }
    lines = report_markdown(report).splitlines()
    assert lines[2] == "**Early warning.** linear_probe fell"
    assert "- GPU hours reserved: 12, of which 1.5 in attempts that failed" in lines
    assert "- CPU hours reserved: 96, of which 12 in attempts that failed" in lines
    assert "- wall clock: 2 h, at work 1 h 30 min of it" in lines


def test_what_is_missing_is_listed_with_its_reason(report_of, fake_run):
    fake_run.write_config(evaluations=("finetune",))
    fake_run.write_done("evaluations/finetune-random", state="failed", reason="<b> no | memory")
    written = report_markdown(report_of(fake_run))
    assert "| finetune | Top-1 | not run | failed | — |  | — |" in written.splitlines()
    assert r"- finetune from random weights: \<b\> no \| memory" in written.splitlines()


@pytest.mark.parametrize("hostile", ["a|b", "line\nbreak", "<img src=x>", "[a](b)", "`code`", "\\"])
def test_text_from_outside_stays_in_its_cell(hostile):
    lines = table(["a", "b"], [[hostile, "x"]]).splitlines()
    assert len(lines) == 3
    assert lines[2].endswith(" | x |")
    unescaped = lines[2].replace("\\\\", "").replace("\\|", "")
    assert unescaped.count("|") == 3
    assert "<img" not in lines[2].replace("\\<", "")
    assert text("plain words, 1.5 ± 2 %") == "plain words, 1.5 ± 2 %"
