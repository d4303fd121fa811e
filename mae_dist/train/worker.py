"""What every Ray Train worker does: build, resume, train, export, score."""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from ray.util.metrics import Counter, Gauge

from mae_dist import storage
from mae_dist.config.optimisation import ResourcesConfig
from mae_dist.data.mix import Samples
from mae_dist.data.plan import read_shard
from mae_dist.model.transformer import recompute_activations
from mae_dist.model.weights import native
from mae_dist.train import checkpoint, drift
from mae_dist.train.checkpoint import Checkpointer, Progress
from mae_dist.train.compilation import compile_in_place
from mae_dist.train.detection import DetectTask, judge_test
from mae_dist.train.drift import check_drift
from mae_dist.train.engine import Engine, TorchEngine, load_buffers, load_weights, whole_weights
from mae_dist.train.exporting import export, is_fine_tuned
from mae_dist.train.feed import Feed
from mae_dist.train.guard import LossGuard
from mae_dist.train.loop import Pace, evaluate, train
from mae_dist.train.metrics import RunLog, gather_faults
from mae_dist.train.notices import NoticeReader
from mae_dist.train.param_groups import make_optimizer
from mae_dist.train.scores import plain
from mae_dist.train.starting import take_start
from mae_dist.train.stopping import StoppedError, StopRequest
from mae_dist.train.tasks import ClassifyTask, Pretraining, PretrainTask, TokenizerTask
from mae_dist.train.training import Training
from mae_dist.train.utilisation import Utilisation, known_peak
from mae_dist.train.watchdog import Watchdog, find_neighbours, name_of


def train_worker(job: dict[str, Any]) -> dict[str, Any]:
    """The training function of one rank; returns rank 0's summary as plain data.

    A training that was asked to stop returns {"stopped": what it says, "request": for what} instead: an error
    would count as a failure, and the first rank's would end the others while they still write.
    """
    training: Training = job["training"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    _log_to_stderr(rank)
    attempt = _agree(uuid.uuid4().hex[:8])
    # One thread per CPU that Ray reserved: more would fight with the decode tasks beside us.
    torch.set_num_threads(max(1, int(training.config.resources.cpus_per_worker)))
    name, neighbours = name_of(attempt, rank), find_neighbours(attempt)
    with Watchdog(training.config.watch, uri=training.stacks, name=name, neighbours=neighbours) as watchdog:
        try:
            return _train_and_score(training, rank, context.get_world_size(), attempt, watchdog)
        except StoppedError as error:
            return {"stopped": str(error), "request": int(error.request)}


def _train_and_score(
    training: Training, rank: int, world: int, attempt: str, watchdog: Watchdog
) -> dict[str, Any]:
    device = ray.train.torch.get_device()
    catalog = training.training_samples()
    schedule, pace = training.schedule(catalog), training.pace(catalog, world=world)
    newest = _agree(checkpoint.newest(training.checkpoints) if rank == 0 else None)
    is_done = newest is not None and newest >= schedule.total_steps
    # Decoding starts its processes while the engine is built.
    blocks = itertools.count(training.first_block(newest or 0) + rank, world)
    feed = None if is_done else _feed(training, device, rank, attempt, blocks)
    task = build_task(training, num_classes=catalog.num_classes).to(device)
    if newest is None and isinstance(task, PretrainTask):
        take_start(task.model, training.config.start)
    if training.train.activation_checkpointing:
        recompute_activations(task)
    if training.train.compile:
        compile_in_place(task.model, device)
    engine = build_engine(task, training, pace, device)
    facts = drift.facts(training.config, autocast_dtype=autocast_dtype(training.train.precision, device))
    progress, guard = _resume(training, newest, engine, facts, device)
    run_log = RunLog(
        training.output,
        total_steps=schedule.total_steps,
        resumed_step=progress.step,
        active=rank == 0,
        data_wait_warning=training.config.log.data_wait_warning,
        publish=ClusterMetrics(run=training.config.name, training=training.evaluation or "pretrain"),
        fence=training.fence,
    )
    if feed is not None:
        stop = StopRequest(timeout_seconds=training.config.watch.collective_seconds)
        with stop.listening(), NoticeReader(stop, training.output):
            progress = train(
                engine,
                feed,
                progress=progress,
                schedule=schedule,
                pace=pace,
                guard=guard,
                budget=training.config.data.fault_budget,
                checkpointer=Checkpointer(
                    training.checkpoints,
                    rank=rank,
                    world=world,
                    attempt=attempt,
                    keep=training.config.checkpoint.keep,
                    keep_every=training.keep_every(catalog),
                    facts=facts,
                    fence=training.fence,
                ),
                stop=stop,
                utilisation=utilisation(training, catalog, world=world, device=device),
                run_log=run_log,
                beat=watchdog.beat,
            )
    summary: dict[str, Any] = {"progress": asdict(progress), "world": world, "device": _device_name(device)}
    task = trained_task(training, engine, num_classes=catalog.num_classes, device=device)
    if rank == 0 and (isinstance(task, Pretraining) or is_fine_tuned(task)):
        export(training, task, catalog)
    if not isinstance(task, Pretraining):
        test = Feed(
            _rows(training, "test"),
            device=device,
            seed=training.config.seed,
            ahead=2,
            ledger=None,
        )
        batches = watchdog.beats_over(test)
        if isinstance(task, DetectTask):
            judge_test(task, batches, output=training.output, rank=rank)
        else:
            sums = evaluate(task, batches)
            summary["scores"] = plain(sums)
        run_log.write_faults(gather_faults(test.take_faults()), progress.step)
        summary["num_training_samples"] = catalog.num_samples
    # Nobody leaves before rank 0 has written: a worker group ends when its first rank does.
    dist.barrier()
    return summary


class ClusterMetrics:
    """A training's figures as Ray metrics, which Prometheus reads: ray_mae_dist_<name of the figure>.

    Counts of an interval go into counters, everything else is a gauge.
    """

    COUNTS = ("faults", "storage_requests", "storage_retries")

    def __init__(self, **tags: str) -> None:
        self._tags = tags
        self._metrics: dict[str, Counter | Gauge] = {}

    def __call__(self, line: Mapping[str, float]) -> None:
        """Publish one line of metrics.jsonl."""
        for name, value in line.items():
            if name not in self._metrics:
                kind = Counter if name in self.COUNTS else Gauge
                self._metrics[name] = kind(f"mae_dist_{name}", tag_keys=tuple(self._tags))
            metric = self._metrics[name]
            if isinstance(metric, Gauge):
                metric.set(value, tags=self._tags)
            elif value:  # a counter refuses to grow by nothing
                metric.inc(value, tags=self._tags)


def utilisation(training: Training, samples: Samples, *, world: int, device: torch.device) -> Utilisation:
    """What turns this training's throughput into the use of its devices; a stated peak goes first."""
    dtype = autocast_dtype(training.train.precision, device)
    stated = training.config.resources.peak_tflops
    return Utilisation(
        operations=training.operations(num_classes=samples.num_classes),
        world=world,
        peak_tflops=known_peak(_device_name(device), dtype) if stated is None else stated,
    )


Task = Pretraining | ClassifyTask | DetectTask


def build_task(training: Training, *, num_classes: int) -> Task:
    """The module to optimise, initialised from the seed and then from the weights to start from."""
    config = training.config
    architecture = config.architecture
    weights = None if training.weights is None else storage.read_bytes(training.weights)
    if weights is not None and native.has_learned_positions(weights):
        architecture = replace(architecture, positions="learned")
    torch.manual_seed(config.seed)
    if training.protocol is None and config.tokenizer is not None:
        return TokenizerTask(training.tokenizer_card, config.tokenizer)
    if training.protocol is None:
        made = None if training.target_file is None else storage.read_bytes(training.target_file)
        return PretrainTask(architecture, config.grid, config.input, config.target, made=made)
    model = (architecture, config.grid, config.input, training.protocol)
    if training.protocol.protocol == "detect":
        task: ClassifyTask | DetectTask = DetectTask(*model, num_actions=num_classes)
    else:
        task = ClassifyTask(*model, num_classes=num_classes, seed=config.seed)
    if weights is not None:
        encoder, _ = native.load_encoder(weights, config.grid)
        task.take_encoder(encoder)
    return task


def build_engine(task: Task, training: Training, pace: Pace, device: torch.device) -> Engine:
    """DeepSpeed ZeRO, or plain torch, see `Training.uses_zero`."""
    resources: ResourcesConfig = training.config.resources
    optim = training.train.optim
    depth = training.config.model.architecture.encoder.depth
    options = {
        "accumulation": pace.accumulation,
        "clip_grad_norm": optim.clip_grad_norm,
        "autocast_dtype": autocast_dtype(training.train.precision, device),
        "ema": training.train.ema,
    }
    if not training.uses_zero:
        return TorchEngine(task, lambda module: make_optimizer(module, optim, depth=depth), **options)
    # Imported here: it takes a second, and probes and the plain engine do without.
    from mae_dist.train.zero import ZeroEngine

    return ZeroEngine(
        task,
        lambda module: make_optimizer(module, optim, depth=depth),
        stage=resources.zero_stage,
        offload=resources.offload,
        micro_batch=training.train.micro_batch,
        **options,
    )


AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Of matrix products, None for fp32; "auto" is bf16 on a GPU that has it."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return AUTOCAST[precision]


def _resume(
    training: Training, newest: int | None, engine: Engine, facts: Mapping[str, str], device: torch.device
) -> tuple[Progress, LossGuard]:
    """Load this training's checkpoint of step `newest`, if there is one, and what its guard knew.

    Raises DriftError if it was made by another kind of run, CheckpointError if it turns out damaged: the next
    worker group then begins at the one before it, as its data have to.
    """
    progress, state = Progress(), {}
    if newest is not None:
        manifest = checkpoint.read_manifest(training.checkpoints, newest)
        allowed = training.config.checkpoint.allow_drift
        check_drift(training.checkpoints, then=manifest.facts, now=facts, allowed=allowed)
        progress, state = checkpoint.load(training.checkpoints, newest, engine), manifest.guard
        logging.getLogger(__name__).info("resumed at step %d", progress.step)
    guard = LossGuard(
        training.config.guard,
        log_uri=storage.join(training.output, "skipped.jsonl"),
        state=state,
        overflow_is_normal=autocast_dtype(training.train.precision, device) == torch.float16,
    )
    guard.forget_after(progress.step)
    return progress, guard


def _agree(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def _rows(training: Training, name: str) -> Iterator[dict[str, Any]]:
    """This rank's share of the plan called `name`."""
    shard = ray.train.get_dataset_shard(name)
    assert shard is not None
    return read_shard(shard, prefetch=training.config.data.prefetch_batches)


def _feed(training: Training, device: torch.device, rank: int, attempt: str, blocks: Iterable[int]) -> Feed:
    ledger = storage.join(training.output, "ledger", f"{name_of(attempt, rank)}.jsonl")
    return Feed(
        _rows(training, "train"),
        device=device,
        seed=training.config.seed,
        ahead=2,
        ledger=ledger if training.config.log.ledger else None,
        blocks=blocks,
    )


def trained_task(training: Training, engine: Engine, *, num_classes: int, device: torch.device) -> Task:
    """The task with the weights that were trained, or their averages, whole on every rank.

    A task of its own: an engine may have cut the one it trained. Batch statistics are those of rank 0, as in
    data-parallel training of the papers.
    """
    kind = "weight" if training.train.ema is None else "ema"
    state = whole_weights(engine, kind=kind, device=device)
    task = build_task(training, num_classes=num_classes).to(device)
    load_weights(task, state, kind=kind)
    load_buffers(task, state)
    return task


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _log_to_stderr(rank: int) -> None:
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        format=f"%(asctime)s rank {rank} %(name)s: %(message)s",
    )
