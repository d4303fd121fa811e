"""The paper's linear probe against heads on kept features, at an equal number of heads, on the same samples.

The paper's way trains one head after the other: every epoch decodes, augments and encodes every training
sample again. The fast way extracts features once and trains all heads in one pass. Both have the same
optimizer, learning rates, batches and number of updates, hold out the same samples to choose a head with, and
score it on the same test samples; they differ in the crops, drawn anew in every epoch or kept. All in this
process, without Ray, so that no start of processes counts for either.

    python benchmarks/probe.py [--train PATTERN --test PATTERN] [--weights FILE] [--epochs 5] [--batch 256]
        [--base-lrs 0.8 1.6 …] [--views 1] [--json]

Without samples it draws glyphs; without weights the encoder is a random one. PATTERN is whatever data.catalog
takes, for example 'cifar10/train-*.parquet'.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mae_dist import storage
from mae_dist.config.load import load
from mae_dist.config.schema import EvaluationConfig, RunConfig
from mae_dist.data.batch import StreamSpec, build_block, num_blocks
from mae_dist.data.catalog import Catalog
from mae_dist.data.mix import Samples
from mae_dist.data.sources import make_source
from mae_dist.evaluate.cluster import Placement
from mae_dist.evaluate.extraction import Answer, Embedder, Extraction, extract, extraction_of
from mae_dist.evaluate.features import Features
from mae_dist.evaluate.frozen import PARTS, FrozenEvaluation, probe
from mae_dist.evaluate.split import validation_samples
from mae_dist.model.weights import native
from mae_dist.train.param_groups import make_optimizer
from mae_dist.train.schedule import schedule_of
from mae_dist.train.tasks import ClassifyTask

BASE_LRS = [0.8, 1.6, 3.2, 6.4, 12.8]
LEAST_SPEEDUP, MOST_POINTS = 10.0, 1.0
CPU = torch.device("cpu")


def config_of(arguments: argparse.Namespace) -> RunConfig:
    """pretrain/cifar10 with the two probes to compare, of equal learning rates."""
    return load(
        "pretrain/cifar10",
        [
            f"data.catalog={arguments.train}",
            f"data.test_catalog={arguments.test}",
            f"model.size={arguments.size}",
            "resources.workers=1",
            f"evaluations.linear_probe.train.length={arguments.epochs} epochs",
            f"evaluations.linear_probe.train.global_batch={arguments.batch}",
            f"evaluations.linear_probe.train.micro_batch={arguments.batch}",
            f"evaluations.feature_probe.heads.base_lrs={json.dumps(arguments.base_lrs)}",
            "evaluations.feature_probe.features.layers=[-1]",
            "evaluations.feature_probe.augment={crop: random_resized, scale: [0.5, 1.0], flip: true}",
            f"evaluations.feature_probe.features.drawn_views={arguments.views}",
            f"evaluations.feature_probe.heads.batch={arguments.batch}",
            # Its epochs are over the kept crops: as many updates as the paper's way makes.
            f"evaluations.feature_probe.heads.length={arguments.epochs / arguments.views} epochs",
        ],
    )


def blocks_of(samples: Catalog, spec: StreamSpec, count: int) -> Iterator[dict[str, Any]]:
    """The first blocks of a stream as a task takes them."""
    for number in range(count):
        columns = build_block(number, samples, spec)
        arrays = {name: torch.from_numpy(columns[name]) for name in ("clips", "label", "counted")}
        yield arrays | {"block": number}


def papers_way(
    config: RunConfig,
    protocol: EvaluationConfig,
    weights: str | None,
    samples: dict[str, Catalog],
) -> tuple[list[float], float]:
    """Held-out accuracy of a head per learning rate, trained one by one; test accuracy of the best."""
    held_out: list[float] = []
    best: ClassifyTask | None = None
    scored = stream(config, protocol, micro_batch=protocol.eval_batch, train=False)
    for base_lr in config.evaluations["feature_probe"].heads.base_lrs:
        train = replace(protocol.training, optim=replace(protocol.training.optim, base_lr=base_lr))
        torch.manual_seed(config.seed)
        task = ClassifyTask(
            config.model.architecture,
            config.grid,
            config.input,
            protocol,
            num_classes=samples["train"].num_classes,
            seed=config.seed,
        )
        if weights is not None:
            task.take_encoder(native.load_encoder(storage.read_bytes(weights), config.grid)[0])
        optimizer = make_optimizer(task, train.optim, depth=config.model.architecture.encoder.depth)
        spec = stream(config, protocol, micro_batch=train.global_batch, train=True)
        schedule = schedule_of(train, samples_per_epoch=samples["train"].num_samples)
        for step, batch in enumerate(blocks_of(samples["train"], spec, schedule.total_steps)):
            for group in optimizer.param_groups:
                group["lr"] = schedule.lr(step)
            optimizer.zero_grad()
            task(batch).loss.backward()
            optimizer.step()
        task.eval()
        held_out.append(accuracy(task, samples["held out"], scored))
        if held_out[-1] == max(held_out):
            best = task
    assert best is not None
    return held_out, accuracy(best, samples["test"], scored)


def stream(config: RunConfig, protocol: EvaluationConfig, *, micro_batch: int, train: bool) -> StreamSpec:
    """The stream of a probe on samples."""
    return StreamSpec(
        seed=config.seed,
        micro_batch=micro_batch,
        input=config.input,
        augment=protocol.augment,
        mask=None,
        grid=config.grid,
        train=train,
    )


@torch.no_grad()
def accuracy(task: ClassifyTask, samples: Catalog, spec: StreamSpec) -> float:
    """Top-1 in percent."""
    sums = task.zero_score()
    for batch in blocks_of(samples, spec, num_blocks(samples, spec)):
        sums = {name: sums[name] + its for name, its in task.score(batch).items()}
    return float(100 * sums["correct"].sum() / sums["total"].sum())


def fast_way(config: RunConfig, weights: str | None, folder: str) -> float:
    """Test accuracy in percent of the head that is best on the held-out samples."""
    job = FrozenEvaluation(
        config=config,
        name="feature_probe",
        catalog=f"{folder}/train.parquet",
        test_catalog=f"{folder}/test.parquet",
        output=f"{folder}/out",
        placement=Placement(workers=1, cpus_per_worker=1, use_gpu=False, cpus_per_task=1),
    )
    parts: dict[str, Features] = {}
    for part in PARTS:
        its = job.samples(part)
        given = extraction_of(
            config,
            job.protocol,
            its,
            root=f"{folder}/{part}",
            weights=weights,
            for_test=part == "test",
            use_gpu=False,
        )
        embed = embedded_here(given, its)
        parts[part] = extract(given, its, embedded=embed, budget=config.data.fault_budget)
    scores = probe(job, parts, CPU)["scores"]
    return 100 * sum(scores["correct"]) / sum(scores["total"])


def embedded_here(given: Extraction, samples: Samples) -> Callable[[Collection[int]], Iterator[Answer]]:
    """The blocks of an extraction, embedded in this process."""

    def embed(skip: Collection[int]) -> Iterator[Answer]:
        embedder = Embedder(given, device=CPU)
        for block in range(num_blocks(samples, given.stream)):
            if block not in skip:
                columns = build_block(block, samples, given.stream)
                yield embedder(block, columns), [asdict(fault) for fault in columns["faults"]]

    return embed


def part_of(samples: Catalog, chosen: np.ndarray) -> Catalog:
    """The samples of a mask."""
    return replace(samples, table=samples.table.take(pa.array(np.flatnonzero(chosen))))


def main() -> None:
    """Measure both ways and print what they took and reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", default="drawn://glyphs?samples=3000&seed=1")
    parser.add_argument("--test", default="drawn://glyphs?samples=1000&seed=2")
    parser.add_argument("--labels", type=int, help="training samples per class; all unless given")
    parser.add_argument("--weights", help="exported masked autoencoder, of --size")
    parser.add_argument("--size", default="mae_micro")
    parser.add_argument("--epochs", type=int, default=5, help="passes over the training samples")
    parser.add_argument("--batch", type=int, default=256, help="samples per update")
    parser.add_argument("--base-lrs", type=float, nargs="+", default=BASE_LRS, help="one head for each")
    parser.add_argument("--views", type=int, default=1, help="augmented crops kept of each training sample")
    parser.add_argument("--json", action="store_true", help="print the claims as JSON")
    arguments = parser.parse_args()
    config = config_of(arguments)
    with tempfile.TemporaryDirectory() as folder:
        whole = make_source(arguments.train, work_folder=f"{folder}/drawn/train")
        whole = whole if arguments.labels is None else whole.subset(arguments.labels)
        test = make_source(arguments.test, work_folder=f"{folder}/drawn/test")
        whole.save(f"{folder}/train.parquet")
        test.save(f"{folder}/test.parquet")
        protocol = replace(config.evaluations["linear_probe"], labels_per_class=None)
        share = config.evaluations["feature_probe"].features.validation_share
        held_out = validation_samples(whole, share=share, seed=config.seed)
        samples = {"train": part_of(whole, ~held_out), "held out": part_of(whole, held_out), "test": test}
        # The first sample of a process is late: imports and the decoder's process are not the probe's.
        next(blocks_of(test, stream(config, protocol, micro_batch=1, train=False), 1))

        marks = [time.perf_counter()]
        fast = fast_way(config, arguments.weights, folder)
        marks.append(time.perf_counter())
        held_out_accuracies, paper = papers_way(config, protocol, arguments.weights, samples)
        marks.append(time.perf_counter())
    fast_seconds, paper_seconds = np.diff(marks).tolist()
    print_result(
        {
            "heads": len(held_out_accuracies),
            "epochs": arguments.epochs,
            "views": arguments.views,
            "training_samples": samples["train"].num_samples,
            "paper_seconds": paper_seconds,
            "fast_seconds": fast_seconds,
            "paper_top1": paper,
            "fast_top1": fast,
            "paper_held_out": held_out_accuracies,
        },
        as_json=arguments.json,
    )


def print_result(found: dict[str, Any], *, as_json: bool) -> None:
    """The two claims, and what they come from."""
    speedup = found["paper_seconds"] / found["fast_seconds"]
    points = abs(found["fast_top1"] - found["paper_top1"])
    what = f"{found['heads']} linear probes, {found['epochs']} epochs of {found['training_samples']} samples"
    claims = [
        {
            "what": f"{what}: time of the paper's way over that of the fast way",
            "measured": round(speedup, 2),
            "goal": LEAST_SPEEDUP,
            "met": speedup >= LEAST_SPEEDUP,
        },
        {
            "what": f"{what}: points between the accuracies of the best heads",
            "measured": round(points, 2),
            "goal": MOST_POINTS,
            "met": points <= MOST_POINTS,
        },
    ]
    if as_json:
        print(json.dumps({"claims": claims, "found": found}, indent=1))
        return
    for name, value in found.items():
        print(f"{name:<26} {value}")
    for claim in claims:
        print(f"{claim['measured']} (goal {claim['goal']:g}): {claim['what']}")


if __name__ == "__main__":
    main()
