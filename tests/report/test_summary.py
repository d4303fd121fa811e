"""What report.json says about finished, failed, killed and running runs."""

import json
import math

import pytest

from mae_dist import storage
from mae_dist.report.pretraining import training_seconds
from mae_dist.report.publish import write_report
from mae_dist.report.run_files import NotARunError


def evaluation(report, name):
    return next(entry for entry in report["evaluations"] if entry["name"] == name)


def test_a_finished_run_is_complete_and_its_twin_lies_beside_the_page(finished_run):
    report = write_report(finished_run.uri)
    assert report["state"] == "complete"
    assert report["unfinished"] == []
    assert report["schema"] == 1
    assert json.loads((finished_run.root / "report/report.json").read_text()) == report


def test_the_gain_is_the_difference_and_its_error_adds_in_squares(report_of, finished_run):
    entry = evaluation(report_of(finished_run), "finetune")
    assert entry["gain"] == pytest.approx(71.5 - 55.25)
    assert entry["gain_standard_error"] == pytest.approx(math.sqrt(1.5**2 + 2.0**2))
    assert entry["published"] == {"value": 80.0, "source": "arXiv 2203.12602, table 2"}
    assert entry["pretrained"] == {
        "state": "done",
        "reason": None,
        "value": 71.5,
        "standard_error": 1.5,
        "interval": [71.5 - 1.96 * 1.5, 71.5 + 1.96 * 1.5],
        "top5": 90.0,
        "top5_interval": None,
        "single_view": 50.0,
        "num_samples": 240,
        "seconds": 12.5,
        "faults": 0,
    }


@pytest.mark.parametrize(
    ("pretrained", "verdict"), [(55.9, "gain"), (55.0, "none"), (45.0, "none"), (44.1, "loss")]
)
def test_a_gain_counts_as_one_beyond_two_standard_errors(report_of, fake_run, pretrained, verdict):
    fake_run.write_config(evaluations=("linear_probe",))
    fake_run.write_evaluation("linear_probe", "pretrained", pretrained, 2.0)
    fake_run.write_evaluation("linear_probe", "random", 50.0, 1.5)
    assert evaluation(report_of(fake_run), "linear_probe")["verdict"] == verdict


def test_training_from_scratch_by_a_recipe_of_its_own_is_the_baseline_where_it_is_named(report_of, fake_run):
    fake_run.write_config(
        evaluations={
            "finetune": {"protocol": "finetune", "start_from": ["pretrained"], "baseline": "scratch"},
            "scratch": {"protocol": "finetune", "start_from": ["random"]},
        }
    )
    fake_run.write_evaluation("finetune", "pretrained", 60.0, 1.5)
    fake_run.write_evaluation("scratch", "random", 50.0, 2.0)
    report = report_of(fake_run)
    entry, scratch = evaluation(report, "finetune"), evaluation(report, "scratch")
    assert (entry["compared_with"], entry["baseline"], entry["random"]) == (
        "scratch",
        scratch["random"],
        None,
    )
    assert (entry["gain"], entry["gain_standard_error"], entry["verdict"]) == (10.0, 2.5, "gain")
    assert (scratch["compared_with"], scratch["baseline"]["value"], scratch["gain"]) == (None, 50.0, None)


def test_classes_carry_both_accuracies_and_give_the_chance_level(report_of, fake_run):
    fake_run.write_config(evaluations=("linear_probe",))
    classes = [{"class": "a", "correct": 45, "total": 60}, {"class": "b", "correct": 5, "total": 20}]
    fake_run.write_evaluation("linear_probe", "pretrained", 62.5, per_class=classes)
    fake_run.write_evaluation("linear_probe", "random", 60.0, per_class=classes[:1])
    entry = evaluation(report_of(fake_run), "linear_probe")
    assert entry["chance"] == 75.0
    assert entry["per_class"] == [
        {"class": "a", "total": 60, "pretrained": 75.0, "random": 75.0},
        {"class": "b", "total": 20, "pretrained": 25.0, "random": None},
    ]


def test_a_failed_evaluation_makes_the_report_partial_and_keeps_its_reason(report_of, fake_run):
    fake_run.write_config(evaluations=("linear_probe",))
    fake_run.write_evaluation("linear_probe", "pretrained", 41.0)
    fake_run.write_done("evaluations/linear_probe-random", state="failed", reason="out of memory")
    report = report_of(fake_run)
    entry = evaluation(report, "linear_probe")
    assert report["state"] == "partial"
    assert {"what": "linear_probe from random weights", "reason": "out of memory"} in report["unfinished"]
    assert entry["random"]["state"] == "failed"
    assert entry["random"]["reason"] == "out of memory"
    assert entry["random"]["value"] is None
    assert entry["gain"] is None
    assert entry["verdict"] is None


def test_a_result_left_by_an_earlier_try_of_a_failed_evaluation_does_not_count(report_of, fake_run):
    fake_run.write_config(evaluations=("linear_probe",))
    fake_run.write_evaluation("linear_probe", "pretrained", 41.0)
    fake_run.write_done("evaluations/linear_probe-pretrained", state="failed", reason="killed")
    assert evaluation(report_of(fake_run), "linear_probe")["pretrained"]["value"] is None


@pytest.mark.parametrize("broken", ["{", "[]"])
def test_an_unreadable_result_counts_as_failed_and_says_where(report_of, finished_run, broken):
    finished_run.write("evaluations/finetune-random/result.json", broken)
    side = evaluation(report_of(finished_run), "finetune")["random"]
    assert side["state"] == "failed"
    assert "evaluations/finetune-random/result.json" in side["reason"]


def test_evaluations_that_were_declared_but_not_run_are_missing(report_of, fake_run):
    fake_run.write_config(evaluations=("linear_probe",))
    entry = evaluation(report_of(fake_run), "linear_probe")
    assert entry["pretrained"]["state"] == entry["random"]["state"] == "missing"


def test_a_start_that_the_config_does_not_ask_for_is_null(report_of, fake_run):
    fake_run.write_config(evaluations=())
    fake_run.config["evaluations"] = {"finetune": {"protocol": "finetune", "start_from": ["pretrained"]}}
    fake_run.write("config.yaml", json.dumps(fake_run.config))
    assert evaluation(report_of(fake_run), "finetune")["random"] is None


def test_a_run_without_evaluations_and_test_samples_is_complete_once_it_is_exported(report_of, fake_run):
    fake_run.write_config(data={"catalog": "clips/train.parquet"})
    fake_run.write_metrics()
    assert report_of(fake_run)["state"] == "partial"
    fake_run.finish()
    report = report_of(fake_run)
    assert report["state"] == "complete"
    assert report["evaluations"] == []
    assert report["reconstruction"] is None


def test_pretraining_is_summed_up_from_its_lines(report_of, finished_run):
    pretraining = report_of(finished_run)["pretraining"]
    assert pretraining["steps"] == pretraining["planned_steps"] == 400
    assert pretraining["samples"] == 400 * 32
    assert pretraining["epochs"] == pytest.approx(400 * 32 / 960)
    assert pretraining["loss_first"] == pytest.approx(0.4 + 0.6 / 20**0.5)
    assert pretraining["loss_last"] == pytest.approx(0.43)
    assert pretraining["seconds"] == pytest.approx(120)
    assert pretraining["data_wait_share"] == pytest.approx(0.01)
    assert 100 <= pretraining["samples_per_second"] < 107
    assert (pretraining["tflops"], pretraining["mfu"]) == (0.075, 0.25)
    assert (pretraining["decode_cpu_ms"], pretraining["read_bytes_per_second"]) == (41.5, 2.5e6)
    assert (pretraining["storage_requests"], pretraining["storage_retries"]) == (2000, 1)


def test_slow_lines_weigh_more_in_the_share_of_waiting(report_of, fake_run):
    fake_run.write_config()
    lines = [
        {"step": 1, "loss": 1.0, "samples_per_second": 100.0, "data_wait_share": 0.0},
        {"step": 2, "loss": 1.0, "samples_per_second": 25.0, "data_wait_share": 0.75},
    ]
    fake_run.write("metrics.jsonl", "\n".join(map(json.dumps, lines)))
    # Per sample: 0.01 s without waiting, and 0.04 s of which 0.03 s are waiting.
    assert report_of(fake_run)["pretraining"]["data_wait_share"] == pytest.approx(0.03 / 0.05)


def test_planned_steps_follow_from_epochs_and_the_catalog(report_of, fake_run):
    fake_run.write_config(train={"length": "20 epochs", "global_batch": 32})
    fake_run.write_environment()
    assert report_of(fake_run)["pretraining"]["planned_steps"] == 20 * 960 // 32


def test_the_reason_of_a_failed_pretraining_is_kept(report_of, fake_run):
    fake_run.write_config()
    fake_run.write_done(".", state="failed", reason="loss is not finite at step 30")
    report = report_of(fake_run)
    assert {"what": "pretraining", "reason": "loss is not finite at step 30"} in report["unfinished"]


def test_a_clock_that_starts_again_after_a_resume_is_added_up():
    assert training_seconds([10.0, 20.0, 5.0, 15.0]) == pytest.approx(35.0)
    assert training_seconds([10.0, None, 30.0]) == pytest.approx(30.0)
    assert training_seconds([]) is None


def test_a_line_that_a_kill_cut_off_is_counted_and_left_out(report_of, fake_run):
    fake_run.write_config()
    fake_run.write("metrics.jsonl", '{"step": 10, "loss": 3.0}\n{"step": 20, "lo{"step": 20, "loss": 2.0}\n')
    pretraining = report_of(fake_run)["pretraining"]
    assert (pretraining["steps"], pretraining["torn_log_lines"]) == (10, 1)


def test_a_diverged_loss_is_null_so_that_the_twin_stays_json(fake_run):
    fake_run.write_config()
    fake_run.write("metrics.jsonl", '{"step": 1, "loss": 1.0}\n{"step": 2, "loss": NaN}\n')
    assert write_report(fake_run.uri)["pretraining"]["loss_last"] is None
    assert "NaN" not in (fake_run.root / "report/report.json").read_text()


def test_faults_are_listed_by_sample(report_of, fake_run):
    fake_run.write_config()
    fake_run.write_fault(5, 3, "a.mp4", "no video stream")
    fake_run.write_fault(9, 7, "b.mp4", "empty file")
    fake_run.write_fault(40, 7, "b.mp4", "empty file")
    pretraining = report_of(fake_run)["pretraining"]
    assert pretraining["faults"] == 3
    assert pretraining["faulty_samples"] == [
        {"uri": "b.mp4", "sample": 7, "reason": "empty file", "times": 2, "first_step": 9},
        {"uri": "a.mp4", "sample": 3, "reason": "no video stream", "times": 1, "first_step": 5},
    ]


def test_a_file_name_that_is_not_utf8_can_be_reported(fake_run):
    fake_run.write_config()
    fake_run.write_fault(1, 1, "clips/caf\udce9.mp4", "empty file")
    assert write_report(fake_run.uri)["pretraining"]["faulty_samples"][0]["uri"] == r"clips/caf\udce9.mp4"
    assert r"caf\udce9.mp4" in (fake_run.root / "report/index.html").read_text()


def test_the_reconstruction_is_compared_with_the_better_trivial_predictor(report_of, finished_run):
    reconstruction = report_of(finished_run)["reconstruction"]
    assert reconstruction["state"] == "done"
    assert reconstruction["ratio_to_best_trivial"] == pytest.approx(0.012 / 0.04)


def test_provenance_repeats_the_environment_and_the_config(report_of, finished_run):
    provenance = report_of(finished_run)["provenance"]
    assert provenance["config"] == finished_run.config
    assert provenance["code"] == {"revision": "0123abcd", "dirty": True}
    assert provenance["catalog"]["digest"] == "5eed" * 16
    assert provenance["command"] == "python jobs/demo.py"


def test_a_folder_that_is_no_run_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(NotARunError, match=r"not a run directory, config\.yaml is missing.*runs/NAME-DIGEST"):
        write_report(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "message"), [("- a list", "holds no mapping"), ("a: [", r"is not YAML.*line 1")]
)
def test_a_config_that_is_no_mapping_is_refused(fake_run, config, message):
    fake_run.write("config.yaml", config)
    with pytest.raises(NotARunError, match=r"(?s)config\.yaml: " + message):
        write_report(fake_run.uri)


def test_a_report_can_be_written_in_a_bucket(finished_run, s3_bucket):
    there = storage.join(s3_bucket, "runs", "demo-0123")
    for file in storage.walk_files(finished_run.uri):
        storage.write_bytes(
            storage.join(there, file.uri.removeprefix(finished_run.uri)), storage.read_bytes(file.uri)
        )
    assert write_report(there)["state"] == "complete"
    assert storage.read_json(storage.join(there, "report", "report.json"))["run_directory"] == there
    assert storage.read_bytes(storage.join(there, "report", "index.html")).startswith(b"<!doctype html>")


DETECTED = {
    "metric": "frame_map",
    "standard_error": None,
    "per_class": [{"class": "sit", "value": 40.0, "total": 7}, {"class": "talk", "value": 0.0, "total": 3}],
}


def test_a_frame_map_has_average_precisions_by_class_and_neither_error_nor_chance(report_of, fake_run):
    fake_run.write_config(evaluations=("detect",))
    fake_run.write_evaluation("detect", "pretrained", 20.0, **DETECTED)
    fake_run.write_evaluation("detect", "random", 5.0, **DETECTED | {"per_class": []})
    [entry] = report_of(fake_run)["evaluations"]
    assert (entry["metric"], entry["gain"], entry["gain_standard_error"]) == ("frame_map", 15.0, None)
    assert (entry["verdict"], entry["chance"]) == (None, None)
    assert entry["per_class"] == [
        {"class": "sit", "total": 7, "pretrained": 40.0, "random": None},
        {"class": "talk", "total": 3, "pretrained": 0.0, "random": None},
    ]


HEADS = [
    {"layer": 11, "pool": "mean", "base_lr": 0.1, "weight_decay": 0.0, "validation": 40.0},
    {"layer": 12, "pool": "mean", "base_lr": 3.2, "weight_decay": 0.0, "validation": None},
    {"layer": 12, "pool": "mean", "base_lr": 0.1, "weight_decay": 1e-4, "validation": 42.5},
    {"layer": 12, "pool": "class_token", "base_lr": 0.1, "weight_decay": 0.0, "validation": 42.5},
]


def test_what_was_tried_is_listed_best_first_and_the_first_of_equals_before_the_other(report_of, fake_run):
    fake_run.write_config(evaluations=("feature_probe",))
    fake_run.write_evaluation("feature_probe", "pretrained", 41.0, table=HEADS)
    tried = evaluation(report_of(fake_run), "feature_probe")["tried"]
    assert tried == {"pretrained": [HEADS[2], HEADS[3], HEADS[0], HEADS[1]], "random": []}


def test_mistakes_are_listed_with_their_share_of_the_class(report_of, fake_run):
    fake_run.write_config(evaluations=("knn",))
    mistakes = [
        {"class": "left", "predicted": "right", "count": 30},
        {"class": "right", "predicted": "left", "count": 60},
        {"class": "gone", "predicted": "left", "count": 1},
    ]
    fake_run.write_evaluation("knn", "pretrained", 62.5, confusion=mistakes)
    confusion = evaluation(report_of(fake_run), "knn")["confusion"]["pretrained"]
    assert [(row["class"], row["count"], row["share"]) for row in confusion] == [
        ("right", 60, 0.5),
        ("left", 30, 0.25),
        ("gone", 1, None),
    ]


def test_curves_have_every_logged_line_of_a_short_run(report_of, finished_run):
    curves = report_of(finished_run)["curves"]
    loss = curves["pretraining"]["loss"]
    assert loss["step"] == list(range(20, 401, 20))
    assert loss["mean"][-1] == pytest.approx(0.43)
    assert loss["low"] is None
    assert [(its["name"], its["start_from"]) for its in curves["evaluations"]] == [
        ("linear_probe", "pretrained"),
        ("linear_probe", "random"),
        ("finetune", "pretrained"),
        ("finetune", "random"),
    ]


def test_a_long_curve_is_thinned_to_means_between_their_extremes(report_of, fake_run):
    fake_run.write_config()
    lines = [{"step": step, "loss": float(step % 2)} for step in range(1, 3001)]
    fake_run.write("metrics.jsonl", "\n".join(map(json.dumps, lines)))
    loss = report_of(fake_run)["curves"]["pretraining"]["loss"]
    assert len(loss["step"]) == 300
    assert loss["step"][-1] == 3000
    assert set(loss["mean"]) == {0.5}
    assert (set(loss["low"]), set(loss["high"])) == ({0.0}, {1.0})


def test_a_value_that_is_not_finite_leaves_a_gap_and_one_point_is_no_curve(report_of, fake_run):
    fake_run.write_config()
    fake_run.write(
        "metrics.jsonl",
        '{"step": 1, "loss": 1.0, "lr": 1}\n{"step": 2, "loss": null}\n{"step": 3, "loss": 2.0}\n',
    )
    curves = report_of(fake_run)["curves"]["pretraining"]
    assert curves["loss"]["step"] == [1, 3]
    assert curves["lr"] is None


def test_the_commands_that_reproduce_a_run_begin_with_its_code(report_of, finished_run):
    steps = report_of(finished_run)["reproduction"]
    assert [entry["command"] for entry in steps] == [
        "git checkout 0123abcd",
        "python jobs/demo.py",
        f"mae-dist run {finished_run.uri}/config.yaml --storage ELSEWHERE",
        f"mae-dist report {finished_run.uri}",
    ]
    assert "uncommitted changes" in steps[0]["what"]


def test_code_whose_revision_is_unknown_is_not_checked_out(report_of, fake_run):
    fake_run.write_config()
    fake_run.write_environment(code={"revision": "unknown", "dirty": None}, command=None)
    assert [entry["command"].split()[0] for entry in report_of(fake_run)["reproduction"]] == ["mae-dist"] * 2


def test_code_without_a_checkout_is_found_by_its_tree(report_of, fake_run):
    fake_run.write_config()
    tree = "ab" * 20
    fake_run.write_environment(code={"revision": "unknown", "dirty": None, "tree": tree}, command=None)
    first, *_ = report_of(fake_run)["reproduction"]
    assert "$c:mae_dist" in first["command"]
    assert tree in first["command"]
