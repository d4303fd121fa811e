"""Which steps evaluations of frozen features are."""

from __future__ import annotations

from tests.orchestrate.test_experiment import INPUTS, demo, keys_of, steps_of

PROBE = "evaluations.probe={protocol: feature_probe}"
KNN = "evaluations.knn={protocol: knn}"
TOKENS = "evaluations.attentive={protocol: attentive_probe, attentive: {heads: 3}}"


def features_of(steps, name: str) -> list[str]:
    return [step.name for step in steps[name].needs if step.name.startswith("features-")]


def test_evaluations_of_the_same_features_share_their_extraction():
    steps = steps_of(demo(PROBE, KNN, TOKENS))
    assert features_of(steps, "probe-random") == features_of(steps, "knn-random")
    assert features_of(steps, "probe-random") != features_of(steps, "probe-pretrained")
    assert features_of(steps, "attentive-random") != features_of(steps, "knn-random")
    assert sum(name.startswith("features-") for name in steps) == 4


def test_the_baseline_does_not_wait_for_weights_but_for_the_pretraining_to_end():
    steps = steps_of(demo(PROBE))
    for start, needs in [("random", []), ("pretrained", ["pretrain"])]:
        [name] = features_of(steps, f"probe-{start}")
        extraction = steps[name]
        assert [step.name for step in extraction.needs] == ["catalog", "test_catalog", *needs]
        assert [step.name for step in extraction.after] == (["pretrain"] if not needs else [])


def test_other_heads_repeat_the_heads_and_other_layers_the_extraction():
    before = keys_of(demo(PROBE))
    heads = keys_of(demo(PROBE, "evaluations.probe.heads.batch=64"))
    assert {name for name in before if before[name] != heads[name]} == {"probe-pretrained", "probe-random"}
    layers = keys_of(demo(PROBE, "evaluations.probe.features.layers=[1]"))
    assert not {name for name in layers if name.startswith("features-")} & before.keys()


def test_other_samples_repeat_the_extraction():
    before, after = keys_of(demo(PROBE)), keys_of(demo(PROBE), INPUTS | {"test_catalog": "other"})
    assert all(before[name] != after[name] for name in before if name.startswith("features-"))


def test_an_extraction_holds_workers_and_a_decode_task_and_heads_one_worker():
    config = demo(PROBE, "resources.workers=2", "resources.cpus_per_worker=1", "data.cpus_per_task=0.5")
    steps = steps_of(config, use_gpu=True)
    [name] = features_of(steps, "probe-random")
    assert (steps[name].demand.cpus, steps[name].demand.gpus) == (2.5, 2)
    assert (steps["probe-random"].demand.cpus, steps["probe-random"].demand.gpus) == (1, 1)
