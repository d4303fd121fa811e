"""The table in the terminal shows the numbers of the page."""

import io

from rich.console import Console

from mae_dist.report.terminal import results_table


def printed(report):
    console = Console(file=io.StringIO(), width=120)
    console.print(results_table(report))
    return console.file.getvalue()


def test_the_table_shows_every_evaluation_beside_its_baseline(report_of, finished_run):
    text = printed(report_of(finished_run))
    for words in ["demo (complete)", "41.2 ± 2.0", "39.8 ± 2.0", "+1.5 ± 2.8", "no gain shown"]:
        assert words in text
    for words in ["71.5 ± 1.5", "80.0", "12,800 samples", "error 0.012", "MFU 25.0 %", "1 fault"]:
        assert words in text


def test_brackets_from_outside_are_printed_and_a_failure_is_explained(report_of, fake_run):
    fake_run.write_config(evaluations=("[red]probe[bold]",), name="[bold]x")
    fake_run.write_done("evaluations/[red]probe[bold]-random", state="failed", reason="[/oops] no memory")
    text = printed(report_of(fake_run))
    for words in ["[bold]x (partial)", "[red]probe[bold]", "failed", "not run", "[/oops] no memory"]:
        assert words in text
