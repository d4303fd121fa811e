"""Fine-tuned weights on other test sets, scored in this process, without Ray."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mae_dist import storage
from mae_dist.config.load import load
from mae_dist.data.batch import build_block, num_blocks
from mae_dist.data.readers import SourceError
from mae_dist.evaluate import robustness
from mae_dist.evaluate.cluster import Placement
from mae_dist.evaluate.robustness import RobustnessTest, score_robustness
from mae_dist.model.classifier import Classifier
from mae_dist.model.encoder import Encoder
from mae_dist.model.patches import patchify
from mae_dist.model.targets import normalise
from mae_dist.model.weights import classifier, native

TRAINED = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
RECIPE = """\
name: robust
input: {height: 16, width: 16}
model: {size: mae_nano}
mask: {ratio: 0.75}
data: {catalog: images}
train: {length: 1 steps, global_batch: 4, micro_batch: 4, optim: {base_lr: 1e-3}}
evaluations:
  tuned:
    protocol: finetune
    eval_batch: 4
    train: {length: 1 steps, global_batch: 4, micro_batch: 4, optim: {base_lr: 1e-3}}
    robustness: {other: {catalog: SET, views: {crops: 2}}}
"""


@pytest.fixture(autouse=True)
def without_ray(monkeypatch):
    def over_blocks(make, stream, samples, placement, *, skip=()):
        work = make(device=torch.device("cpu"))
        for block in reversed(range(num_blocks(samples, stream))):
            columns = build_block(block, samples, stream)
            yield json.loads(json.dumps(work(block, columns))), [asdict(its) for its in columns["faults"]]

    monkeypatch.setattr(robustness, "over_blocks", over_blocks)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def put(folder: Path, names: list[str]) -> str:
    """A picture for each name, drawn from its place in the list."""
    for seed, name in enumerate(names):
        file = io.BytesIO()
        Image.fromarray(picture(seed)).save(file, "PNG")
        storage.write_bytes(str(folder / name), file.getvalue())
    return str(folder)


def scoring(folder: Path, test_set: str, *settings: str) -> RobustnessTest:
    """The test of random weights whose answers differ from picture to picture."""
    recipe = folder / "robust.yaml"
    recipe.write_text(RECIPE.replace("SET", test_set))
    config = load(str(recipe), [f"evaluations.tuned.robustness.other.{setting}" for setting in settings])
    torch.manual_seed(4)
    model = Classifier(Encoder(config.model.architecture, config.grid), len(TRAINED), init_scale=50)
    card = native.ModelCard(
        architecture=config.model.architecture,
        frames=1,
        height=16,
        width=16,
        mean=config.input.mean,
        std=config.input.std,
        target="pixel",
    )
    whole = classifier.ClassifierCard(model=card, classes=TRAINED, pool="mean")
    weights = str(folder / "model.safetensors")
    storage.write_bytes(weights, classifier.to_bytes(model.state_dict(), whole))
    return RobustnessTest(
        config=config,
        name="tuned",
        test_set="other",
        weights=weights,
        output=str(folder / "out"),
        placement=Placement(workers=1, cpus_per_worker=1, use_gpu=False, cpus_per_task=1),
    )


@torch.no_grad()
def probabilities(test: RobustnessTest, seed: int) -> torch.Tensor:
    """Of all trained classes for the two views of a picture, (2, 7), worked out by the model alone."""
    model, _ = classifier.load_classifier(storage.read_bytes(test.weights))
    crops = [picture(seed)[:, left : left + 16] for left in (0, 8)]
    pixels = torch.from_numpy(np.stack(crops)).unsqueeze(1).float() / 255
    mean, std = (torch.tensor(its) for its in (test.config.input.mean, test.config.input.std))
    return model(normalise(patchify(pixels, patch=4, tubelet=1), mean, std)).softmax(-1)


NAMES = [f"{label}/{number}.png" for label in ("gnu", "bee", "eel") for number in range(5)]


@pytest.mark.parametrize("answers", ["of_the_set", "all"])
def test_every_sample_is_answered_once_by_the_weights_as_they_are(tmp_path, answers):
    test = scoring(tmp_path, put(tmp_path / "set", NAMES), f"answers={answers}")
    result = score_robustness(test, start_from="pretrained")
    chosen = ["bee", "eel", "gnu"] if answers == "of_the_set" else list(TRAINED)
    columns = [TRAINED.index(name) for name in chosen]
    right = dict.fromkeys(("bee", "eel", "gnu"), 0)
    right_views = 0.0
    for seed, name in enumerate(NAMES):
        label = name.partition("/")[0]
        views = probabilities(test, seed)[:, columns]
        views = views / views.sum(-1, keepdim=True)
        right[label] += chosen[int(views.mean(0).argmax())] == label
        right_views += sum(chosen[int(view.argmax())] == label for view in views) / 2
    assert result["per_class"] == [
        {"class": label, "correct": count, "total": 5} for label, count in right.items()
    ]
    assert result["value"] == pytest.approx(100 * sum(right.values()) / 15)
    assert result["single_view"] == pytest.approx(100 * right_views / 15)
    assert 0 < result["value"] < 100
    assert {its["predicted"] for its in result["confusion"]} <= set(chosen)
    assert sum(its["count"] for its in result["confusion"]) == 15 - sum(right.values())
    assert result["evaluation"] == "tuned.other"
    assert result["settings"]["classes"] == 3
    assert storage.read_json(f"{test.output}/result.json") == result


def test_what_is_right_among_all_classes_is_right_among_fewer(tmp_path):
    found = {}
    for answers in ("of_the_set", "all"):
        (tmp_path / answers).mkdir()
        folder = tmp_path / answers
        test = scoring(folder, put(folder / "set", NAMES), f"answers={answers}", "views.crops=1")
        found[answers] = score_robustness(test, start_from="pretrained")["per_class"]
    for few, all_ in zip(found["of_the_set"], found["all"], strict=True):
        assert few["correct"] >= all_["correct"]
    assert found["of_the_set"] != found["all"]


def test_corruptions_have_a_table_and_no_interval(tmp_path):
    names = [
        f"{corruption}/{severity}/{label}/0.png"
        for corruption in ("fog", "snow")
        for severity in (1, 2)
        for label in ("bee", "eel")
    ]
    published = "published={value: 51.7, source: a paper}"
    test = scoring(tmp_path, put(tmp_path / "set", names), "layout=corruptions", "views.crops=1", published)
    result = score_robustness(test, start_from="pretrained")
    table = result["corruptions"]["table"]
    assert [its["corruption"] for its in table] == ["fog", "snow"]
    errors = [error for its in table for error in its["by_severity"].values()]
    assert 100 - sum(errors) / 4 == pytest.approx(result["value"])
    assert result["corruptions"]["mean_corruption_error"] is None
    assert result["corruptions"]["published"]["value"] == 51.7
    assert [result[name] for name in ("published", "interval", "standard_error")] == [None] * 3


def test_a_picture_that_cannot_be_read_is_named_and_not_counted(tmp_path):
    place = put(tmp_path / "set", NAMES)
    storage.write_bytes(f"{place}/bee/2.png", b"no picture")
    test = scoring(tmp_path, place)
    result = score_robustness(test, start_from="pretrained")
    assert result["num_samples"] == 14
    [fault] = storage.read_bytes(f"{test.output}/faults.jsonl").splitlines()
    assert json.loads(fault)["uri"].endswith("bee/2.png")


def test_classes_that_were_not_trained_are_refused_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(robustness, "over_blocks", lambda *_, **__: pytest.fail("decoded"))
    test = scoring(tmp_path, put(tmp_path / "set", ["hound/a.png", "ant/a.png"]))
    with pytest.raises(SourceError, match="1 of its 2 classes were not trained"):
        score_robustness(test, start_from="pretrained")


def test_classes_may_be_called_otherwise(tmp_path):
    (tmp_path / "names.csv").write_text("hound,dog\n")
    place = put(tmp_path / "set", ["hound/a.png", "ant/a.png"])
    test = scoring(tmp_path, place, f"class_names={tmp_path}/names.csv", "answers=all")
    result = score_robustness(test, start_from="pretrained")
    assert [its["class"] for its in result["per_class"]] == ["ant", "hound"]
    answers = [int(probabilities(test, seed).mean(0).argmax()) for seed in range(2)]
    assert result["value"] == 50 * ((answers[0] == 3) + (answers[1] == 0))
