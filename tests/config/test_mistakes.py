"""Every mistake at once, each with who made it and what would be right."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest

from mae_dist.config.load import from_dict, load, to_dict
from mae_dist.config.problems import ConfigError
from mae_dist.config.tree import recipe_names
from tests.config.small import CATALOG, SMALL, mistakes

KINDS = "random, block, grid, tube, multi_block, frame, causal"


def test_the_example_of_the_style_guide(write):
    recipe = write(SMALL.replace("0.75", "1.5"), "k400.yaml")
    assert mistakes(recipe, "train.optim.warmup=3").splitlines() == [
        "k400.yaml: 2 problem(s)",
        "  train.optim.warmup: no such field; did you mean 'train.warmup'? (from --set train.optim.warmup=3)",
        "  mask: ratio must lie strictly between 0 and 1, got 1.5 (from k400.yaml:4)",
    ]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("sed=3", "sed: no such field; did you mean 'seed'?"),
        ("base_lr=1", "base_lr: no such field; did you mean 'train.optim.base_lr'?"),
        ("optim.kind=lars", "optim: no such field; did you mean 'train.optim'?"),
        ("mask.qqq=1", "mask.qqq: no such field; there are kind, ratio"),
        ("evaluations.finetune.micro_batch=1", "did you mean 'evaluations.finetune.train.micro_batch'?"),
        ("mask.kind=tub", f"mask.kind: must be one of {KINDS}, got 'tub'; did you mean 'tube'?"),
        ("model.size=huge", "model.size: must be one of mae_nano, mae_micro, "),
        ("seed=many", "seed: must be a whole number, got 'many'"),
        ("seed=1.5", "seed: must be a whole number, got 1.5"),
        ("seed=-1", "seed: must be at least 0, got -1"),
        ("seed=true", "seed: must be a number, got true"),
        ("seed={a: 1}", "seed: must be a whole number, got a mapping"),
        ("train.micro_batch=0", "train.micro_batch: must be greater than 0, got 0"),
        ("train.optim.base_lr=fast", "train.optim.base_lr: must be a number, got 'fast'"),
        ("train.optim.base_lr=null", "train.optim.base_lr: must be a number, got null"),
        ("train.optim.base_lr=.nan", "train.optim.base_lr: must be a finite number, got nan"),
        ("input.std=[1, 1, .inf]", "input.std: must be a finite number, got inf"),
        ("augment.flip=perhaps", "augment.flip: must be true or false, got 'perhaps'"),
        ("augment.erasing=2", "augment.erasing: must be at most 1, got 2"),
        ("data.limits.seconds=0", "data.limits.seconds: must be greater than 0, got 0"),
        ("name=12", "name: must be text (in quotes if it looks like something else), got 12"),
        ("mask=tube", "mask: must be a mapping of fields, got 'tube'"),
        ("mask=null", "mask: must be a mapping of fields, got null"),
        ("evaluations=none", "evaluations: must be a mapping of names, got 'none'"),
        (
            "evaluations.finetune=no thanks",
            "evaluations.finetune: must be a mapping of fields, got 'no thanks'",
        ),
        (
            "evaluations.finetune.protocol=knnn",
            "evaluations.finetune.protocol: must be one of linear_probe, finetune",
        ),
        ("input.mean=0.5", "input.mean: must be a list, got 0.5"),
        (
            "input.mean=[0.5, 0.5]",
            "input.mean: must have one value for each of input.channels = 3, got [0.5, 0.5]",
        ),
        ("input.mean=[1, 2, x]", "input.mean: must be a number, got 'x'"),
        (
            "train.length=20",
            "train.length: a duration is a number and its unit, like '20 epochs' or '300 steps'",
        ),
        ("train.length=1.5 steps", "train.length: steps must be a whole number, got '1.5 steps'"),
        ("seed", "a setting is field.name=value, like mask.ratio=0.75 (from --set seed)"),
        ("=3", "a setting is field.name=value"),
        ("mask..ratio=3", "a setting is field.name=value"),
        ("seed=[1", "not valid YAML: "),
        ("extends=pretrain/in2k", "no recipe 'pretrain/in2k'; did you mean 'pretrain/in1k'?"),
        ("evaluations.finetune.extends=[a, b]", "extends: must be the name of one recipe"),
    ],
)
def test_a_mistake_says_what_would_be_right_and_who_made_it(setting, problem):
    message = mistakes("pretrain/in1k", CATALOG, setting)
    assert problem in message
    assert message.startswith("pretrain/in1k: 1 problem(s)\n")
    assert f"(from --set {setting})" in message


def test_all_mistakes_come_together_whatever_finds_them(write):
    recipe = write(
        SMALL.replace("images", "[1, 2]").replace("height: 32", "height: 30").replace("global_batch: 64", "")
        + "seed: -1\nlogs: {every: 5}\nmask: {kind: tubes}\n"
        + "evaluations:\n  e: {protocol: linear_probe, head: {mixup: 0.5}, train: {length: 3}}\n"
    )
    lines = mistakes(recipe, "seed").splitlines()
    assert lines[0].startswith("run.yaml: ")
    for start in [
        "a setting is field.name=value",
        "mask: given twice, in lines 4 and 13 (from run.yaml:13)",
        "logs: no such field; did you mean 'log'? (from run.yaml:12)",
        "seed: must be at least 0, got -1 (from run.yaml:11)",
        "input.height: must be a multiple of 4, the patch of mae_micro, got 30; 28 or 32 would do",
        f"mask.kind: must be one of {KINDS}, got 'tubes'; did you mean 'tube'? (from run.yaml:13)",
        "data.catalog: must be text",
        "train.global_batch: required; give --set train.global_batch=VALUE",
        "evaluations.e.train.length: a duration is a number and its unit",
        "evaluations.e.train.optim.base_lr: required",
        "evaluations.e.head.mixup: is not used by linear_probe",
    ]:
        assert any(line.startswith(f"  {start}") for line in lines), start


def test_what_an_evaluation_lacks_is_listed_field_by_field():
    message = mistakes("pretrain/in1k", CATALOG, "evaluations.mine={}")
    assert [line.split(":")[0].strip() for line in message.splitlines()[1:]] == [
        "evaluations.mine.protocol",
        "evaluations.mine.train.length",
        "evaluations.mine.train.global_batch",
        "evaluations.mine.train.micro_batch",
        "evaluations.mine.train.optim.base_lr",
    ]


def test_many_mistakes_still_fit_on_one_screen(write):
    recipe = write(SMALL + "".join(f"unknown_{i}: 1\n" for i in range(200)))
    lines = mistakes(recipe).splitlines()
    assert lines[0] == "run.yaml: 200 problem(s)"
    assert lines[-1] == "  ... and 170 more"
    assert len(lines) == 32


def test_an_unknown_recipe_is_answered_with_the_known_ones(write):
    assert "did you mean 'pretrain/k400'?" in mistakes("pretrain/k40")
    assert all(name in mistakes("zzz") for name in recipe_names())
    assert "no recipe 'gone.yaml'" in mistakes("gone.yaml")


def test_an_evaluation_is_not_taken_for_a_run():
    assert "use it in a run with --set evaluations.NAME.extends=probe/in1k" in mistakes("probe/in1k")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1, 2\nb: 3\n", "not valid YAML: "),
        ("- a\n- b\n", "a recipe is a mapping of fields to values (from run.yaml:1)"),
        ("", "a recipe is a mapping of fields to values"),
        ("a: &a [*a]\n", "an anchor contains itself"),
        (
            "a: !!python/object:os.system {}\n",
            "not valid YAML: no such tag, tag:yaml.org,2002:python/object:os.system, line 1",
        ),
        ("a: 1\n---\na: 2\n", "not valid YAML: "),
        ("a: \x00\n", "not valid YAML: "),
        ("name: a\nname: b\n", "name: given twice, in lines 1 and 2 (from run.yaml:2)"),
        ("on: 3\n", "on: a field's name must be text; put it in quotes"),
        ("extends: run.yaml\n", "goes in a circle: run.yaml -> run.yaml (from run.yaml:1)"),
        ("seed: 1\nmask: {extends: gone.yaml}\n", "extends: no recipe 'gone.yaml'; there are augment/"),
    ],
)
def test_a_file_that_is_no_recipe_is_named_with_the_line(write, text, problem):
    assert problem in mistakes(write(text))


def test_a_circle_of_files_is_named(write):
    write("extends: b.yaml\n", "a.yaml")
    write("model:\n  extends: a.yaml\n", "b.yaml")
    assert "goes in a circle: a.yaml -> b.yaml -> a.yaml (from b.yaml:2)" in mistakes("a.yaml")


def test_a_file_that_cannot_be_read_is_named(write):
    Path(write("", "binary.yaml")).write_bytes(b"name: \xff\xfe\n")
    assert "binary.yaml cannot be read: is not UTF-8 text" in mistakes("binary.yaml")


def test_a_date_that_is_none_is_text(write):
    assert load(write(SMALL), ["name=2024-13-45"]).name == "2024-13-45"


def test_a_saved_config_with_mistakes_names_its_label():
    values = to_dict(load("pretrain/in1k", [CATALOG]))
    values["seed"] = "x"
    with pytest.raises(ConfigError, match=r"config\.yaml of the run: 1 problem"):
        from_dict(values, label="config.yaml of the run")


def test_a_config_error_survives_the_way_between_processes():
    with pytest.raises(ConfigError) as caught:
        load("pretrain/in1k", ["sed=3"])
    assert str(copy.copy(caught.value)) == str(caught.value)  # copies as pickle does


@pytest.mark.parametrize("setting", [CATALOG, "sed=3"])
def test_a_recipe_is_answered_without_anything_slow(setting):
    """These imports are what would take seconds; without them the answer takes a fraction of one."""
    code = (
        "import sys; from mae_dist.cli.main import main; main(sys.argv[1:]); "
        "sys.exit(str(sorted({'torch', 'ray', 'numpy', 'pyarrow', 's3fs', 'rich'} & sys.modules.keys())))"
    )
    command = [sys.executable, "-c", code, "config", "show", "pretrain/k400", "--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.splitlines()[-1] == "[]"
    assert ("mae_base" in done.stdout) == (setting == CATALOG)
