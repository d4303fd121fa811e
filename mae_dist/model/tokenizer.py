"""A discrete VAE: one of many codes for every patch of an image, and the image back from its codes.

    image -> convolutions, one place per patch -> logits over codes
    -> Gumbel softmax (training) or the likeliest code (use) -> convolutions -> image

After DALL-E's (arXiv 2102.12092, section 2.1), in small: plain convolutions, squared error. Its weights are a
file of their own, which holds what it takes to use them. Other tokenizers are refused: the tensors have to
bear the names of `Tokenizer.state_dict()`, and the metadata a card of this format. A file that would have to
be run to be read, as DALL-E's own is, is not opened at all.

Letters: n images, B samples, T frames, H, W pixels, C channels, N tokens of a clip, F frames of a patch,
V codes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors.torch import save
from torch import Tensor, nn

from mae_dist.model.weights.files import open_weights
from mae_dist.model.weights.header import TOKENIZER, WeightsError, check_format


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerCard:
    """What a user of the weights must know; `provenance` is free text by key."""

    vocabulary: int
    width: int
    blocks: int
    patch: int
    mean: tuple[float, ...]
    """Of pixels in [0, 1], per channel; inputs are (pixels - mean) / std."""
    std: tuple[float, ...]
    provenance: Mapping[str, str] = field(default_factory=dict)


class Residual(nn.Module):
    """Adds two convolutions to what comes in, (n, width, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, values: Tensor) -> Tensor:
        """Of the same shape."""
        return values + self.layers(values)


class Tokenizer(nn.Module):
    """Encoder and decoder; images are normalised, (n, C, H, W), with H and W multiples of the patch."""

    def __init__(self, *, vocabulary: int, width: int, blocks: int, patch: int, channels: int = 3) -> None:
        super().__init__()
        halvings, stride = strides(patch)
        inner = [Residual(width) for _ in range(blocks)]
        shrink = [
            layer
            for _ in range(halvings)
            for layer in (nn.ReLU(), nn.Conv2d(width, width, 4, stride=2, padding=1))
        ]
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, stride, stride=stride),
            *shrink,
            *inner,
            nn.ReLU(),
            nn.Conv2d(width, vocabulary, 1),
        )
        inner = [Residual(width) for _ in range(blocks)]
        grow = [
            layer
            for _ in range(halvings)
            for layer in (nn.ReLU(), nn.ConvTranspose2d(width, width, 4, stride=2, padding=1))
        ]
        embedding = nn.Conv2d(vocabulary, width, 1)
        # As torch draws embeddings; drawn as a convolution's, codes differ so little that few are ever used.
        nn.init.normal_(embedding.weight)
        self.decoder = nn.Sequential(
            embedding,
            *inner,
            *grow,
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, stride, stride=stride),
        )

    def forward(self, images: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
        """Images as they come back from codes drawn at a temperature, and the logits (n, V, h, w) of these.

        Draws from torch's global generator.
        """
        logits = self.encoder(images).float()
        return self.decoder(F.gumbel_softmax(logits, tau=temperature, dim=1)), logits

    def codes(self, images: Tensor) -> Tensor:
        """The likeliest code of every patch: (n, h, w), int64."""
        return self.encoder(images).argmax(1)


class PatchCodes(nn.Module):
    """The codes of clips, by a tokenizer whose weights stay as they are."""

    mean: Tensor
    std: Tensor

    def __init__(self, tokenizer: Tokenizer, card: TokenizerCard) -> None:
        super().__init__()
        self.tokenizer = tokenizer.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(card.mean), persistent=False)
        self.register_buffer("std", torch.tensor(card.std), persistent=False)

    def forward(self, frames_BTHWC: Tensor, *, tubelet: int) -> Tensor:
        """uint8 frames to (B, N, F), int64: one code per frame of a patch of `tubelet` frames."""
        codes = self.tokenizer.codes(as_images(frames_BTHWC, self.mean, self.std))
        return rearrange(codes, "(b t f) h w -> b (t h w) f", b=len(frames_BTHWC), f=tubelet)


def load_codes(data: bytes) -> PatchCodes:
    """What gives clips their codes, of a file made by `to_bytes`. Raises WeightsError if it is none."""
    return PatchCodes(*from_bytes(data))


def as_images(frames_BTHWC: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 frames as normalised images, float32 (B * T, C, H, W)."""
    pixels = (frames_BTHWC.flatten(0, 1).float() / 255 - mean) / std
    return pixels.permute(0, 3, 1, 2)


def strides(patch: int) -> tuple[int, int]:
    """How often the encoder halves an image, three times at most, and the stride of its first convolution."""
    halvings = next(times for times in (3, 2, 1, 0) if patch % 2**times == 0)
    return halvings, patch // 2**halvings


def multiply_adds(card: TokenizerCard, places: int) -> int:
    """Of the convolutions of encoder and decoder together, for one image of so many patches."""
    halvings, stride = strides(card.patch)
    width = card.width
    inner = card.blocks * (9 + 1) * width * width + card.vocabulary * width
    # Every convolution with stride 2 gives a quarter of the places of the one before it.
    halved = sum(4**times for times in range(halvings)) * 16 * width * width
    return 2 * places * (inner + halved + 4**halvings * stride**2 * len(card.mean) * width)


def tokenizer_of(card: TokenizerCard) -> Tokenizer:
    """A tokenizer with weights as torch draws them."""
    return Tokenizer(
        vocabulary=card.vocabulary,
        width=card.width,
        blocks=card.blocks,
        patch=card.patch,
        channels=len(card.mean),
    )


def to_bytes(weights: Mapping[str, Tensor], card: TokenizerCard) -> bytes:
    """A safetensors file of `Tokenizer.state_dict()` with its card."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    return save(tensors, metadata={"format": TOKENIZER, "card": json.dumps(asdict(card))})


def card_markdown(card: TokenizerCard) -> str:
    """The card for people, as Markdown."""
    rows = {
        "Codes": f"{card.vocabulary}, one per {card.patch} x {card.patch} pixels",
        "Normalisation": f"(pixels in [0, 1] - {card.mean}) / {card.std}",
        "Convolutions": f"width {card.width}, {card.blocks} residual blocks on either side",
        **card.provenance,
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["# Tokenizer card", "", "| | |", "|---|---|", *lines, ""])


def from_bytes(data: bytes) -> tuple[Tokenizer, TokenizerCard]:
    """The tokenizer and the card of a file made by `to_bytes`. Raises WeightsError if it is none."""
    tensors, metadata = open_weights(data)
    check_format(metadata, TOKENIZER)
    try:
        given = json.loads(metadata["card"])
        card = TokenizerCard(**given | {name: tuple(given[name]) for name in ("mean", "std")})
        tokenizer = tokenizer_of(card)
        tokenizer.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"the weights of this tokenizer do not fit its card: {reason}") from error
    return tokenizer, card
