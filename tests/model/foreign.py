"""Small models in the dialects of others: their tensors, drawn at random, and what their code makes of them.

`features` runs the tensors by their own names, as the published description of each model has it, and shares
nothing with the package. Letters: B samples, N tokens, D width.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mae_dist.config.geometry import Architecture, Stack
from mae_dist.model.classifier import Classifier
from mae_dist.model.encoder import Encoder
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.weights.naming import Kind, Part
from mae_dist.model.weights.native import ModelCard, without_decoder
from mae_dist.model.weights.reading import Weights
from tests.model.small import IMAGENET_MEAN, IMAGENET_STD, SMALL_MAE, SMALL_VIDEOMAE, randomised

TWO_FRAMES = 2 * SMALL_VIDEOMAE.tubelet


def card_of(
    architecture: Architecture, *, rows: int = 4, columns: int = 4, target: str | None = None
) -> ModelCard:
    """Of an input of a few patches."""
    is_mae = architecture.init == "mae"
    return ModelCard(
        architecture=architecture,
        frames=1 if is_mae else 2 * architecture.tubelet,
        height=rows * architecture.patch,
        width=columns * architecture.patch,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        target=target or ("norm_pixel_mae" if is_mae else "norm_pixel_videomae"),
    )


def weights_of(
    architecture: Architecture,
    kind: Kind,
    *,
    pool: str = "mean",
    card: ModelCard | None = None,
    seed: int = 0,
) -> Weights:
    """Random weights of ours, every tensor drawn anew."""
    card = card or card_of(architecture)
    if kind == "classifier":
        model: torch.nn.Module = Classifier(Encoder(architecture, card.grid), 5, pool=pool)
    else:
        model = MaskedAutoencoder(architecture, card.grid)
    tensors = {name: t.detach() for name, t in randomised(model, seed).state_dict().items()}
    if kind != "masked_autoencoder":
        card = without_decoder(card)
    if kind == "encoder":
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("encoder.")}
    is_classifier = kind == "classifier"
    return Weights(
        dialect="mae_dist",
        part=Part(kind=kind, architecture=card.architecture, pool=pool if is_classifier else "class_token"),
        tensors=tensors,
        card=card,
        classes=tuple("abcde") if is_classifier else (),
        remarks=(),
    )


def saved(content: Mapping) -> bytes:
    """A file of torch.save."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def reduced(architecture: Architecture) -> Architecture:
    """The same widths and heads with one block in either stack."""
    return replace(
        architecture,
        encoder=replace(architecture.encoder, depth=1),
        decoder=replace(architecture.decoder, depth=1),
    )


def drawn(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Tensors of these shapes; those that end like a norm's scale around 1."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in sorted(shapes.items()):
        is_scale = len(shape) == 1 and name.endswith("weight")
        found[name] = float(is_scale) + 0.1 * torch.randn(shape, generator=generator)
    return found


@dataclass(frozen=True)
class Foreign:
    """How somebody writes a vision transformer; `features` reads it so."""

    kernel: str
    blocks: str
    norm1: str
    norm2: str
    qkv: tuple[str, ...]
    bias: tuple[str, ...]
    output: str
    expand: str
    contract: str
    norm: str
    class_token: str | None
    positions: tuple[str, ...]
    architecture: Architecture

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of an encoder for a grid of 4 x 4 places, and 2 tubelets if it has time."""
        its = self.architecture
        width, hidden = its.encoder.width, int(its.encoder.width * its.encoder.mlp_ratio)
        patch = (its.tubelet,) * (its.tubelet > 1) + (its.patch, its.patch)
        shapes: dict[str, tuple[int, ...]] = {
            f"{self.kernel}.weight": (width, 3, *patch),
            f"{self.kernel}.bias": (width,),
        }
        for index in range(its.encoder.depth):
            block = f"{self.blocks}.{index}."
            rows = 3 * width // len(self.qkv)
            shapes |= {f"{block}{name}": (rows, width) for name in self.qkv}
            shapes |= {f"{block}{name}": (3 * width if len(self.bias) == 1 else width,) for name in self.bias}
            for name, out, into in [
                (self.output, width, width),
                (self.expand, hidden, width),
                (self.contract, width, hidden),
            ]:
                shapes |= {f"{block}{name}.weight": (out, into), f"{block}{name}.bias": (out,)}
            shapes |= {f"{block}{n}.{k}": (width,) for n in (self.norm1, self.norm2) for k in _KINDS}
        shapes |= {f"{self.norm}.{kind}": (width,) for kind in _KINDS}
        if self.class_token:
            shapes[self.class_token] = (1, 1, width)
        return shapes

    def features(self, state: Mapping[str, Tensor], video_BCTHW: Tensor, positions_BND: Tensor) -> Tensor:
        """Normed tokens, (B, [1 +] N, D); `positions` have a row for a class token where there is one."""
        width, heads = self.architecture.encoder.width, self.architecture.encoder.heads
        kernel = state[f"{self.kernel}.weight"]
        pixels = video_BCTHW if kernel.ndim == 5 else video_BCTHW[:, :, 0]
        convolve = F.conv3d if kernel.ndim == 5 else F.conv2d
        x = convolve(pixels, kernel, state[f"{self.kernel}.bias"], stride=kernel.shape[2:]).flatten(2).mT
        if self.class_token:
            x = torch.cat([state[self.class_token].expand(len(x), -1, -1), x], dim=1)
        x = x + positions_BND
        for index in range(self.architecture.encoder.depth):
            own = {name.removeprefix(f"{self.blocks}.{index}."): t for name, t in state.items()}
            y = _norm(x, own, self.norm1)
            weights = torch.cat([own[name] for name in self.qkv]).split(width)
            biases = [own[name] for name in self.bias]
            if len(biases) == 2:
                biases = [biases[0], torch.zeros(width), biases[1]]
            q, k, v = (
                F.linear(y, weight, bias).unflatten(-1, (heads, -1)).transpose(1, 2)
                for weight, bias in zip(weights, torch.cat(biases).split(width), strict=True)
            )
            attention = (q @ k.mT / (width // heads) ** 0.5).softmax(-1)
            x = x + _linear((attention @ v).transpose(1, 2).flatten(2), own, self.output)
            x = x + _linear(F.gelu(_linear(_norm(x, own, self.norm2), own, self.expand)), own, self.contract)
        return _norm(x, state, self.norm)


_KINDS = ("weight", "bias")


def _norm(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)


def _linear(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


_AUTHORS = {
    "norm1": "norm1",
    "norm2": "norm2",
    "output": "attn.proj",
    "expand": "mlp.fc1",
    "contract": "mlp.fc2",
}
# Widths whose heads are known: reading needs no word from the user.
_IMAGES = replace(SMALL_MAE, encoder=Stack(width=192, depth=2, heads=3))
_CLIPS = replace(SMALL_VIDEOMAE, encoder=Stack(width=192, depth=2, heads=3))
_MAE_ST = replace(_CLIPS, encoder=Stack(width=768, depth=1, heads=12), class_token=True, key_bias=True)

FOREIGN: dict[str, Foreign] = {
    "MAE (authors)": Foreign(
        kernel="patch_embed.proj",
        blocks="blocks",
        qkv=("attn.qkv.weight",),
        bias=("attn.qkv.bias",),
        norm="norm",
        class_token="cls_token",
        positions=("pos_embed",),
        architecture=_IMAGES,
        **_AUTHORS,
    ),
    "VideoMAE (authors)": Foreign(
        kernel="encoder.patch_embed.proj",
        blocks="encoder.blocks",
        qkv=("attn.qkv.weight",),
        bias=("attn.q_bias", "attn.v_bias"),
        norm="encoder.norm",
        class_token=None,
        positions=(),
        architecture=_CLIPS,
        **_AUTHORS,
    ),
    "mae_st": Foreign(
        kernel="patch_embed.proj",
        blocks="blocks",
        qkv=("attn.q.weight", "attn.k.weight", "attn.v.weight"),
        bias=("attn.q.bias", "attn.k.bias", "attn.v.bias"),
        norm="norm",
        class_token="cls_token",
        positions=("pos_embed_spatial", "pos_embed_temporal", "pos_embed_class"),
        architecture=_MAE_ST,
        **_AUTHORS,
    ),
    "mmpretrain": Foreign(
        kernel="backbone.patch_embed.projection",
        blocks="backbone.layers",
        norm1="ln1",
        norm2="ln2",
        qkv=("attn.qkv.weight",),
        bias=("attn.qkv.bias",),
        output="attn.proj",
        expand="ffn.layers.0.0",
        contract="ffn.layers.1",
        norm="backbone.ln1",
        class_token="backbone.cls_token",
        positions=("backbone.pos_embed",),
        architecture=_IMAGES,
    ),
    "mmaction2": Foreign(
        kernel="backbone.patch_embed.projection",
        blocks="backbone.blocks",
        norm1="norm1",
        norm2="norm2",
        qkv=("attn.qkv.weight",),
        bias=("attn.q_bias", "attn.v_bias"),
        output="attn.proj",
        expand="mlp.layers.0.0",
        contract="mlp.layers.1",
        norm="backbone.norm",
        class_token=None,
        positions=("backbone.pos_embed",),
        architecture=_CLIPS,
    ),
}
"""Encoders of others, by what the dialect is called; those of timm and transformers are run by themselves."""
