"""Run directories as the other floors leave them, with chosen flaws, and a reader of the page."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from mae_dist.report.publish import write_report
from mae_dist.report.run_files import read_run
from mae_dist.report.summary import summarise

BEGUN = 1_760_000_000.0
"""When the jobs of fake runs begin, in seconds since 1970."""
_VOID = {"img", "meta", "br", "hr", "link", "input"}
_ADDRESSES = {"src", "href", "srcset", "xlink:href", "action", "poster", "data", "background"}


class PageReader(HTMLParser):
    """Parses a page; raises AssertionError where tags are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.addresses += [value for name, value in attrs if name in _ADDRESSES]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        (self.styles if "style" in self._open else self.words).append(data)

    @property
    def text(self) -> str:
        """What is to be read, with single spaces."""
        return " ".join(" ".join(self.words).split())

    @property
    def pictures(self) -> list[Image.Image]:
        """Every inlined picture, decoded."""
        uris = [uri for uri in self.addresses if uri.startswith("data:image/")]
        return [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in uris]


@dataclass
class FakeRun:
    """A run directory below `root`; its methods write one part each."""

    root: Path
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """Its address."""
        return str(self.root)

    def write(self, path: str, content: bytes | str) -> None:
        """One file, folders included."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())

    def write_config(
        self, *, frames: int = 16, evaluations: tuple[str, ...] | dict[str, Any] = (), **changes: Any
    ) -> None:
        """config.yaml (and `self.config`) of a run with these evaluations: names, or what is declared."""
        if not isinstance(evaluations, dict):
            evaluations = {name: {"protocol": name} for name in evaluations}
        self.config = {
            "name": "demo",
            "seed": 3,
            "input": {"frames": frames, "height": 32, "width": 32},
            "model": {"size": "videomae_micro" if frames > 1 else "mae_micro"},
            "mask": {"kind": "tube" if frames > 1 else "random", "ratio": 0.9 if frames > 1 else 0.75},
            "target": {"kind": "norm_pixel_videomae"},
            "data": {"catalog": "clips/train.parquet", "test_catalog": "clips/test.parquet"},
            "train": {"length": "400 steps", "global_batch": 32},
            "evaluations": evaluations,
            **changes,
        }
        self.write("config.yaml", yaml.safe_dump(self.config, allow_unicode=True, sort_keys=False))

    def write_environment(self, **changes: Any) -> None:
        """environment.json."""
        environment = {
            "code": {"revision": "0123abcd", "dirty": True},
            "versions": {"torch": "2.15.0", "ray": "2.60.0"},
            "hardware": {"cpus": 2, "memory_gib": 7.6, "accelerators": []},
            "catalog": {"uri": "clips/train.parquet", "digest": "5eed" * 16, "num_samples": 960},
            "test_catalog": {"uri": "clips/test.parquet", "digest": "7e57" * 16, "num_samples": 240},
            "command": "python jobs/demo.py",
            "created_utc": "2025-01-02T03:04:05+00:00",
        }
        self.write("environment.json", json.dumps({**environment, **changes}))

    def write_metrics(self, num_steps: int = 400, *, every: int = 20, path: str = "metrics.jsonl") -> None:
        """Lines of a training whose loss falls as 1 / sqrt(step)."""
        lines = [
            {
                "step": step,
                "epoch": step * 32 / 960,
                "loss": 0.4 + 0.6 / step**0.5,
                "lr": 1e-3 * min(step / 40, 0.5 + 0.5 * np.cos(np.pi * step / num_steps)),
                "grad_norm": 1.0,
                "samples_per_second": 100.0 + step % 7,
                "tflops": 0.075,
                "mfu": 0.25,
                "data_wait_share": 0.01,
                "decode_cpu_ms": 41.5,
                "read_bytes_per_second": 2.5e6,
                "storage_requests": 100,
                "storage_retries": int(step == every),
                "seconds": step * 0.3,
                "eta_seconds": (num_steps - step) * 0.3,
            }
            for step in range(every, num_steps + 1, every)
        ]
        self.write(path, "".join(json.dumps(line) + "\n" for line in lines))

    def write_fault(self, step: int, sample: int, uri: str, reason: str, *, folder: str = ".") -> None:
        """One more line of faults.jsonl."""
        line = {"step": step, "sample": sample, "uri": uri, "reason": reason, "replaced_by": 1}
        with (self.root / folder / "faults.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def write_evaluation(
        self, name: str, start: str, value: float, error: float = 2.0, **changes: Any
    ) -> None:
        """A finished evaluation with its curve."""
        folder = f"evaluations/{name}-{start}"
        result = {
            "evaluation": name,
            "protocol": name,
            "start_from": start,
            "metric": "top1",
            "value": value,
            "standard_error": error,
            "top5": 90.0,
            "single_view": 50.0,
            "num_samples": 240,
            "interval": [value - 1.96 * error, value + 1.96 * error],
            "per_class": [
                {"class": "left", "correct": 30, "total": 120},
                {"class": "right", "correct": 90, "total": 120},
            ],
            "settings": {"epochs": 10, "base_lr": 0.1},
            "published": None,
        }
        self.write_metrics(80, every=8, path=f"{folder}/metrics.jsonl")
        self.write(f"{folder}/result.json", json.dumps({**result, **changes}))
        self.write_done(folder)

    def write_probe(self, name: str, step: int, value: float, error: float = 0.5, **changes: Any) -> None:
        """The evaluation of a checkpoint that was kept."""
        self.write_evaluation(name, f"pretrained@{step}", value, error, start_from="pretrained", **changes)
        (self.root / f"evaluations/{name}-pretrained@{step}/metrics.jsonl").unlink()

    def write_steps(
        self, steps: list[dict[str, Any]], history: list[dict[str, Any]], *, written: float = 3600.0
    ) -> None:
        """steps.json; what is not given of a step or an attempt is that of one that went well.

        Times are in seconds after the first job's beginning.
        """
        step: dict[str, Any] = {"key": "0" * 16, "state": "done", "reason": None, "attempt": 1, "priority": 0}
        step |= {"needs": [], "started": None, "ended": None, "seconds": 0.0, "cpus": 2.0, "gpus": 0.0}
        step |= {"log": None, "progress": None}
        attempt = {"attempt": 1, "state": "done", "reason": None, "cpus": 2.0, "gpus": 0.0}
        steps = [step | {"output": f"evaluations/{its['name']}"} | its for its in steps]
        history = [attempt | its for its in history]
        for entry in (*steps, *history):
            for name in ("started", "ended"):
                entry[name] = None if entry[name] is None else BEGUN + entry[name]
        content = {"schema": 1, "driver": 1, "written": BEGUN + written, "ended": True}
        self.write("steps.json", json.dumps(content | {"steps": steps, "history": history}))

    def write_done(self, folder: str, *, state: str = "done", reason: str | None = None) -> None:
        """DONE.json of an evaluation."""
        done = {"state": state, "reason": reason, "seconds": 12.5, "key": "0" * 16}
        self.write(f"{folder}/DONE.json", json.dumps(done))

    def write_reconstruction(self, *, frames: int = 16, side: int = 32, num_samples: int = 2) -> None:
        """Errors that show learning, and a gallery of a square that moves over noise."""
        folder = "evaluations/reconstruction"
        result = {
            "num_samples": 240,
            "num_hidden_tokens": 27648,
            "split": "held-out",
            "own_statistics": True,
            "model_mse": 0.012,
            "mean_visible_mse": 0.05,
            "nearest_visible_mse": 0.04,
        }
        self.write(f"{folder}/result.json", json.dumps(result))
        rng = np.random.default_rng(0)
        original = rng.integers(90, 140, (num_samples, frames, side, side, 3), dtype=np.uint8)
        for frame in range(frames):
            original[:, frame, side // 4 : side // 2, frame : frame + side // 3] = (220, 120, 40)
        masked = original.copy()
        masked[:, :, ::2] = 128
        file = io.BytesIO()
        np.savez(file, original=original, masked=masked, reconstructed=original // 2 + 64)
        self.write(f"{folder}/gallery.npz", file.getvalue())
        self.write_done(folder)

    def finish(self) -> None:
        """The weights that a finished pretraining exports."""
        self.write("export/model.safetensors", b"weights")


@pytest.fixture
def page_of() -> Callable[[FakeRun], PageReader]:
    """Writes the report of a run directory and reads the page."""
    return _page_of


@pytest.fixture
def report_of() -> Callable[[FakeRun], dict[str, Any]]:
    """The content of report.json for a run directory, without drawing the page."""
    return lambda run: summarise(read_run(run.uri), created=datetime(2025, 1, 2, tzinfo=UTC))


@pytest.fixture
def fake_run(tmp_path: Path) -> FakeRun:
    """An empty run directory."""
    return FakeRun(tmp_path / "demo-0123")


@pytest.fixture
def finished_run(fake_run: FakeRun) -> FakeRun:
    """A run on clips in which everything went well: two evaluations, one of them with a gain."""
    return _finish(fake_run)


@pytest.fixture(scope="session")
def finished_page(tmp_path_factory: pytest.TempPathFactory) -> PageReader:
    """The page of a run like `finished_run`, made once."""
    run = _finish(FakeRun(tmp_path_factory.mktemp("runs") / "demo-0123"))
    return _page_of(run)


def _page_of(run: FakeRun) -> PageReader:
    write_report(run.uri)
    return PageReader((run.root / "report" / "index.html").read_text())


def _finish(fake_run: FakeRun) -> FakeRun:
    fake_run.write_config(evaluations=("linear_probe", "finetune"))
    fake_run.write_environment()
    fake_run.write_metrics()
    fake_run.write_fault(40, 17, "clips/0017.mp4", "moov atom not found")
    fake_run.write_evaluation("linear_probe", "pretrained", 41.25)
    fake_run.write_evaluation("linear_probe", "random", 39.75)
    published = {"value": 80.0, "source": "arXiv 2203.12602, table 2"}
    fake_run.write_evaluation("finetune", "pretrained", 71.5, 1.5, published=published)
    fake_run.write_evaluation("finetune", "random", 55.25, 2.0, published=published)
    fake_run.write_reconstruction()
    fake_run.finish()
    return fake_run


@pytest.fixture
def read_page() -> Callable[[str], PageReader]:
    """Reads a page that was written elsewhere."""
    return PageReader
