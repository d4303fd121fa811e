"""An evaluation over the pretraining: its best checkpoint, and the warning when it falls."""

import pytest


@pytest.fixture
def probed_run(fake_run):
    """A run of 400 steps, 13.3 epochs, of which checkpoint 100 was probed."""
    fake_run.write_config(evaluations=("feature_probe",))
    fake_run.write_metrics()
    fake_run.write_probe("feature_probe", 100, 30.0)
    fake_run.write("checkpoints/step-000000100/COMPLETE", "")
    return fake_run


def curve_of(report):
    [entry] = report["probe_curves"]
    return entry


def test_points_are_in_order_and_the_last_one_is_that_of_the_exported_weights(report_of, probed_run):
    probed_run.write_probe("feature_probe", 20, 25.0)
    probed_run.write_evaluation("feature_probe", "pretrained", 35.0, 0.5)
    probed_run.finish()
    entry = curve_of(report_of(probed_run))
    assert [(point["step"], point["value"], point["is_final"]) for point in entry["points"]] == [
        (20, 25.0, False),
        (100, 30.0, False),
        (400, 35.0, True),
    ]
    assert entry["points"][0]["epoch"] == pytest.approx(20 * 32 / 960)
    assert entry["best"]["checkpoint"] == "export/model.safetensors"
    assert (entry["fall"], entry["warning"]) == (0.0, None)


def test_a_probe_of_a_checkpoint_is_no_evaluation_of_its_own(report_of, probed_run):
    [entry] = report_of(probed_run)["evaluations"]
    assert entry["name"] == "feature_probe"
    assert entry["pretrained"]["state"] == "missing"


# 2 * sqrt(0.5^2 + 0.5^2) = 1.41 points
@pytest.mark.parametrize(("newest", "is_warned"), [(31.0, False), (28.6, False), (28.5, True)])
def test_a_fall_is_warned_of_beyond_two_standard_errors(report_of, probed_run, newest, is_warned):
    probed_run.write_probe("feature_probe", 200, newest)
    report = report_of(probed_run)
    assert (curve_of(report)["warning"] is not None) == is_warned
    assert report["warnings"] == [curve_of(report)["warning"]] * is_warned


def test_the_warning_names_the_best_checkpoint_on_the_page_and_in_the_report(report_of, page_of, probed_run):
    probed_run.write_probe("feature_probe", 60, 26.0)
    probed_run.write_probe("feature_probe", 300, 25.0)
    words = (
        "Linear probe on kept features has fallen by 5.0 points (7.1 standard errors) from its best, 30.0 % "
        "at epoch 3.33 (step 100), to 25.0 % at epoch 10 (step 300). The best checkpoint is "
        "checkpoints/step-000000100."
    )
    assert report_of(probed_run)["warnings"] == [words]
    page = page_of(probed_run)
    assert f"Early warning {words}" in page.text
    assert "warning" in page.ids
    assert "checkpoints" in page.ids


def test_a_fall_that_was_made_good_is_no_warning(report_of, probed_run):
    probed_run.write_probe("feature_probe", 200, 20.0)
    probed_run.write_probe("feature_probe", 300, 30.5)
    assert report_of(probed_run)["warnings"] == []


def test_a_best_checkpoint_that_was_deleted_is_said_to_be(report_of, probed_run):
    probed_run.write_probe("feature_probe", 60, 40.0)
    report = report_of(probed_run)
    assert curve_of(report)["best"] == {
        "step": 60,
        "epoch": pytest.approx(2.0),
        "value": 40.0,
        "checkpoint": None,
    }
    assert report["warnings"][0].endswith("The best checkpoint was deleted.")


def test_values_without_a_standard_error_are_not_warned_of(report_of, probed_run):
    probed_run.write_probe("feature_probe", 200, 5.0, standard_error=None)
    entry = curve_of(report_of(probed_run))
    assert (entry["fall"], entry["fall_standard_error"], entry["warning"]) == (25.0, None, None)


def test_a_probe_that_failed_is_named_with_its_step(report_of, page_of, probed_run):
    folder = "evaluations/feature_probe-pretrained@200"
    probed_run.write_done(folder, state="failed", reason="out of memory")
    wanted = {"what": "feature_probe at step 200", "reason": "out of memory"}
    assert wanted in report_of(probed_run)["unfinished"]
    assert "Linear probe on kept features at step 200 : out of memory" in page_of(probed_run).text


def test_epochs_are_left_out_where_nothing_was_logged(report_of, page_of, fake_run):
    fake_run.write_config(evaluations=("knn",))
    fake_run.write_probe("knn", 100, 30.0)
    fake_run.write_probe("knn", 200, 31.0)
    assert [point["epoch"] for point in curve_of(report_of(fake_run))["points"]] == [None, None]
    assert "step of pretraining" in page_of(fake_run).text


def test_random_weights_are_kept_beside_the_curve(report_of, probed_run):
    assert curve_of(report_of(probed_run))["random"] is None
    probed_run.write_evaluation("feature_probe", "random", 20.0)
    assert curve_of(report_of(probed_run))["random"] == 20.0
