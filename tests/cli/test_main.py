"""The command line: what it prints, and how it refuses."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys

import pytest
import yaml

from mae_dist.cli.main import COMMANDS, main
from mae_dist.config.geometry import ARCHITECTURES
from mae_dist.config.load import from_dict, load

SHOW = ["config", "show", "pretrain/in1k", "--set", "data.catalog=images"]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_subcommand_has_its_module_and_its_help(name, capsys):
    module = importlib.import_module(COMMANDS[name][1])
    assert callable(module.run)
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert COMMANDS[name][0][1:] in " ".join(capsys.readouterr().out.split())


def test_show_prints_a_recipe_that_loads_to_the_same_config(capsys):
    assert main([*SHOW, "--set", "mask.ratio=0.8"]) == 0
    printed = capsys.readouterr().out
    expected = load("pretrain/in1k", ["data.catalog=images", "mask.ratio=0.8"])
    assert from_dict(yaml.safe_load(printed)) == expected
    assert "# train: peak learning rate 0.0024 = base_lr * global_batch / 256\n" in printed
    assert "# evaluations.linear_probe: peak learning rate 6.4\n" in printed


def test_a_config_mistake_is_one_screen_and_status_2(capsys):
    assert main([*SHOW, "--set", "sed=3", "--set", "mask.ratio=2"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "pretrain/in1k: 2 problem(s)",
        "  sed: no such field; did you mean 'seed'? (from --set sed=3)",
        "  mask: ratio must lie strictly between 0 and 1, got 2.0 (from --set mask.ratio=2)",
    ]


def test_an_unknown_command_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["confg"])
    error = capsys.readouterr().err
    assert all(name in error for name in COMMANDS)


def test_fields_print_one_line_each_when_piped(capsys):
    assert main(["config", "fields"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {len(line) for line in lines} == {4}
    assert ["train.global_batch", "integer > 0", "required"] in [line[:3] for line in lines]


def test_fields_are_tables_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["config", "fields"]) == 0
    printed = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert "evaluations.NAME.train.optim" in printed
    assert "Which tokens are hidden from the encoder." in printed
    assert max(map(len, printed.splitlines())) <= 100


def test_sizes_are_a_table_or_json(capsys):
    assert main(["sizes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(ARCHITECTURES)
    assert main(["sizes"]) == 0
    printed = capsys.readouterr().out
    for row in rows:
        (line,) = [line for line in printed.splitlines() if line.split()[:1] == [row["name"]]]
        assert f"{row['parameters'] / 1e6:.2f} M" in line
        assert f"{row['finetune_multiply_adds'] / 1e9:.2f} G" in line


def test_a_reader_that_stops_early_is_no_error():
    code = "import sys; from mae_dist.cli.main import main; sys.exit(main(['config', 'fields'] * 1))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, error = process.communicate(timeout=60)
    assert error == b""
    assert process.returncode == 0
