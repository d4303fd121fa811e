"""What a training leaves for others: its weights with a card that says how to use them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TypeGuard

from mae_dist import storage
from mae_dist.data.mix import Samples, describe
from mae_dist.model import tokenizer
from mae_dist.model.classifier import Classifier
from mae_dist.model.weights import classifier, native
from mae_dist.train.tasks import ClassifyTask, Pretraining, PretrainTask, TokenizerTask
from mae_dist.train.training import Training


def is_fine_tuned(task: object) -> TypeGuard[ClassifyTask]:
    """Whether the task made a whole classifier; a probe is a head on weights that are there already."""
    return isinstance(task, ClassifyTask) and isinstance(task.model, Classifier)


def export(training: Training, task: Pretraining | ClassifyTask, samples: Samples) -> None:
    """Write the weights and their model card into the output folder, unless it is a later driver's."""
    if training.fence is not None:
        training.fence.check()
    if isinstance(task, PretrainTask):
        card = _card(training, samples)
        data, text = native.to_bytes(task.model.state_dict(), card), native.card_markdown(card)
    elif isinstance(task, TokenizerTask):
        its_card = replace(task.card, provenance=_provenance(training, samples))
        data, text = tokenizer.to_bytes(task.model.state_dict(), its_card), tokenizer.card_markdown(its_card)
    else:
        data, text = _classifier(training, task, samples)
    storage.write_bytes(training.export, data)
    storage.write_bytes(storage.join(training.output, "export", "model_card.md"), text.encode())


def _classifier(training: Training, task: ClassifyTask, samples: Samples) -> tuple[bytes, str]:
    protocol = training.protocol
    assert protocol is not None
    about = {"Evaluation": str(training.evaluation), "Started from": training.weights or "random weights"}
    model = _card(training, samples, **about)
    # Positions that the encoder came with stay.
    learned = task.model.encoder.architecture.positions
    its = replace(model.architecture, positions=learned)
    card = classifier.ClassifierCard(
        model=replace(model, architecture=its), classes=tuple(samples.classes), pool=protocol.head.pool
    )
    return classifier.to_bytes(task.model.state_dict(), card), classifier.classifier_markdown(card)


def _card(training: Training, samples: Samples, **about: str) -> native.ModelCard:
    config = training.config
    provenance = _provenance(training, samples)
    if training.protocol is None:
        if training.target_file is not None:
            digest = hashlib.sha256(storage.read_bytes(training.target_file)).hexdigest()
            provenance["Target made with"] = f"sha256 {digest}"
        if config.target.frames != "same":
            provenance["Target frames"] = config.target.frames
        provenance["Mask"] = f"{config.mask.kind} {config.mask.ratio:g}"
        if config.mask.predict != "all":
            provenance["Decoder mask"] = f"{config.mask.predict} {config.mask.predict_ratio:g}"
        if config.start.weights is not None:
            provenance["Started from"] = config.start.weights
    return native.ModelCard(
        architecture=training.architecture,
        frames=config.input.frames,
        height=config.input.height,
        width=config.input.width,
        mean=config.input.mean,
        std=config.input.std,
        target=config.target.kind,
        provenance=provenance | about,
    )


def _provenance(training: Training, samples: Samples) -> dict[str, str]:
    # The source that the user named, not the path of this run's copy of the list.
    return {
        "Run": training.config.name,
        "Samples": describe(samples, _sources(training)),
        "Length": str(training.train.length),
    }


def _sources(training: Training) -> list[str]:
    data = training.config.data
    if training.protocol is not None and data.labelled is not None:
        return [data.mix[data.labelled].catalog]
    return list(data.sources.values())
