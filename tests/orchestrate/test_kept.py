"""Which kept checkpoints are evaluated, by which steps, and when those run."""

from __future__ import annotations

from pathlib import Path

import pytest

from mae_dist import storage
from mae_dist.config.load import load
from mae_dist.config.schema import RunConfig
from mae_dist.orchestrate.experiment import build_steps, describe_kept, find_kept
from mae_dist.orchestrate.kept import firsts
from mae_dist.orchestrate.step import SPARE, Step
from tests.orchestrate.stand_in import DONE, StandIn, run, step

INPUTS = {"catalog": "digest of the training samples", "test_catalog": "digest of the test samples"}
EVERY = "evaluations.linear_probe.checkpoints=[last, every 100 steps]"
KEPT = "checkpoint.keep_every=100 steps"


def demo(*settings: str) -> RunConfig:
    """280 steps, a checkpoint every 60."""
    return load("pretrain/demo", ["storage=runs", *settings])


def found(folder: Path, config: RunConfig, saved: list[int]) -> dict[str, Step]:
    """What is found in a run directory with these checkpoints."""
    for at in saved:
        storage.write_bytes(f"{folder}/checkpoints/step-{at:09d}/COMPLETE", b"")
    storage.write_json(f"{folder}/catalog/train/DONE.json", {"summary": {"num_samples": 512}})
    steps = build_steps(config, INPUTS, use_gpu=False)
    return {its.name: its for its in find_kept(config, INPUTS, steps, uri=str(folder), use_gpu=False)()}


def test_the_first_checkpoint_of_every_period_but_the_first_one_is_meant():
    assert firsts([280, 240, 180, 120, 60], every=100) == [120, 240]
    assert firsts([], every=100) == []


def test_every_kept_checkpoint_but_the_last_has_its_weights_and_its_probe(tmp_path):
    steps = found(tmp_path, demo(KEPT, EVERY), [60, 120, 180, 240, 280])
    assert list(steps) == [
        *("weights@120", "linear_probe-pretrained@120", "weights@240", "linear_probe-pretrained@240")
    ]
    probe = steps["linear_probe-pretrained@120"]
    assert [needed.name for needed in probe.needs] == ["catalog", "test_catalog", "weights@120"]
    assert probe.output == "evaluations/linear_probe-pretrained@120"
    assert {its.priority for its in steps.values()} == {SPARE}
    assert {its.patience.retries for its in steps.values()} == {2}


def test_a_probe_on_features_extracts_them_from_its_own_checkpoint(tmp_path):
    knn = "evaluations.knn={protocol: knn, workers: 1, checkpoints: [last, every 100 steps]}"
    steps = found(tmp_path, demo(KEPT, knn), [120])
    [weights, features, probe] = steps.values()
    assert features.name.endswith("-pretrained@120")
    assert [needed.name for needed in features.needs] == ["catalog", "test_catalog", weights.name]
    assert probe.name == "knn-pretrained@120"
    assert features.name in [needed.name for needed in probe.needs]


def test_nothing_is_looked_for_where_nobody_asks(tmp_path):
    assert found(tmp_path, demo(KEPT), [120, 240]) == {}


def test_another_pretraining_or_protocol_makes_another_probe(tmp_path):
    def key(*settings: str) -> str:
        return found(tmp_path, demo(KEPT, EVERY, *settings), [120])["linear_probe-pretrained@120"].key

    assert key("seed=1") != key()
    assert key("evaluations.linear_probe.head.dropout=0.1") != key()
    assert key("resources.workers=1") == key()


def test_asking_for_more_checkpoints_repeats_nothing_else():
    before = {its.name: its.key for its in build_steps(demo(), INPUTS, use_gpu=False)}
    assert {its.name: its.key for its in build_steps(demo(KEPT, EVERY), INPUTS, use_gpu=False)} == before


def test_a_dry_run_says_what_is_evaluated_on_the_way():
    [line] = describe_kept(demo(KEPT, EVERY))
    assert line.split() == [
        *("linear_probe-pretrained@STEP", "every", "100", "steps", "of", "the", "pretraining,"),
        *("on", "what", "is", "spare"),
    ]
    assert describe_kept(demo()) == []


@pytest.mark.parametrize("wait_share", [0.0, 0.5])
def test_what_is_found_runs_beside_a_pretraining_that_has_its_data_and_else_after_it(tmp_path, wait_share):
    launcher = StandIn()
    pretrain = step("pretrain", (100.0, {}), cpus=2, priority=20, saves=True)
    probe = step("probe", DONE, priority=SPARE)

    def show(statuses):
        if launcher.now == 0.0:
            progress = {"step": 1, "total_steps": 9, "data_wait_share": wait_share}
            storage.write_json(f"{tmp_path}/steps/pretrain/progress.json", progress)

    ended = run(
        tmp_path,
        launcher,
        pretrain,
        step("report", always=True),
        show=show,
        find=lambda: [probe] if launcher.now > 20.0 else [],
    )
    assert [status.state for status in ended.values()] == ["done"] * 3
    [probed], [reported] = launcher.times("probe"), launcher.times("report")
    assert (probed < 40.0) == (wait_share == 0.0)
    assert reported >= 100.0
    assert reported > probed


def test_a_checkpoint_that_is_found_when_the_pretraining_ends_is_evaluated_before_the_report(tmp_path):
    launcher = StandIn()
    probe = step("probe", DONE, priority=SPARE)
    steps = [step("pretrain", (5.0, {})), step("report", always=True)]
    run(tmp_path, launcher, *steps, find=lambda: [probe] if launcher.now >= 5.0 else [])
    assert launcher.times("report")[0] > launcher.times("probe")[0]
