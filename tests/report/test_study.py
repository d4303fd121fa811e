"""The table of a study: published, ours and the difference, and the files that are written of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mae_dist.config.studies import ColumnConfig, StudyConfig, ValueConfig
from mae_dist.report.study import words
from mae_dist.report.study.publish import study_uri, write_study
from mae_dist.report.study.table import Place, study_table

STUDY = StudyConfig(
    title="Mask & <loss>",
    source="arXiv 2111.06377, table 1",
    axis=("mask",),
    heading="mask",
    default="tube",
    columns={
        "finetune": ColumnConfig(
            heading="fine-tuning", data="in1k", recipe="big", mini="small", evaluation="finetune"
        ),
        "linear": ColumnConfig(
            heading="linear probe", data="in1k", recipe="big", mini="small", evaluation="linear_probe"
        ),
    },
    values={
        "tube": ValueConfig(published={"finetune": 70.0, "linear": 40.0}),
        "random": ValueConfig(
            settings=("mask.kind=random",),
            published={"finetune": 68.0, "linear": 38.0},
            approximate=("linear",),
        ),
        "PCA": ValueConfig(published={"finetune": 65.0}, remark="96 numbers", unavailable="not here"),
    },
)


@pytest.fixture
def table(finished_run):
    """The table of STUDY: one value has run, another has not, the third cannot."""

    def table(scale: str = "full") -> dict:
        run = finished_run.uri
        places = {
            ("tube", "finetune"): Place(run_directory=run, evaluation="finetune", start_from="pretrained"),
            ("tube", "linear"): Place(run_directory=run, evaluation="linear_probe", start_from="pretrained"),
            ("random", "finetune"): Place(run_directory=run, evaluation="finetune", start_from="random"),
            ("random", "linear"): Place(
                run_directory=f"{run}-not", evaluation="linear_probe", start_from="pretrained"
            ),
        }
        return study_table(
            "mae/mask",
            STUDY,
            scale=scale,
            places=places,
            reasons={("PCA", key): "not available: not here" for key in STUDY.columns},
            samples={"finetune": "drawn://glyphs", "linear": "drawn://glyphs"},
            created=datetime(2025, 1, 2, tzinfo=UTC),
        )

    return table


def cells_of(table: dict, column: str) -> dict[str, dict]:
    return {row["label"]: row["cells"][column] for row in table["rows"]}


def test_ours_stands_beside_the_published_number_with_the_difference(table):
    cells = cells_of(table(), "finetune")
    assert [cells["tube"][part] for part in ("state", "value", "standard_error")] == ["done", 71.5, 1.5]
    assert cells["tube"]["difference"] == pytest.approx(1.5)
    assert cells["random"]["value"] == 55.25


def test_every_value_stands_against_the_papers_choice(table):
    cells = cells_of(table(), "finetune")
    assert cells["random"]["effect"] == pytest.approx(55.25 - 71.5)
    assert cells["random"]["published_effect"] == pytest.approx(-2.0)
    assert cells["PCA"]["published_effect"] == pytest.approx(-5.0)
    assert cells["PCA"]["effect"] is None
    assert cells["tube"]["effect"] is None


def test_what_has_not_run_and_what_cannot_say_so(table):
    cells = cells_of(table(), "linear")
    assert (cells["random"]["state"], cells["random"]["reason"]) == ("missing", "not run yet")
    assert (cells["PCA"]["state"], cells["PCA"]["reason"]) == ("none", "not available: not here")
    assert words.without_number(table()) == {
        "not run yet": ["random, linear probe"],
        "not available: not here": ["PCA"],
    }


def test_an_evaluation_that_failed_says_why(table, finished_run):
    folder = "evaluations/finetune-pretrained"
    (finished_run.root / folder / "DONE.json").unlink()
    (finished_run.root / folder / "result.json").unlink()
    finished_run.write(
        f"{folder}/FAILED.json", json.dumps({"state": "failed", "reason": "out of memory", "seconds": 1.0})
    )
    cell = cells_of(table(), "finetune")["tube"]
    assert (cell["state"], cell["value"]) == ("failed", None)
    assert "out of memory" in cell["reason"]


def test_the_table_in_words(table):
    headings, rows = words.main_cells(table())
    assert headings[:4] == ["mask", "fine-tuning: published", "ours", "difference"]
    assert rows[0][:4] == ["tube (the paper's choice)", "70.0", "71.5 ± 1.5", "+1.5"]
    assert rows[1][4:6] == ["≈ 38.0", "not run"]
    assert rows[2][-1] == "96 numbers"


@pytest.mark.parametrize("scale", ["mini", "full"])
def test_the_scale_is_said_plainly(table, scale):
    text = words.study_markdown(table(scale))
    assert text.startswith(f"# Mask & \\<loss\\> ({scale})")
    assert ("not the paper's" in text) == (scale == "mini")
    assert ("drawn://glyphs" in text) == (scale == "mini")


def test_the_directory_holds_the_table_the_plot_and_a_page_that_needs_nothing_else(
    table, tmp_path, read_page
):
    uri = study_uri(str(tmp_path), "mae/mask", "mini")
    write_study(uri, table("mini"))
    folder = Path(uri)
    assert folder.name == "study-mae-mask-mini"
    assert json.loads((folder / "table.json").read_text()) == table("mini")
    assert "| tube (the paper's choice) | 70.0 | 71.5 ± 1.5 | +1.5 |" in (folder / "table.md").read_text()
    page = read_page((folder / "index.html").read_text())
    assert "mae_dist study Mask & <loss> mini arXiv 2111.06377" in page.text
    assert "not available: not here" in page.text
    # Links lead to its own parts and to the runs beside it; nothing is loaded.
    assert {address[:1] for address in page.addresses} == {"#", "."}
    assert "../demo-0123/report/index.html" in page.addresses
    assert page.tags.count("svg") == 1


def test_the_plot_stands_alone_in_colours_of_its_own(table, tmp_path):
    write_study(str(tmp_path), table())
    text = (tmp_path / "plot.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "var(" not in text
    assert "fine-tuning, %: published and ours" in text


def test_at_mini_scale_the_two_are_drawn_apart(table, tmp_path):
    write_study(str(tmp_path), table("mini"))
    text = (tmp_path / "plot.svg").read_text()
    assert "fine-tuning, %: published<" in text
    assert "fine-tuning, %: ours<" in text
