"""What a training says about itself: averaged on the device, written by rank 0.

metrics.jsonl    one line per log interval (the truth of every curve)
progress.json    the last such line with the total, for whoever watches
faults.jsonl     every sample that could not be read
tensorboard/     the same curves for TensorBoard
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from mae_dist import storage
from mae_dist.storage.fence import Fence
from mae_dist.train import intake
from mae_dist.train.intake import Intake, WaitWatch
from mae_dist.train.utilisation import Utilisation

log = logging.getLogger(__name__)


class Meters:
    """Means of scalars over micro-batches and ranks; no synchronisation before they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Take one micro-batch's scalars."""
        for name, value in metrics.items():
            self._sums[name] = self._sums[name] + value.float() if name in self._sums else value.float()
        self._count += 1

    def read(self) -> dict[str, float]:
        """Means since the last read, the same on every rank; a collective call."""
        names = sorted(self._sums)
        values = torch.stack([self._sums[name] for name in names]) / self._count
        self._sums, self._count = {}, 0
        if dist.is_initialized():
            dist.all_reduce(values)
            values /= dist.get_world_size()
        return dict(zip(names, values.tolist(), strict=True))


class Clock:
    """Throughput, the data plane's figures and time left, measured between two readings."""

    def __init__(self, utilisation: Utilisation) -> None:
        self._utilisation = utilisation
        self._started = self._last = time.perf_counter()

    def read(self, *, samples: int, taken: Intake, steps: int, steps_left: int) -> dict[str, float]:
        """Figures for the interval that ends now, in which `steps` updates used `samples` samples."""
        now = time.perf_counter()
        spent, self._last = now - self._last, now
        rate = samples / spent
        speed = {"samples_per_second": rate} | self._utilisation.figures(rate)
        speed |= {"seconds": now - self._started, "eta_seconds": spent / steps * steps_left}
        return speed | intake.figures(taken, seconds=spent)


class RunLog:
    """Rank 0's files in the output folder; on the other ranks nothing is written.

    Every line also goes to `publish`, for those who watch a cluster rather than a folder. FencedOffError: a
    later driver writes these files now.
    """

    def __init__(
        self,
        uri: str,
        *,
        total_steps: int,
        resumed_step: int,
        active: bool,
        data_wait_warning: float,
        publish: Callable[[Mapping[str, float]], None] = lambda line: None,
        fence: Fence | None = None,
    ) -> None:
        self._uri, self._total, self._active = uri, total_steps, active
        self._watch, self._publish, self._fence = WaitWatch(data_wait_warning), publish, fence
        if not active:
            return
        self._check()
        for name in ("metrics.jsonl", "faults.jsonl"):
            _drop_after(storage.join(uri, name), resumed_step)
        self._boards = storage.join(uri, "tensorboard")
        self._local_boards = Path(tempfile.mkdtemp(prefix="tensorboard-"))
        self._board = SummaryWriter(str(self._local_boards), purge_step=resumed_step or None)

    def write(self, line: dict[str, Any]) -> None:
        """One interval's figures; `line` has at least step, loss, lr and those of `Clock`.

        What is no finite number (the loss of a step that was skipped) is null in the files: JSON has no NaN.
        """
        if not self._active:
            return
        self._check()
        known = {name: value for name, value in line.items() if math.isfinite(value)}
        written = {name: known.get(name) for name in line}
        storage.append_bytes(storage.join(self._uri, "metrics.jsonl"), json.dumps(written).encode() + b"\n")
        storage.write_json(storage.join(self._uri, "progress.json"), written | {"total_steps": self._total})
        for name, value in known.items():
            if name != "step":
                self._board.add_scalar(name, value, line["step"])
        self._publish(known)
        log.info("%s", describe(line, self._total))
        warning = self._watch.look(line)
        if warning is not None:
            log.warning("%s", warning)

    def _check(self) -> None:
        """One request more per line; who stands still between the two still writes that line."""
        if self._fence is not None:
            self._fence.check()

    def write_faults(self, faults: list[dict[str, Any]], step: int) -> None:
        """Samples that could not be read, met up to this step."""
        if self._active and faults:
            lines = "".join(json.dumps({"step": step} | fault) + "\n" for fault in faults)
            storage.append_bytes(storage.join(self._uri, "faults.jsonl"), lines.encode())

    def flush(self) -> None:
        """Copy TensorBoard's files to the output folder."""
        if self._active:
            self._board.flush()
            for file in self._local_boards.iterdir():
                storage.write_bytes(storage.join(self._boards, file.name), file.read_bytes())


def describe(line: dict[str, Any], total_steps: int) -> str:
    """A log line for people: step, loss, lr, throughput, data wait, time left; utilisation where it is known,
    faults and repeated requests if there were any."""
    loss = "not finite" if line["loss"] is None else f"{line['loss']:.4f}"
    minutes, seconds = divmod(round(line["eta_seconds"]), 60)
    troubles = {"replaced": line["faults"], "requests repeated": line["storage_retries"]}
    trouble = "".join(f"{number:.0f} {what}  " for what, number in troubles.items() if number)
    utilisation = f"MFU {line['mfu']:.1%}  " if "mfu" in line else ""
    return (
        f"step {line['step']}/{total_steps}  loss {loss}  lr {line['lr']:.2e}  "
        f"{line['samples_per_second']:.0f} samples/s  {utilisation}"
        f"data wait {line['data_wait_share']:.1%}  {trouble}ETA {minutes}:{seconds:02d}"
    )


def gather_faults(faults: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The faults of all ranks, on every rank; a collective call."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return faults
    count = torch.tensor(len(faults))
    if torch.cuda.is_available():
        count = count.cuda()
    dist.all_reduce(count)
    if not int(count):
        return []
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, faults)
    return [fault for rank in gathered for fault in rank]


def _drop_after(uri: str, step: int) -> None:
    """Forget what was written past the checkpoint that training resumes from; it will be written again."""
    if not storage.exists(uri):
        return
    lines = storage.read_bytes(uri).splitlines(keepends=True)
    # The last line may be torn by a kill in mid-write.
    whole = [line for line in lines if line.endswith(b"\n")]
    kept = [line for line in whole if json.loads(line)["step"] <= step]
    storage.write_bytes(uri, b"".join(kept))
