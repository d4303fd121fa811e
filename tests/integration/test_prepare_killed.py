"""`mae-dist prepare` on Ray, killed in the middle and given again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from mae_dist import storage
from mae_dist.data.prepare import Settings
from mae_dist.data.readers import build_catalog
from mae_dist.data.video import encode_h264
from tests.data.prepare.sources import contents, prepare_here

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CHANGES = {"short_side": 48, "keyframe_every": 4, "shard_size": 2}


def start(source: str, destination: str, home: Path) -> subprocess.Popen[str]:
    home.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    options = [
        word for name, value in CHANGES.items() for word in ("--" + name.replace("_", "-"), str(value))
    ]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mae_dist.cli.main",
            "prepare",
            source,
            destination,
            *options,
            "--compare",
            "0",
        ],
        env=environment | {"HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def shards_made(destination: str) -> int:
    return len(storage.list_dir(f"{destination}/parts"))


def test_a_preparation_killed_with_all_its_processes_is_finished_to_the_same_bytes(tmp_path):
    for number in range(40):
        noise = np.random.default_rng(number).integers(0, 256, (60, 72, 96, 3), dtype=np.uint8)
        storage.write_bytes(f"{tmp_path}/videos/{number:02d}.mp4", encode_h264(noise, 10))
    source, destination = f"{tmp_path}/videos", f"{tmp_path}/out"
    catalog = build_catalog(source)
    prepare_here(catalog, f"{tmp_path}/clean", Settings.of(catalog, **CHANGES))

    job = start(source, destination, tmp_path / "home")
    deadline = time.monotonic() + 240
    while shards_made(destination) < 2:
        assert time.monotonic() < deadline, "did not happen in time"
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.02)
    tree = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):  # Ray ends its short-lived helpers by itself
            process.kill()
    job.communicate()
    psutil.wait_procs(tree[1:], timeout=10)
    made = shards_made(destination)
    assert 2 <= made < 20
    assert not storage.exists(f"{destination}/catalog.parquet")

    again = start(source, destination, tmp_path / "home")
    output, _ = again.communicate(timeout=400)
    assert again.returncode == 0, output
    assert f"shards   20, {20 - made} made now" in output
    # The catalogs name their own shards, the manifests the source as it was given.
    found, expected = contents(destination), contents(f"{tmp_path}/clean")
    for name in ("/catalog.parquet", "/prepare.json"):
        assert found.pop(name) != expected.pop(name)
    assert found == expected
