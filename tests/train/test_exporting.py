"""What a fine-tuning leaves: a whole classifier that answers as it did, with its card."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from mae_dist import storage
from mae_dist.config.load import load
from mae_dist.model.encoder import Encoder
from mae_dist.model.patches import patchify
from mae_dist.model.weights import classifier, native
from mae_dist.model.weights.header import CLASSIFIER, MASKED_AUTOENCODER, WeightsError, read_card
from mae_dist.train.exporting import export, is_fine_tuned
from mae_dist.train.tasks import ClassifyTask
from mae_dist.train.training import Training
from mae_dist.train.worker import build_task
from tests.train.test_training import catalog


def fine_tuned(folder, evaluation: str = "finetune", **head: str) -> tuple[Training, ClassifyTask]:
    settings = [f"evaluations.finetune.head.{name}={value}" for name, value in head.items()]
    config = load("pretrain/demo", ["data.catalog=images", *settings])
    training = Training(config=config, output=str(folder), catalog="catalog.parquet", evaluation=evaluation)
    task = build_task(training, num_classes=2)
    assert isinstance(task, ClassifyTask)
    return training, task


def test_an_export_answers_as_the_weights_that_were_fine_tuned(tmp_path):
    training, task = fine_tuned(tmp_path, drop_path="0.5", init_scale="1.0")
    export(training, task, catalog())
    loaded, card = classifier.load_classifier(storage.read_bytes(training.export))
    torch.manual_seed(0)
    patches = patchify(torch.rand(2, 4, 64, 64, 3), patch=8, tubelet=2)
    torch.testing.assert_close(loaded(patches), task.model.eval()(patches))
    assert card.classes == ("cat", "dog")
    assert card.model.provenance["Evaluation"] == "finetune"
    assert card.model.provenance["Samples"].startswith("images (")


def test_its_card_is_read_without_its_tensors(tmp_path):
    training, task = fine_tuned(tmp_path)
    export(training, task, catalog())
    data = storage.read_bytes(training.export)
    header = data[: 8 + int.from_bytes(data[:8], "little")]
    assert read_card(header, CLASSIFIER)["classes"] == ["cat", "dog"]
    text = storage.read_bytes(f"{tmp_path}/export/model_card.md").decode()
    assert "| Classes | 2: cat, dog |" in text
    assert "| Started from | random weights |" in text


def test_a_probe_is_no_classifier_of_its_own(tmp_path):
    assert is_fine_tuned(fine_tuned(tmp_path)[1])
    assert not is_fine_tuned(fine_tuned(tmp_path, "linear_probe")[1])


def test_one_kind_of_export_is_not_taken_for_another(tmp_path):
    training, task = fine_tuned(tmp_path)
    export(training, task, catalog())
    with pytest.raises(WeightsError) as caught:
        read_card(storage.read_bytes(training.export), MASKED_AUTOENCODER)
    assert str(caught.value) == (
        "a file of weights, but not an export of mae_dist: its metadata says format 'mae_dist.classifier.1', "
        "expected 'mae_dist.masked_autoencoder.1'"
    )


def test_weights_that_do_not_fit_their_card_are_refused(tmp_path):
    training, task = fine_tuned(tmp_path)
    export(training, task, catalog())
    _, card = classifier.load_classifier(storage.read_bytes(training.export))
    more = dataclasses.replace(card, classes=("cat", "dog", "eel"))
    with pytest.raises(WeightsError, match=r"the weights do not fit their card: .*head"):
        classifier.load_classifier(classifier.to_bytes(task.model.state_dict(), more))


def test_positions_that_weights_came_with_are_fine_tuned_with_and_exported(tmp_path):
    training, _ = fine_tuned(tmp_path)
    config = training.config
    its = dataclasses.replace(config.model.architecture, positions="learned", decoder=native.NO_DECODER)
    encoder = Encoder(its, config.grid)
    encoder.positions.normal_(generator=torch.Generator().manual_seed(0))
    inputs = config.input
    card = native.ModelCard(
        architecture=its,
        frames=inputs.frames,
        height=inputs.height,
        width=inputs.width,
        mean=inputs.mean,
        std=inputs.std,
        target="pixel",
    )
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    weights = f"{tmp_path}/given.safetensors"
    storage.write_bytes(weights, native.to_bytes(tensors, card))
    training = dataclasses.replace(training, weights=weights)
    task = build_task(training, num_classes=2)
    assert isinstance(task, ClassifyTask)
    assert torch.equal(task.model.encoder.positions, encoder.positions)
    export(training, task, catalog())
    loaded, _ = classifier.load_classifier(storage.read_bytes(training.export))
    patches = patchify(torch.rand(2, 4, 64, 64, 3), patch=8, tubelet=2)
    torch.testing.assert_close(loaded(patches), task.model.eval()(patches))
    larger = dataclasses.replace(config.grid, rows=config.grid.rows + 2)
    other, _ = classifier.load_classifier(storage.read_bytes(training.export), larger)
    assert len(other.encoder.positions) == larger.num_tokens


def test_the_samples_of_a_labelled_source_are_those_that_it_was_fine_tuned_on(tmp_path):
    mix = "data.mix={a: {catalog: first, weight: 1}, b: {catalog: second, weight: 1}}"
    training, task = fine_tuned(tmp_path)
    config = load("pretrain/demo", ["data.catalog=null", mix, "data.labelled=b"])
    export(dataclasses.replace(training, config=config), task, catalog())
    card = json.loads(json.dumps(read_card(storage.read_bytes(training.export), CLASSIFIER)))
    assert card["model"]["provenance"]["Samples"].startswith("second (")
