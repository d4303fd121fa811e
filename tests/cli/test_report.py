"""`mae-dist report RUN`."""

from __future__ import annotations

import json

import pytest
import yaml

from mae_dist.cli.main import main


def test_the_report_of_an_unfinished_run_is_written_and_shown(tmp_path, capsys):
    run = tmp_path / "demo-0123"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump({"name": "demo", "evaluations": {"probe": {}}}))
    assert main(["report", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "demo (partial)" in printed
    assert f"report   {run}/report/index.html\nas data  {run}/report/report.json\n" in printed
    assert json.loads((run / "report" / "report.json").read_text())["state"] == "partial"
    assert (run / "report" / "index.html").stat().st_size > 1000


def test_a_place_that_is_no_run_is_one_screen_and_status_2(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"{tmp_path}: not a run directory, config.yaml is missing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "begin"), [("md", "# demo (partial)\n"), ("json", "{\n"), ("html", "<!doctype html>\n")]
)
def test_a_report_that_is_printed_is_that_alone_and_nothing_is_written(tmp_path, capsys, form, begin):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"name": "demo", "evaluations": {"probe": {}}}))
    assert main(["report", str(tmp_path), "--format", form]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(begin)
    assert printed.endswith("\n")
    if form == "json":
        assert json.loads(printed)["state"] == "partial"
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
