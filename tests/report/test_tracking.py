"""What MLflow is told; against its interface, and against itself where it is installed."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest

from mae_dist.report import tracking
from mae_dist.report.tracking import TrackingError, log_report, problem


class FakeServer:
    """What `MlflowClient` is asked for, kept in memory; values are appended like MLflow's."""

    def __init__(self):
        self.experiments, self.runs, self.batches = {}, {}, []

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name):
        self.experiments[name] = SimpleNamespace(experiment_id=name)
        return name

    def search_runs(self, experiments, filter_string, max_results):
        key, _, value = filter_string.partition(" = ")
        tag = key.removeprefix("tags.").strip("`")
        found = [run for run in self.runs.values() if run.data.tags[tag] == value.strip("'")]
        return found[:max_results]

    def create_run(self, experiment, run_name, tags):
        run_id = f"run{len(self.runs)}"
        data = SimpleNamespace(tags=dict(tags), params={}, metrics={}, history=[], texts={}, status=None)
        self.runs[run_id] = SimpleNamespace(info=SimpleNamespace(run_id=run_id, run_name=run_name), data=data)
        return self.runs[run_id]

    def get_run(self, run_id):
        return self.runs[run_id]

    def get_metric_history(self, run_id, name):
        return [metric for metric in self.runs[run_id].data.history if metric.key == name]

    def log_batch(self, run_id, metrics=(), params=()):
        self.batches.append(len(metrics) + len(params))
        data = self.runs[run_id].data
        data.history += metrics
        data.metrics |= {metric.key: metric.value for metric in metrics}
        assert not any(param.key in data.params for param in params), "MLflow refuses to change a param"
        data.params |= {param.key: param.value for param in params}

    def set_tag(self, run_id, name, value):
        self.runs[run_id].data.tags[name] = value

    def log_text(self, run_id, text, path):
        self.runs[run_id].data.texts[path] = text

    def set_terminated(self, run_id, status):
        self.runs[run_id].data.status = status


@pytest.fixture
def server(monkeypatch):
    """A module `mlflow` that knows one server."""
    fake = FakeServer()
    modules = {name: ModuleType(name) for name in ("mlflow", "mlflow.exceptions", "mlflow.entities")}
    modules["mlflow"].exceptions = modules["mlflow.exceptions"]
    modules["mlflow"].entities = modules["mlflow.entities"]
    modules["mlflow"].MlflowClient = lambda tracking_uri: fake
    modules["mlflow.exceptions"].MlflowException = type("MlflowException", (Exception,), {})
    modules["mlflow.entities"].Metric = lambda key, value, timestamp, step: SimpleNamespace(
        key=key, value=value, timestamp=timestamp, step=step
    )
    modules["mlflow.entities"].Param = lambda key, value: SimpleNamespace(key=key, value=value)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(tracking, "problem", lambda uri: None)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return fake


def logged(server):
    [run] = server.runs.values()
    return run.data


def test_the_numbers_of_the_report_are_those_that_mlflow_gets(server, report_of, finished_run):
    report = report_of(finished_run)
    log_report(report, {"report/index.html": "<!doctype html>"}, tracking_uri="http://mlflow")
    data = logged(server)
    assert data.metrics["evaluation/finetune/pretrained"] == 71.5
    assert data.metrics["evaluation/finetune/gain"] == 71.5 - 55.25
    assert data.metrics["evaluation/finetune/random_high"] == pytest.approx(55.25 + 1.96 * 2.0)
    assert data.metrics["pretraining/loss"] == pytest.approx(report["pretraining"]["loss_last"])
    losses = [metric.step for metric in data.history if metric.key == "pretraining/loss"]
    assert losses == list(range(20, 401, 20))
    assert data.params["train.global_batch"] == "32"
    assert data.texts == {"report/index.html": "<!doctype html>"}
    assert data.tags["mae_dist.revision"] == "0123abcd"
    assert data.status == "FINISHED"


def test_a_probe_over_the_pretraining_is_a_curve(server, report_of, fake_run):
    fake_run.write_config(evaluations=("knn",))
    fake_run.write_probe("knn", 100, 30.0)
    fake_run.write_probe("knn", 200, 31.0)
    log_report(report_of(fake_run), {}, tracking_uri="http://mlflow")
    points = [metric for metric in logged(server).history if metric.key == "probe/knn"]
    assert [(metric.step, metric.value) for metric in points] == [(100, 30.0), (200, 31.0)]


def test_a_run_that_is_logged_again_goes_on_and_repeats_nothing(server, report_of, finished_run):
    for _ in range(2):
        log_report(report_of(finished_run), {}, tracking_uri="http://mlflow")
    history = [(metric.key, metric.step) for metric in logged(server).history]
    assert len(history) == len(set(history))
    finished_run.write_metrics(440)
    finished_run.write_evaluation("finetune", "pretrained", 72.5)
    log_report(report_of(finished_run), {}, tracking_uri="http://mlflow")
    data = logged(server)
    assert data.metrics["evaluation/finetune/pretrained"] == 72.5
    losses = [metric.step for metric in data.history if metric.key == "pretraining/loss"]
    assert losses == list(range(20, 441, 20))


def test_two_run_directories_are_two_runs(server, report_of, finished_run):
    report = report_of(finished_run)
    log_report(report, {}, tracking_uri="http://mlflow")
    log_report(report | {"run_directory": "elsewhere"}, {}, tracking_uri="http://mlflow")
    assert len(server.runs) == 2


def test_requests_stay_within_what_a_server_takes(server, report_of, finished_run):
    report = report_of(finished_run)
    report["provenance"]["config"] = {f"field{number}": number for number in range(250)}
    report["curves"]["pretraining"]["loss"] = {"step": list(range(2500)), "mean": [1.0] * 2500}
    log_report(report, {}, tracking_uri="http://mlflow")
    assert server.batches[:3] == [100, 100, 50]
    assert max(server.batches) == 1000


def test_a_name_that_mlflow_would_refuse_is_changed(server, report_of, fake_run):
    fake_run.write_config(evaluations=("a@b$",))
    fake_run.write_evaluation("a@b$", "pretrained", 40.0)
    log_report(report_of(fake_run), {}, tracking_uri="http://mlflow")
    assert logged(server).metrics["evaluation/a_b_/pretrained"] == 40.0


def test_a_server_that_does_not_answer_is_named(server, report_of, fake_run, monkeypatch):
    def refuse(name):
        raise sys.modules["mlflow.exceptions"].MlflowException("connection refused")

    fake_run.write_config()
    monkeypatch.setattr(server, "get_experiment_by_name", refuse)
    words = r"log\.mlflow: http://mlflow did not take .*: connection refused"
    with pytest.raises(TrackingError, match=words):
        log_report(report_of(fake_run), {}, tracking_uri="http://mlflow")


def test_without_mlflow_the_run_is_told_before_it_starts_and_how_to_get_it(monkeypatch, report_of, fake_run):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    words = r"log\.mlflow: http://mlflow .* not installed here; pip install 'mae_dist\[mlflow\]', or --set"
    assert problem(None) is None
    fake_run.write_config()
    with pytest.raises(TrackingError, match=words):
        log_report(report_of(fake_run), {}, tracking_uri="http://mlflow")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # MLflow's own
def test_mlflow_itself_takes_a_report_twice(tmp_path, monkeypatch, report_of, finished_run):
    import mlflow

    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts
    where = f"sqlite:///{tmp_path}/mlflow.db"
    documents = {"report/index.html": "<!doctype html>"}
    report = report_of(finished_run) | {"run_directory": "s3://bucket/somebody's/demo"}
    first, second = (log_report(report, documents, tracking_uri=where) for _ in range(2))
    assert first == second
    client = mlflow.MlflowClient(tracking_uri=where)
    run = client.get_run(first)
    assert run.data.metrics["evaluation/finetune/pretrained"] == 71.5
    assert run.data.params["train.global_batch"] == "32"
    assert run.data.tags["mae_dist.state"] == "complete"
    losses = client.get_metric_history(first, "pretraining/loss")
    assert [point.step for point in losses] == list(range(20, 401, 20))
    assert [file.path for file in client.list_artifacts(first, "report")] == ["report/index.html"]
