"""Everything that can be known to be wrong before anything is started; all of it at once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mae_dist import storage
from mae_dist.config.detection import DetectionConfig
from mae_dist.config.schema import DataConfig, RunConfig
from mae_dist.config.testing import RobustnessConfig
from mae_dist.data import sources
from mae_dist.data.catalog import Catalog, CatalogError, labels_disagree
from mae_dist.data.class_names import read_class_names, trained_numbers
from mae_dist.data.mix import identity
from mae_dist.data.people import excluded_of, judged_keyframes, people_of
from mae_dist.data.readers import SourceError
from mae_dist.data.readers.corruptions import corruption_of
from mae_dist.data.readers.official import difference
from mae_dist.data.shards import ShardError
from mae_dist.data.turns import whole_weights
from mae_dist.model.weights.header import WeightsError
from mae_dist.orchestrate.given import identify_tokenizer, identify_weights
from mae_dist.orchestrate.shortage import no_node_carries
from mae_dist.orchestrate.starts import identify_start
from mae_dist.report import tracking

_PEOPLE = "people of "
_NO_CORRUPTIONS = (
    "catalog: its samples are not of the kind corruptions; name the folder, or a catalog of "
    "`mae-dist catalog build --kind corruptions`"
)

log = logging.getLogger(__name__)


class PreflightError(ValueError):
    """A run cannot work as asked; lists every problem with where, what and what would be right."""

    def __init__(self, name: str, problems: list[str]) -> None:
        super().__init__(f"{name}: {len(problems)} problem(s)\n" + "\n".join(f"  {p}" for p in problems))


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the samples of a run are."""

    digests: dict[str, str]
    """What stands for them in the run's digest: for "catalog", be it one or a mix, for "test_catalog", for
    "labelled", a mix's source that evaluations train on, for "start", the weights that a pretraining starts
    from, and for the lists of people that evaluations read, see `people_input`."""
    catalogs: dict[str, Catalog]
    """Those that exist already, by their fields of `data`."""


def check_inputs(config: RunConfig) -> Inputs:
    """Look at storage and samples.

    Each source is listed once, which takes minutes where it is large. A catalog of a public data set that is
    not complete is warned of. Raises PreflightError. Nothing is written.
    """
    problems: list[str] = []
    try:
        storage.check_writable(config.storage)
    except storage.StorageError as error:
        problems.append(f"storage: {error}")
    inputs: dict[str, str] = {}
    if config.weights is not None:
        try:
            weights, misfits = identify_weights(config)
            inputs |= weights
            problems += misfits
        except (storage.StorageError, WeightsError) as error:
            problems.append(f"weights: {error}")
    elif config.target.kind == "token" and config.tokenizer is None:
        try:
            inputs["tokenizer"], misfits = identify_tokenizer(config)
            problems += misfits
        except (storage.StorageError, WeightsError) as error:
            problems.append(f"target.tokenizer: {error}")
    if config.start.weights is not None:
        try:
            inputs["start"], misfits = identify_start(config)
            problems += misfits
        except (storage.StorageError, WeightsError) as error:
            problems.append(f"start.weights: {error}")
    catalogs: dict[str, Catalog] = {}
    given = config.data.sources | {"test_catalog": config.data.test_catalog}
    for field, source in given.items():
        if source is None:
            continue
        try:
            inputs[field], catalog = sources.identify(source)
        except (storage.StorageError, CatalogError, SourceError, ShardError) as error:
            problems.append(f"data.{field}: {error}")
            continue
        if catalog is not None:
            catalogs[field] = catalog
            differs = difference(catalog.origin, catalog.num_samples)
            if differs is not None:
                log.warning("data.%s: %s", field, differs)
    if any(evaluation.protocol != "detect" for evaluation in config.evaluations.values()):
        problems += _label_problems(catalogs, config.data.labelled)
    detections = {name: its.detection for name, its in config.evaluations.items() if its.protocol == "detect"}
    if detections:
        problems += _box_problems(catalogs, config.data.labelled)
    for name, evaluation in config.evaluations.items():
        for test_set, its in evaluation.robustness.items():
            if its.catalog is not None:
                digest, complaints = _other_test_set(its, catalogs, config.data.labelled)
                inputs[robustness_input(name, test_set)] = digest
                path = f"evaluations.{name}.robustness.{test_set}"
                problems += [f"{path}.{complaint}" for complaint in complaints]
    for name, detection in detections.items():
        test = catalogs.get("test_catalog")
        problems += _people_problems(name, detection, test if test is not None and test.has_boxes else None)
        if not problems:
            inputs |= {people_input(name): _people_digest(detection)}
    if config.evaluations and config.data.test_catalog is None:
        problems.append(
            "data.test_catalog: the evaluations need samples to be scored on; give "
            "--set data.test_catalog=URI, or --set evaluations={} for none"
        )
    untold = tracking.problem(config.log.mlflow)
    if untold is not None:
        problems.append(untold)
    if problems:
        raise PreflightError(config.name, problems)
    return Inputs(inputs if not config.data.mix else _of_mix(config.data, inputs), catalogs)


def check_capacity(config: RunConfig, capacity: Mapping[str, float], *, is_alone: bool = False) -> bool:
    """Whether the run uses GPUs on a cluster of this capacity ("CPU", "GPU", custom resources).

    Raises PreflightError if the cluster can never hold one training step. A node with a resource that none
    carries may still join, and is warned of; not where the cluster is this machine and nothing else.
    """
    resources = config.resources
    use_gpu = resources.device == "gpu" or (resources.device == "auto" and capacity.get("GPU", 0) > 0)
    problems = []
    # What can grow later need not find room for all of it now.
    groups = {"resources.workers": resources.workers.least} | {
        f"evaluations.{name}.workers": protocol.workers or 0 for name, protocol in config.evaluations.items()
    }
    field, workers = max(groups.items(), key=lambda group: group[1])
    if use_gpu and workers > capacity.get("GPU", 0):
        problems.append(
            f"{field}: {workers} workers need as many GPUs, the cluster has at most "
            f"{capacity.get('GPU', 0):g}; lower {field} or set resources.device=cpu"
        )
    # Ray Data is given what the workers leave of a node in whole CPUs.
    needed = workers * resources.cpus_per_worker + max(1.0, config.data.cpus_per_task)
    if needed > capacity.get("CPU", 0):
        problems.append(
            f"resources: {workers} worker(s) of {resources.cpus_per_worker:g} CPUs and one decode "
            f"task of {max(1.0, config.data.cpus_per_task):g} need {needed:g} CPUs, the cluster has at most "
            f"{capacity.get('CPU', 0):g}; lower {field}, resources.cpus_per_worker or data.cpus_per_task"
        )
    resource = config.data.decode_resource
    if resource is not None and capacity.get(resource, 0) < config.data.cpus_per_task:
        missing = f"data.decode_resource: {no_node_carries(resource, capacity)}"
        if is_alone:
            problems.append(f"{missing}; a cluster that has one is named by RAY_ADDRESS")
        else:
            log.warning("%s", missing)
    if problems:
        raise PreflightError(config.name, problems)
    return use_gpu


def _of_mix(data: DataConfig, inputs: Mapping[str, str]) -> dict[str, str]:
    """The inputs of a run on a mix, whose catalogs become one."""
    names = sorted(data.mix)
    by_name = {name: inputs[f"mix.{name}.catalog"] for name in names}
    weights = whole_weights([data.mix[name].weight for name in names])
    found = {"catalog": identity(weights, list(by_name.values()))}
    found |= {"labelled": by_name[data.labelled]} if data.labelled is not None else {}
    return found | {name: its for name, its in inputs.items() if not name.startswith("mix.")}


def robustness_input(evaluation: str, test_set: str) -> str:
    """Under which name `check_inputs` returns what stands for another test set and its names of classes."""
    return f"{evaluation} on {test_set}"


def people_input(evaluation: str) -> str:
    """Under which name `check_inputs` returns what stands for the people that an evaluation judges."""
    return f"{_PEOPLE}{evaluation}"


def _people_digest(detection: DetectionConfig) -> str:
    files = (detection.boxes, detection.excluded)
    return " ".join(
        "none" if file is None else hashlib.sha256(storage.read_bytes(file)).hexdigest() for file in files
    )


def _other_test_set(
    its: RobustnessConfig, found: Mapping[str, Catalog], labelled: str | None
) -> tuple[str, list[str]]:
    """What stands for a test set, and by field what keeps fine-tuned weights from being scored on it."""
    assert its.catalog is not None
    try:
        digest, samples = sources.identify(its.catalog, kind=its.kind)
    except (storage.StorageError, CatalogError, SourceError, ShardError) as error:
        return "", [f"catalog: {error}"]
    names = None
    if its.class_names is not None:
        try:
            names = read_class_names(its.class_names)
        except (storage.StorageError, SourceError) as error:
            return "", [f"class_names: {error}"]
        digest += f" {sorted(names.items())}"
    own = ("catalog", f"mix.{labelled}.catalog")
    training = next((catalog for field, catalog in found.items() if field in own), None)
    if samples is None or training is None:
        return digest, []  # drawn by the run itself, which looks at the classes then
    if its.layout == "corruptions" and corruption_of(samples.table["key"][0].as_py()) is None:
        return digest, [_NO_CORRUPTIONS]
    if not samples.num_classes:
        return digest, ["catalog: its samples have no labels, and nothing can be scored on them"]
    try:
        trained_numbers(samples.classes, training.classes, names)
    except SourceError as error:
        return digest, [f"catalog: {error}"]
    return digest, []


def _box_problems(found: Mapping[str, Catalog], labelled: str | None) -> list[str]:
    """What keeps action detection from training and testing on these samples, by field."""
    own = ("catalog", "test_catalog", f"mix.{labelled}.catalog")
    catalogs = {field: catalog for field, catalog in found.items() if field in own}
    problems = [
        f"data.{field}: its samples have no boxes, which detect needs; give a catalog of keyframes "
        f"(mae-dist catalog build --kind ava), or leave the evaluation out"
        for field, catalog in catalogs.items()
        if not catalog.most_boxes
    ]
    training = next((catalog for field, catalog in catalogs.items() if field != "test_catalog"), None)
    test = catalogs.get("test_catalog")
    if problems or training is None or test is None:
        return problems
    complaint = labels_disagree(training.classes, test.classes)
    return [f"data.test_catalog: {complaint}"] if complaint else []


def _people_problems(name: str, detection: DetectionConfig, test: Catalog | None) -> list[str]:
    """What is wrong with the lists that an evaluation names; with the test catalog, if there is one."""
    path = f"evaluations.{name}.detection"
    problems = []
    most = None if test is None or detection.actions is None else max(detection.actions)
    if test is not None and most is not None and most > test.num_classes:
        problems.append(
            f"{path}.actions: action {most}, but data.test_catalog has {test.num_classes}; name some of "
            f"those, or null for all"
        )
    found: dict[str, Any] = {}
    for field, read in (
        ("boxes", lambda: None if test is None else people_of(test, detection)),
        ("excluded", lambda: excluded_of(detection)),
    ):
        try:
            found[field] = read()
        except (storage.StorageError, SourceError) as error:
            problems.append(f"{path}.{field}: {error}")
    if test is not None and len(found) == 2:
        try:
            judged_keyframes(test, found["boxes"], found["excluded"])
        except SourceError as error:
            problems.append(f"{path}.boxes: {error}")
    return problems


def _label_problems(found: Mapping[str, Catalog], labelled: str | None) -> list[str]:
    """What keeps evaluations from training and scoring on these samples, by field."""
    own = ("test_catalog", f"mix.{labelled}.catalog")
    catalogs = {field: catalog for field, catalog in found.items() if labelled is None or field in own}
    training = {field: catalog for field, catalog in catalogs.items() if field != "test_catalog"}
    is_mixed = len(training) > 1
    choice = "; or say which source evaluations train on with data.labelled" if is_mixed else ""
    advice = f"give labelled samples, or --set evaluations={{}} for none{choice}"
    problems = []
    for field, catalog in catalogs.items():
        num_unlabelled = int((catalog.table["label"].to_numpy() < 0).sum())
        if catalog.num_classes < 2:
            problems.append(
                f"data.{field}: its samples have {catalog.num_classes} classes, and the evaluations need at "
                f"least two; {advice}"
            )
        elif num_unlabelled:
            problems.append(
                f"data.{field}: {num_unlabelled} of its {catalog.num_samples} samples have no label, and the "
                f"evaluations need one for each; {advice}"
            )
    if problems or not training:
        return problems
    most = max(training, key=lambda field: training[field].num_classes)
    where = f"data.{most}" if is_mixed else "the training samples"
    for field, catalog in catalogs.items():
        complaint = labels_disagree(training[most].classes, catalog.classes, where=where)
        if complaint:
            problems.append(f"data.{field}: {complaint}{choice}")
    return problems
