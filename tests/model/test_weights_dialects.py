"""Weights of other programs are told apart, become the same model of ours, or are refused with the reason."""

from __future__ import annotations

import argparse
import io
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

import mae_dist
from mae_dist.config.geometry import ARCHITECTURES, Grid
from mae_dist.model.positions import sincos_1d, sincos_2d
from mae_dist.model.weights.dialects import DIALECTS, detect
from mae_dist.model.weights.dialects.dialect import Dialect
from mae_dist.model.weights.exports import digest_of, for_authors
from mae_dist.model.weights.header import WeightsError
from mae_dist.model.weights.naming import Part, to_theirs
from mae_dist.model.weights.reading import read_weights, to_native
from mae_dist.model.weights.stated import Stated, of_card
from tests.model.foreign import FOREIGN, Foreign, card_of, drawn, reduced, saved, weights_of
from tests.model.small import IMAGENET_MEAN, IMAGENET_STD, SMALL_MAE, SMALL_VIDEOMAE

SMALL_INPUT = Stated(frames=4, height=16, width=16)
CLIP = Grid(frames=2, rows=4, columns=4)
IMAGE = Grid(frames=1, rows=4, columns=4)


def written(dialect: Dialect, kind, pool: str = "mean") -> tuple[dict, dict]:
    """(random weights of ours, the same as this dialect has them)."""
    architecture = SMALL_MAE if dialect.family.positions == "sincos_2d" else SMALL_VIDEOMAE
    ours = weights_of(architecture, kind, pool=pool)
    part = Part(kind=kind, architecture=ours.card.architecture, pool=ours.part.pool)
    theirs = to_theirs(ours.tensors, dialect.naming, part, ours.grid)
    return dict(ours.tensors), {name: tensor.contiguous().clone() for name, tensor in theirs.items()}


def forms(dialect: Dialect) -> list[tuple[str, str]]:
    """The kinds that a dialect has names for, with a pool."""
    known = dialect.naming.modules
    found = [("encoder", "mean")]
    found += [("masked_autoencoder", "mean")] if "bridge" in known else []
    found += [("classifier", "mean")] if {"head", "pooled_norm"} <= set(known) else []
    if "head" in known and dialect.family.positions == "sincos_2d":
        found.append(("classifier", "class_token"))
    return found


CASES = [
    pytest.param(dialect, kind, pool, id=f"{dialect.name}-{kind}-{pool}")
    for dialect in DIALECTS
    if dialect.name != "mae_st"
    for kind, pool in forms(dialect)
]


@pytest.mark.parametrize(("dialect", "kind", "pool"), CASES)
def test_every_dialect_is_told_by_itself_and_comes_back_unchanged(dialect, kind, pool):
    ours, theirs = written(dialect, kind, pool)
    data = saved({"model": theirs}) if dialect.name == "MAE (authors)" else save(theirs)
    architecture = SMALL_MAE if dialect.family.positions == "sincos_2d" else SMALL_VIDEOMAE
    read = read_weights(data, given=of_card(card_of(architecture)))
    if dialect.name == "timm" and kind == "masked_autoencoder":
        assert read.dialect == "MAE (authors)"  # timm has no decoders
    else:
        assert read.dialect == dialect.name
    assert (read.part.kind, read.part.pool) == (kind, pool if kind == "classifier" else "class_token")
    assert set(read.tensors) == set(ours)
    assert all(torch.equal(read.tensors[name], ours[name]) for name in ours)
    its = read.card.architecture
    if kind == "masked_autoencoder":
        assert its == architecture
    else:
        assert (
            replace(its, decoder=architecture.decoder, bridge_bias=architecture.bridge_bias) == architecture
        )


def made(name: str) -> tuple[Foreign, dict[str, torch.Tensor], torch.Tensor]:
    """A foreign encoder, its tensors with positions, and those positions as one table."""
    foreign = FOREIGN[name]
    state, width = drawn(foreign.shapes()), foreign.architecture.encoder.width
    if name == "mae_st":
        shapes = {"pos_embed_spatial": (1, 16, width), "pos_embed_temporal": (1, 2, width)}
        tables = drawn(shapes | {"pos_embed_class": (1, 1, width)}, seed=1)
        places = [
            tables["pos_embed_temporal"][:, t] + tables["pos_embed_spatial"][:, s]
            for t in range(2)
            for s in range(16)
        ]
        table = torch.stack([tables["pos_embed_class"][:, 0], *places], dim=1)
        return foreign, state | tables, table
    if foreign.class_token:
        table = torch.cat([torch.zeros(1, width), sincos_2d(IMAGE, width)])[None]
    else:
        table = sincos_1d(CLIP, width)[None]
    return foreign, state | dict.fromkeys(foreign.positions, table), table


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_features_are_those_that_their_own_code_computes(name, tmp_path):
    foreign, state, table = made(name)
    frames = 1 if name in ("MAE (authors)", "mmpretrain") else 4
    torch.save({"state_dict" if name.startswith("mm") else "model": state}, tmp_path / "weights.pth")
    pixels_BTHWC = torch.rand(2, frames, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    read = read_weights((tmp_path / "weights.pth").read_bytes(), given=replace(SMALL_INPUT, frames=frames))
    mean, std = torch.tensor(read.card.mean), torch.tensor(read.card.std)
    expected = foreign.features(state, ((pixels_BTHWC - mean) / std).permute(0, 4, 1, 2, 3), table)
    (tmp_path / "ours.safetensors").write_bytes(to_native(read))
    encoder = mae_dist.load(str(tmp_path / "ours.safetensors"))
    torch.testing.assert_close(encoder.encode(pixels_BTHWC, pool="tokens"), expected, rtol=0, atol=2e-5)
    assert read.dialect == name


def test_mae_st_has_its_own_pixels_and_keeps_its_learned_positions():
    _, state, _ = made("mae_st")
    read = read_weights(saved({"model_state": state}))
    assert (read.card.frames, read.card.height, read.card.width) == (4, 16, 16)
    assert (read.card.mean, read.card.std) == ((0.45,) * 3, (0.225,) * 3)
    assert read.card.architecture.positions == "learned"
    assert any("positions were learned" in remark for remark in read.remarks)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_around_names_are_taken_off(wrapper):
    ours, theirs = written(_dialect("VideoMAE (authors)"), "masked_autoencoder")
    wrapped = {wrapper + name: tensor for name, tensor in theirs.items()}
    read = read_weights(saved({"module": wrapped}), given=of_card(card_of(SMALL_VIDEOMAE)))
    assert set(read.tensors) == set(ours)


def test_a_backbone_of_the_authors_is_found_behind_its_prefix():
    _, theirs = written(DIALECTS[-3], "classifier")
    named, tensors = detect({f"backbone.{name}": tensor for name, tensor in theirs.items()}, {})
    assert named.name == "VideoMAE (authors)"
    assert set(tensors) == set(theirs)


def test_a_folder_of_deepspeed_is_a_file_of_weights(tmp_path):
    _, theirs = written(_dialect("VideoMAE (authors)"), "encoder")
    beside = {"param_shapes": [{"a": torch.Size([2])}], "sparse_tensor_module_names": set(), "epoch": 799}
    torch.save({"module": theirs, **beside}, tmp_path / "mp_rank_00_model_states.pt")
    with pytest.raises(WeightsError, match=r"mp_rank_00_model_states.pt: .*heads of a encoder of width 48"):
        mae_dist.load(str(tmp_path))


@pytest.mark.parametrize(("norm_pix_loss", "target"), [(True, "norm_pixel_mae"), (False, "pixel")])
def test_the_arguments_of_a_training_say_what_was_predicted(norm_pix_loss, target):
    _, theirs = written(_dialect("MAE (authors)"), "masked_autoencoder")
    content = {"model": theirs, "args": argparse.Namespace(norm_pix_loss=norm_pix_loss, input_size=16)}
    read = read_weights(saved(content), given=Stated(encoder_heads=3, decoder_heads=4))
    assert read.card.target == target
    assert (read.card.height, read.card.width) == (16, 16)


def test_what_nobody_says_is_taken_from_what_is_published_and_said():
    _, theirs = written(_dialect("MAE (authors)"), "masked_autoencoder")
    read = read_weights(saved({"model": theirs}), given=Stated(encoder_heads=3, decoder_heads=4))
    assert (read.card.mean, read.card.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert read.remarks[0] == "not said by the file, taken from what is published: mean, std, target"


def test_an_encoder_can_be_taken_out_of_what_has_a_decoder_that_is_not_ours():
    foreign, state, _ = made("mae_st")
    decoder = {"mask_token": torch.zeros(1, 1, 8), "decoder_pred.weight": torch.zeros(8, 8)}
    with pytest.raises(WeightsError, match=r"mae_st: its decoder predicts one frame of each tubelet"):
        read_weights(saved({"model": state | decoder}), given=SMALL_INPUT)
    read = read_weights(saved({"model": state | decoder}), given=SMALL_INPUT, encoder_only=True)
    assert read.part.kind == "encoder"
    assert len(read.tensors) == len(foreign.shapes()) - 4 * foreign.architecture.encoder.depth + 1


def _dialect(name: str) -> Dialect:
    return next(dialect for dialect in DIALECTS if dialect.name == name)


def _changed(name: str, kind, changes: dict, pool: str = "mean") -> bytes:
    theirs = written(_dialect(name), kind, pool)[1]
    return saved({"model": {n: t for n, t in (theirs | changes).items() if t is not None}})


STATED = of_card(card_of(SMALL_MAE))
CLIPS_STATED = of_card(card_of(SMALL_VIDEOMAE))
REFUSALS = {
    "layer scale": (
        lambda: _changed("timm", "encoder", {"blocks.0.ls1.gamma": torch.ones(48)}),
        r"1 tensors belong to no part of the model, the first is 'blocks\.0\.ls1\.gamma'",
    ),
    "registers": (
        lambda: _changed("timm", "encoder", {"reg_token": torch.ones(1, 4, 48)}),
        r"the first is 'reg_token'",
    ),
    "a tensor missing": (
        lambda: _changed("MAE (authors)", "masked_autoencoder", {"decoder_norm.bias": None}),
        r"no tensor 'decoder_norm\.bias' among",
    ),
    "a linear probe": (
        lambda: _changed("MAE (authors)", "encoder", {"head.0.running_mean": torch.zeros(48)}),
        r"a linear probe, whose head is behind a batch norm",
    ),
    "trained positions of a decoder": (
        lambda: _changed("MAE (authors)", "masked_autoencoder", {"decoder_pos_embed": torch.ones(1, 17, 32)}),
        r"decoder_pos_embed: these positions were trained",
    ),
    "five channels": (
        lambda: _changed("timm", "encoder", {"patch_embed.proj.weight": torch.ones(48, 5, 4, 4)}),
        r"patches of 5 channels and 4 x 4 pixels; known: square ones of 3",
    ),
    "positions of another input": (
        lambda: _changed("timm", "encoder", {"pos_embed": torch.ones(1, 16, 48)}),
        r"positions of 15 places are not those of an input of 1 x 16 x 16 pixels",
    ),
}


@pytest.mark.parametrize("case", sorted(REFUSALS))
def test_what_is_not_a_model_of_ours_is_refused_with_the_reason(case):
    make, reason = REFUSALS[case]
    with pytest.raises(WeightsError, match=reason):
        read_weights(make(), given=STATED)


def test_positions_of_no_square_need_the_size_of_the_input():
    data = _changed("timm", "encoder", {"pos_embed": torch.ones(1, 16, 48)})
    with pytest.raises(WeightsError, match="positions of 15 places, which are no 1 squares; state the input"):
        read_weights(data, given=Stated(encoder_heads=3))
    wide = read_weights(data, given=Stated(encoder_heads=3, height=12, width=20))
    assert wide.grid == Grid(frames=1, rows=3, columns=5)


def test_targets_and_pools_that_we_have_not_are_refused():
    _, theirs = written(_dialect("VideoMAE (authors)"), "masked_autoencoder")
    content = {"model": theirs, "args": argparse.Namespace(normlize_target=False)}
    with pytest.raises(WeightsError, match=r"predicts pixels in \[0, 1\] that are not normalised"):
        read_weights(saved(content), given=replace(CLIPS_STATED, target=None))
    read = read_weights(saved(content), given=replace(CLIPS_STATED, target=None), encoder_only=True)
    assert read.part.kind == "encoder"
    _, classifier = written(_dialect("mmaction2"), "classifier")
    first_token = {n.replace("fc_norm", "norm"): tensor for n, tensor in classifier.items()}
    with pytest.raises(WeightsError, match="a classifier of the first token, without a class token"):
        read_weights(save(first_token), given=CLIPS_STATED)


def test_heads_that_nobody_knows_are_asked_for():
    _, theirs = written(_dialect("timm"), "encoder")
    with pytest.raises(WeightsError, match=r"heads of a encoder of width 48 .* state it \(--heads"):
        read_weights(save(theirs))
    with pytest.raises(WeightsError, match="5 heads do not divide the width 48 of the encoder"):
        read_weights(save(theirs), given=Stated(encoder_heads=5))


def test_what_no_dialect_knows_is_refused_with_those_that_there_are():
    with pytest.raises(
        WeightsError, match=r"1 tensors of no dialect .*known are mae_st, Hugging Face ViTMAE,"
    ):
        read_weights(save({"fc.weight": torch.zeros(2, 2)}))
    with pytest.raises(WeightsError, match="no tensors by name: it holds epoch"):
        read_weights(saved({"epoch": 3}))


def test_a_classifier_that_norms_the_mean_has_no_encoder_to_take_alone():
    _, theirs = written(_dialect("timm"), "classifier", "mean")
    with pytest.raises(WeightsError, match="its encoder's own norm is gone"):
        read_weights(save(theirs), given=STATED, encoder_only=True)


def test_half_precision_and_broken_numbers_are_told():
    _, theirs = written(_dialect("timm"), "encoder")
    theirs["norm.bias"] = torch.full_like(theirs["norm.bias"], torch.nan)
    half = {name: tensor.half() for name, tensor in theirs.items()}
    remarks = read_weights(save(half), given=STATED).remarks
    assert "stored as float16; converted to float32" in remarks
    assert "1 tensors hold numbers that are not finite, the first is 'norm.bias'" in remarks


@pytest.mark.parametrize("size", sorted(ARCHITECTURES))
def test_the_heads_of_every_named_size_are_known_by_its_width(size):
    weights = weights_of(reduced(ARCHITECTURES[size]), "masked_autoencoder")
    content = torch.load(io.BytesIO(for_authors(weights)["model.pth"]), weights_only=True)
    card = weights.card
    read = read_weights(
        saved({"model": content["model"]}),
        given=Stated(frames=card.frames, height=card.height, width=card.width),
    )
    assert read.card.architecture == weights.card.architecture
    assert digest_of(read.tensors) == digest_of(weights.tensors)
