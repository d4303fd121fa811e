"""Fine-tuned weights on other test sets, as they are: corrupted images, renditions, sketches, hard examples.

    export of a fine-tuning, another test set -> an answer for each of its samples -> result.json

The set may have some of the trained classes only, in another order. Letters: B views of a block, S samples, V
views of each, C classes that may be answered.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mae_dist import storage
from mae_dist.config.load import to_dict
from mae_dist.config.schema import EvaluationConfig, RunConfig
from mae_dist.config.testing import RobustnessConfig
from mae_dist.data.batch import StreamSpec, num_blocks, stream_of_a_pass
from mae_dist.data.catalog import Catalog
from mae_dist.data.class_names import read_class_names, trained_numbers
from mae_dist.data.faults import Fault, check_budget
from mae_dist.data.readers.corruptions import corruption_of
from mae_dist.data.sources import make_source
from mae_dist.evaluate.accuracy import accuracy
from mae_dist.evaluate.cluster import Placement, over_blocks
from mae_dist.evaluate.corruptions import corruption_errors
from mae_dist.evaluate.progress import shower
from mae_dist.model.weights.classifier import load_classifier
from mae_dist.model.weights.header import CLASSIFIER, read_card
from mae_dist.train.scores import NUM_MISTAKES
from mae_dist.train.tasks import PatchInput


@dataclass(frozen=True, kw_only=True, slots=True)
class RobustnessTest:
    """One other test set for the weights of one fine-tuning, as plain data."""

    config: RunConfig
    name: str
    """Key in config.evaluations."""
    test_set: str
    """Key in its `robustness`."""
    weights: str
    """Export of the fine-tuning."""
    output: str
    placement: Placement

    @property
    def protocol(self) -> EvaluationConfig:
        """The fine-tuning's config."""
        return self.config.evaluations[self.name]

    @property
    def settings(self) -> RobustnessConfig:
        """The test set's config."""
        return self.protocol.robustness[self.test_set]

    def stream(self) -> StreamSpec:
        """One pass over the test set, its views side by side."""
        return replace(stream_of_a_pass(self.config, self.protocol), test=self.settings.views)


@dataclass(frozen=True, slots=True)
class Answers:
    """What was answered to every sample that counts, in any order."""

    sample: np.ndarray
    """int64 (S,)."""
    answer: np.ndarray
    """int64 (S,), a number among the classes that may be answered."""
    in_top5: np.ndarray
    """bool (S,): whether the right class is among the first five."""
    right_views: np.ndarray
    """float64 (S,): the share of views that are right alone."""


def score_robustness(test: RobustnessTest, *, start_from: str) -> dict[str, Any]:
    """Score the weights on the test set and write its result.json; returns the result.

    Every sample is counted once; those that cannot be read are in faults.jsonl. Raises SourceError, before
    anything is decoded, if a class of the set was not trained, FaultBudgetError if too many samples cannot be
    read.
    """
    its = test.settings
    assert its.catalog is not None
    samples = make_source(its.catalog, work_folder=test.output, kind=its.kind)
    trained = read_card(_header(test.weights), CLASSIFIER)["classes"]
    names = None if its.class_names is None else read_class_names(its.class_names)
    numbers = trained_numbers(samples.classes, trained, names)
    answers, faults = _answers(test, samples, numbers)
    result = {
        "evaluation": f"{test.name}.{test.test_set}",
        "protocol": "robustness",
        "start_from": start_from,
        **scored(answers, samples, numbers, trained, answers_of=its.answers),
        "settings": {
            "weights": f"as fine-tuned by {test.name}",
            "test_set": its.catalog,
            "classes": samples.num_classes,
            "trained_classes": len(trained),
            "answers": its.answers,
            "views": f"{its.views.clips} x {its.views.crops}",
        },
        "published": None if its.published is None else to_dict(its.published),
    }
    if its.layout == "corruptions":
        expected = answered_samples(samples, numbers, answers_of=its.answers)
        result |= _of_corruptions(answers, expected) | {"published": None}
        result["corruptions"]["published"] = None if its.published is None else to_dict(its.published)
    if faults:
        lines = "".join(json.dumps({"step": 0} | fault) + "\n" for fault in faults)
        storage.write_bytes(storage.join(test.output, "faults.jsonl"), lines.encode())
    storage.write_json(storage.join(test.output, "result.json"), result)
    return result


class Judge:
    """The classifier in one process: a block of the stream in, answers out."""

    def __init__(
        self, weights: str, stream: StreamSpec, numbers: list[int] | None, *, device: torch.device
    ) -> None:
        self._model, card = load_classifier(storage.read_bytes(weights), stream.grid)
        self._model.to(device)
        self._pixels = PatchInput(card.model.architecture, stream.input).to(device)
        self._numbers = numbers
        self._views = stream.views_per_sample
        self._device = device

    @torch.no_grad()
    def __call__(self, block: int, columns: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """The fields of `Answers` as lists. Labels are numbers among the classes that may be answered."""
        counted_S = np.array(columns["counted"])[:: self._views]
        if not counted_S.any():
            return {"sample": [], "answer": [], "in_top5": [], "right_views": []}
        clips = torch.from_numpy(np.array(columns["clips"])[np.repeat(counted_S, self._views)])
        labels_S = torch.from_numpy(np.array(columns["label"])[:: self._views][counted_S]).to(self._device)
        patches = self._pixels.cut(clips.to(self._device)).float() / 255
        logits_BC = self._model(self._pixels.normalise(patches)).float()
        if self._numbers is not None:
            logits_BC = logits_BC[:, self._numbers]
        answers_SVC = logits_BC.softmax(dim=-1).unflatten(0, (-1, self._views))
        top5_S5 = answers_SVC.mean(dim=1).topk(min(5, answers_SVC.shape[-1]), dim=1).indices
        right_SV = answers_SVC.argmax(dim=-1) == labels_S[:, None]
        return {
            "sample": columns["sample"][:: self._views][counted_S].tolist(),
            "answer": top5_S5[:, 0].tolist(),
            "in_top5": (top5_S5 == labels_S[:, None]).any(dim=1).tolist(),
            "right_views": right_SV.double().mean(dim=1).tolist(),
        }


def joined(parts: Iterable[Mapping[str, list[Any]]]) -> Answers:
    """The answers of all blocks."""
    lists: dict[str, list[Any]] = {"sample": [], "answer": [], "in_top5": [], "right_views": []}
    for part in parts:
        for name, values in part.items():
            lists[name] += values
    dtypes = {"sample": np.int64, "answer": np.int64, "in_top5": np.bool_, "right_views": np.float64}
    return Answers(**{name: np.array(values, dtypes[name]) for name, values in lists.items()})


def answered_samples(samples: Catalog, numbers: np.ndarray, *, answers_of: str) -> Catalog:
    """The samples with labels as numbers among the classes that may be answered."""
    if answers_of == "of_the_set":
        return samples
    labels = samples.table["label"].to_numpy()
    place = samples.table.column_names.index("label")
    field = samples.table.schema.field("label")
    mapped = pa.array(np.where(labels < 0, labels, numbers[labels]), field.type)
    table = samples.table.set_column(place, field, mapped)
    return Catalog(table, samples.classes, samples.chunk)


def scored(
    answers: Answers, samples: Catalog, numbers: np.ndarray, trained: list[str], *, answers_of: str
) -> dict[str, Any]:
    """Accuracies over the samples that have a label, by class of the set, with the most frequent mistakes."""
    labels = samples.table["label"].to_numpy()[answers.sample]
    known = labels >= 0
    labels = labels[known]
    # What an answer means, as a class of the set or as a trained one.
    expected = labels if answers_of == "of_the_set" else numbers[labels]
    names = samples.classes if answers_of == "of_the_set" else trained
    answer = answers.answer[known]

    def by_class(values: np.ndarray) -> list[float]:
        return np.bincount(labels, weights=values, minlength=samples.num_classes).tolist()

    found = accuracy(
        {
            "correct": by_class(answer == expected),
            "correct5": by_class(answers.in_top5[known]),
            "correct_views": by_class(answers.right_views[known]),
            "total": by_class(np.ones(len(labels))),
            "mistakes": None,
        },
        samples.classes,
    )
    wrong = answer != expected
    mistakes = Counter(zip(labels[wrong].tolist(), answer[wrong].tolist(), strict=True))
    found["confusion"] = [
        {"class": samples.classes[label], "predicted": names[its], "count": count}
        for (label, its), count in sorted(mistakes.items(), key=lambda pair: (-pair[1], pair[0]))[
            :NUM_MISTAKES
        ]
    ]
    return found


def _answers(
    test: RobustnessTest, samples: Catalog, numbers: np.ndarray
) -> tuple[Answers, list[dict[str, Any]]]:
    stream = test.stream()
    answered = answered_samples(samples, numbers, answers_of=test.settings.answers)
    chosen = numbers.tolist() if test.settings.answers == "of_the_set" else None
    make = partial(Judge, test.weights, stream, chosen)
    show, total = shower(test.output, "block"), num_blocks(samples, stream)
    faults: list[dict[str, Any]] = []

    def parts() -> Iterator[Mapping[str, list[Any]]]:
        for done, (said, its_faults) in enumerate(
            over_blocks(make, stream, answered, test.placement), start=1
        ):
            faults.extend(its_faults)
            check_budget(
                test.config.data.fault_budget,
                num_faults=len(faults),
                num_seen=min(samples.num_samples, done * stream.micro_batch // stream.views_per_sample),
                latest=[Fault(**fault) for fault in its_faults],
            )
            show(done, total)
            yield said

    return joined(parts()), faults


def _of_corruptions(answers: Answers, samples: Catalog) -> dict[str, Any]:
    """What replaces and adds to the accuracies where a sample is one of several versions of an image.

    The labels of `samples` are numbers among the classes that may be answered.
    """
    labels = samples.table["label"].to_numpy()[answers.sample]
    groups = [corruption_of(key) for key in samples.table["key"].to_pylist()]
    right: Counter[tuple[str, int]] = Counter()
    total: Counter[tuple[str, int]] = Counter()
    for sample, is_right in zip(answers.sample.tolist(), (answers.answer == labels).tolist(), strict=True):
        group = groups[sample]
        assert group is not None
        right[group] += is_right
        total[group] += 1
    # Versions of one image depend on each other: errors of independent answers would be too small.
    unknown = dict.fromkeys(("standard_error", "interval", "top5_interval"))
    counts = {group: (right[group], count) for group, count in total.items()}
    return unknown | {"corruptions": corruption_errors(counts)}


def _header(uri: str) -> bytes:
    """The beginning of a safetensors file, with all that its writer noted."""
    first = storage.read_bytes(uri, length=8)
    return first + storage.read_bytes(uri, start=8, length=int.from_bytes(first, "little"))
