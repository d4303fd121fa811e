"""What we export loads in timm and in transformers, as their users do it, with our features."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import transformers

import mae_dist
from mae_dist.config.geometry import ARCHITECTURES
from mae_dist.model.classifier import Classifier
from mae_dist.model.encoder import Encoder
from mae_dist.model.patches import patchify
from mae_dist.model.targets import normalise
from mae_dist.model.weights import parity
from mae_dist.model.weights.exports import WRITERS, digest_of
from mae_dist.model.weights.header import WeightsError
from mae_dist.model.weights.location import read_at
from mae_dist.model.weights.reading import Weights, encoder_alone, to_native
from mae_dist.model.weights.stated import Stated
from tests.model.foreign import card_of, reduced, weights_of
from tests.model.small import SMALL_MAE, SMALL_VIDEOMAE

IMAGE_SIZES = [name for name in ARCHITECTURES if name.startswith("mae_")]
EXPORTS = [
    *((SMALL_MAE, kind, "mean", to) for to in sorted(WRITERS) for kind in ("encoder", "masked_autoencoder")),
    *((SMALL_MAE, "classifier", "class_token", to) for to in sorted(WRITERS)),
    *((SMALL_MAE, "classifier", "mean", to) for to in ("authors", "timm")),
    *(
        (SMALL_VIDEOMAE, kind, "mean", to)
        for to in ("authors", "huggingface")
        for kind in ("encoder", "masked_autoencoder", "classifier")
    ),
]


def export(weights: Weights, folder: Path, to: str) -> Path:
    """The files of an export."""
    for name, data in WRITERS[to](weights).items():
        (folder / name).write_bytes(data)
    return folder


def pixels_of(weights: Weights) -> torch.Tensor:
    """(B, T, H, W, 3) in [0, 1]."""
    card = weights.card
    shape = (2, card.frames, card.height, card.width, 3)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def inputs_of(weights: Weights) -> torch.Tensor:
    """The pixels as a library wants them: normalised by hand."""
    return (pixels_of(weights) - torch.tensor(weights.card.mean)) / torch.tensor(weights.card.std)


def our_tokens(weights: Weights, folder: Path) -> torch.Tensor:
    """Through the public API."""
    (folder / "ours.safetensors").write_bytes(to_native(encoder_alone(weights)))
    return mae_dist.load(str(folder / "ours.safetensors")).encode(pixels_of(weights), pool="tokens")


def our_logits(weights: Weights) -> torch.Tensor:
    its, card = weights.card.architecture, weights.card
    model = Classifier(Encoder(its, card.grid), len(weights.classes), pool=weights.part.pool)
    model.load_state_dict(dict(weights.tensors))
    patches = patchify(pixels_of(weights), patch=its.patch, tubelet=its.tubelet)
    return model.eval()(normalise(patches, torch.tensor(card.mean), torch.tensor(card.std)))


@pytest.mark.parametrize("size", IMAGE_SIZES)
@torch.inference_mode()
def test_timm_gives_our_features_for_every_size(size, tmp_path):
    weights = weights_of(reduced(ARCHITECTURES[size]), "masked_autoencoder")
    folder = export(weights, tmp_path, "timm")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    theirs = model.forward_features(inputs_of(weights)[:, 0].permute(0, 3, 1, 2))
    torch.testing.assert_close(our_tokens(weights, tmp_path), theirs, rtol=1e-4, atol=1e-4)
    # What to feed it travels too.
    assert tuple(timm.data.resolve_model_data_config(model)["mean"]) == weights.card.mean


@pytest.mark.parametrize("size", sorted(ARCHITECTURES))
@torch.inference_mode()
def test_transformers_gives_our_features_for_every_size(size, tmp_path):
    weights = weights_of(reduced(ARCHITECTURES[size]), "encoder")
    model = transformers.AutoModel.from_pretrained(export(weights, tmp_path, "huggingface")).eval()
    inputs = inputs_of(weights)
    if size.startswith("mae_"):
        model.config.mask_ratio = 0.0
        order = torch.arange(weights.grid.num_tokens).expand(2, -1).float()
        theirs = model(inputs[:, 0].permute(0, 3, 1, 2), noise=order).last_hidden_state
    else:
        theirs = model(inputs.permute(0, 1, 4, 2, 3)).last_hidden_state
    torch.testing.assert_close(our_tokens(weights, tmp_path), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pool", ["mean", "class_token"])
@torch.inference_mode()
def test_a_fine_tuned_image_classifier_gives_its_answers_in_timm(pool, tmp_path):
    weights = weights_of(SMALL_MAE, "classifier", pool=pool)
    model = timm.create_model(f"local-dir:{export(weights, tmp_path, 'timm')}", pretrained=True).eval()
    theirs = model(inputs_of(weights)[:, 0].permute(0, 3, 1, 2))
    torch.testing.assert_close(our_logits(weights), theirs, rtol=1e-5, atol=1e-5)
    assert json.loads((tmp_path / "config.json").read_text())["label_names"] == list("abcde")


@torch.inference_mode()
def test_fine_tuned_classifiers_give_their_answers_in_transformers(tmp_path):
    clips = weights_of(SMALL_VIDEOMAE, "classifier", pool="mean")
    model = transformers.AutoModelForVideoClassification.from_pretrained(
        export(clips, tmp_path, "huggingface")
    ).eval()
    theirs = model(inputs_of(clips).permute(0, 1, 4, 2, 3)).logits
    # fc_norm has an epsilon of 1e-5 there, which no config reaches.
    torch.testing.assert_close(our_logits(clips), theirs, rtol=0, atol=1e-4)
    assert model.config.id2label[2] == "c"
    images = weights_of(SMALL_MAE, "classifier", pool="class_token")
    model = transformers.AutoModelForImageClassification.from_pretrained(
        export(images, tmp_path, "huggingface")
    ).eval()
    theirs = model(inputs_of(images)[:, 0].permute(0, 3, 1, 2)).logits
    torch.testing.assert_close(our_logits(images), theirs, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_supervised_encoder_of_timm_keeps_its_learned_positions_here_and_back(tmp_path):
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=192, depth=2, num_heads=3, num_classes=5
    ).eval()
    torch.nn.init.normal_(theirs.pos_embed, std=0.5, generator=torch.Generator().manual_seed(3))
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    weights, _ = read_at(str(tmp_path / "vit.pth"))
    assert (weights.part.kind, weights.card.architecture.positions) == ("classifier", "learned")
    images = inputs_of(weights)[:, 0].permute(0, 3, 1, 2)
    torch.testing.assert_close(our_logits(weights), theirs(images), rtol=1e-5, atol=1e-5)
    tokens = our_tokens(weights, tmp_path)
    torch.testing.assert_close(tokens, theirs.forward_features(images), rtol=1e-5, atol=1e-5)
    (tmp_path / "back").mkdir()
    back = timm.create_model(f"local-dir:{export(weights, tmp_path / 'back', 'timm')}", pretrained=True)
    torch.testing.assert_close(back.eval()(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_learned_positions_are_stretched_over_images_of_another_size(tmp_path):
    weights = weights_of(replace(SMALL_MAE, positions="learned"), "encoder")
    table = torch.arange(16.0)[:, None].expand(16, 48)
    weights = replace(weights, tensors={**weights.tensors, "encoder.positions": table.contiguous()})
    (tmp_path / "ours.safetensors").write_bytes(to_native(weights))
    encoder = mae_dist.load(str(tmp_path / "ours.safetensors"))
    grid = weights.card.architecture.grid(frames=1, height=32, width=16)
    stretched = encoder.encoder.positions_on(grid)
    assert stretched.shape == (32, 48)
    assert stretched[0, 0] < stretched[-1, 0]
    assert encoder.encode(torch.rand(1, 32, 16, 3)).shape == (1, 48)
    assert torch.equal(encoder.encoder.positions_on(encoder.encoder.grid), table)


@pytest.mark.parametrize(("architecture", "kind", "pool", "to"), EXPORTS)
def test_an_export_comes_back_with_all_that_its_card_says(architecture, kind, pool, to, tmp_path):
    weights = weights_of(architecture, kind, pool=pool)
    folder = export(weights, tmp_path, to)
    back, _ = read_at(str(folder))
    expected = encoder_alone(weights) if (to, kind) == ("timm", "masked_autoencoder") else weights
    assert back.part == expected.part
    assert back.classes == expected.classes
    assert digest_of(back.tensors) == digest_of(expected.tensors)
    told = {"provenance": {}, "target": "pixel"}
    assert replace(back.card, **told) == replace(expected.card, **told)


@pytest.mark.parametrize("to", sorted(WRITERS))
def test_a_model_card_says_what_a_user_must_know(to):
    files = WRITERS[to](weights_of(SMALL_MAE, "encoder"))
    text = next(data for name, data in files.items() if name.endswith(".md")).decode()
    for line in (
        "| Normalisation | (pixels in [0, 1] - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225), RGB |",
        "| Patch vector | time, row, column, channel; the channel fastest |",
        "| Layer norm epsilon | 1e-06 |",
        "| Pooling | none: all tokens come out normed |",
        "| Target | norm_pixel_mae |",
        "| sha256 of the tensors | ",
    ):
        assert line in text


def test_what_others_have_no_model_of_is_refused_with_the_reason():
    with pytest.raises(WeightsError, match="timm has no transformer of clips"):
        WRITERS["timm"](weights_of(SMALL_VIDEOMAE, "encoder"))
    with pytest.raises(WeightsError, match="no image classifier that norms the mean of the tokens; timm has"):
        WRITERS["huggingface"](weights_of(SMALL_MAE, "classifier", pool="mean"))
    crossed = weights_of(replace(SMALL_MAE, cross_decoder=True), "masked_autoencoder")
    for to in ("huggingface", "authors"):
        with pytest.raises(WeightsError, match="no decoder of cross-attention; the encoder alone"):
            WRITERS[to](crossed)
        WRITERS[to](encoder_alone(crossed))
    other = weights_of(SMALL_MAE, "masked_autoencoder", card=card_of(SMALL_MAE, target="norm_pixel_videomae"))
    with pytest.raises(
        WeightsError, match="its decoder predicts norm_pixel_videomae, which their model does"
    ):
        WRITERS["huggingface"](other)
    spacetime = weights_of(replace(SMALL_VIDEOMAE, class_token=True, key_bias=True), "encoder")
    for to in WRITERS:
        with pytest.raises(
            WeightsError, match=r"no other library has an encoder of tubelets of 2 frame\(s\)"
        ):
            WRITERS[to](spacetime)


@pytest.mark.parametrize(
    ("architecture", "kind", "what"),
    [
        (SMALL_MAE, "encoder", {"timm": "tokens", "transformers": "tokens"}),
        (SMALL_MAE, "masked_autoencoder", {"timm": "tokens", "transformers": "predictions"}),
        (SMALL_MAE, "classifier", {"timm": "logits", "transformers": ""}),
        (SMALL_VIDEOMAE, "encoder", {"timm": "", "transformers": "tokens"}),
        (SMALL_VIDEOMAE, "masked_autoencoder", {"timm": "", "transformers": "predictions"}),
        (SMALL_VIDEOMAE, "classifier", {"timm": "", "transformers": "logits"}),
    ],
)
def test_both_programs_compute_the_same_from_the_same_weights(architecture, kind, what):
    found = {its.library: its for its in parity.compare(weights_of(architecture, kind))}
    assert {library: its.what for library, its in found.items()} == what
    for its in found.values():
        if its.what:
            assert its.largest_value is not None
            assert its.largest_difference is not None
            assert its.largest_difference < 1e-4 * its.largest_value
        else:
            assert its.reason


def test_a_comparison_sees_a_wrong_number_of_heads(monkeypatch):
    weights = weights_of(SMALL_MAE, "encoder")
    its = weights.card.architecture
    wrong = replace(its, encoder=replace(its.encoder, heads=4))
    write, run = parity.LIBRARIES["timm"]
    monkeypatch.setitem(
        parity.LIBRARIES, "timm", (lambda w: write(replace(w, card=replace(w.card, architecture=wrong))), run)
    )
    found = parity.compare(weights)[0]
    assert found.largest_difference is not None
    assert found.largest_difference > 1e-3


def test_the_config_beside_a_file_says_what_its_tensors_cannot(tmp_path):
    weights = weights_of(SMALL_VIDEOMAE, "masked_autoencoder")
    folder = export(weights, tmp_path, "huggingface")
    # As a model of transformers saves itself: without our card, with the epsilon of its config.
    model = transformers.VideoMAEForPreTraining.from_pretrained(folder)
    model.config.layer_norm_eps = 1e-12
    model.save_pretrained(folder)
    back, _ = read_at(str(folder))
    assert (back.card.frames, back.card.height, back.card.width) == (4, 16, 16)
    assert back.card.architecture == weights.card.architecture
    assert any("epsilon 1e-12; ours have 1e-06" in remark for remark in back.remarks)
    assert read_at(str(folder), given=Stated(mean=(0.5, 0.5, 0.5)))[0].card.mean == (0.5, 0.5, 0.5)
