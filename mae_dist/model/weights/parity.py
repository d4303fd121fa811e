"""The same weights in two programs: ours, and timm's or transformers', on the same input.

What is compared is what an export's reader would get: the model is built from the export's own config, and
loaded with its tensors. Letters: B samples, T frames, N tokens, K kept, H hidden, P values of a patch.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from mae_dist.model.classifier import Classifier
from mae_dist.model.encoder import Encoder
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.patches import gather_tokens, hidden_ids, patchify
from mae_dist.model.targets import normalise
from mae_dist.model.weights import native
from mae_dist.model.weights.exports import Files, for_huggingface, for_timm
from mae_dist.model.weights.header import WeightsError
from mae_dist.model.weights.reading import Weights

KEPT = 0.25
"""Share of the tokens that the encoder sees where a decoder is compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How far ours and another program's results lie apart."""

    library: str
    what: str
    """"tokens", "predictions" or "logits"; "" if nothing was compared."""
    largest_difference: float | None
    """Of absolute values; None if nothing was compared."""
    largest_value: float | None
    """Of theirs."""
    reason: str | None
    """Why nothing was compared."""


def compare(weights: Weights, *, seed: int = 0) -> list[Comparison]:
    """Ours beside each library, on one sample of noise of the input that the weights were trained with."""
    return [_with(library, weights, seed) for library in LIBRARIES]


def _with(library: str, weights: Weights, seed: int) -> Comparison:
    write, run = LIBRARIES[library]
    try:
        importlib.import_module(library)
        files = write(weights)
    except (WeightsError, ImportError) as error:
        return Comparison(
            library=library, what="", largest_difference=None, largest_value=None, reason=str(error)
        )
    card = weights.card
    generator = torch.Generator().manual_seed(seed)
    shape = (1, card.frames, card.height, card.width, card.architecture.channels)
    clips_BTHWC = torch.rand(shape, generator=generator)
    inputs = (clips_BTHWC - torch.tensor(card.mean)) / torch.tensor(card.std)
    with torch.inference_mode():
        what, theirs, keep_BK = run(weights, files, inputs)
        ours = _ours(weights, what, clips_BTHWC, keep_BK)
    return Comparison(
        library=library,
        what=what,
        largest_difference=(ours - theirs).abs().max().item(),
        largest_value=theirs.abs().max().item(),
        reason=None,
    )


def _ours(weights: Weights, what: str, clips_BTHWC: Tensor, keep_BK: Tensor) -> Tensor:
    card, architecture = weights.card, weights.card.architecture
    patches = patchify(clips_BTHWC, patch=architecture.patch, tubelet=architecture.tubelet)
    patches = normalise(patches, torch.tensor(card.mean), torch.tensor(card.std))
    if what == "tokens":
        return native.encoder_of(weights.tensors, card).eval()(patches)
    if what == "logits":
        classifier = Classifier(
            Encoder(architecture, card.grid), len(weights.classes), pool=weights.part.pool
        )
        classifier.load_state_dict(dict(weights.tensors))
        return classifier.eval()(patches)
    model = MaskedAutoencoder(architecture, card.grid).eval()
    model.load_state_dict(dict(weights.tensors))
    hidden_BH = hidden_ids(keep_BK, card.grid.num_tokens)
    return model(gather_tokens(patches, keep_BK), keep_BK, hidden_BH)


def _timm(weights: Weights, files: Files, inputs_BTHWC: Tensor) -> tuple[str, Tensor, Tensor]:
    import timm

    config = json.loads(files["config.json"])
    model = timm.create_model(
        config["architecture"], pretrained=False, num_classes=config["num_classes"], **config["model_args"]
    )
    model.load_state_dict(load(files["model.safetensors"]))
    model.eval()
    images = inputs_BTHWC[:, 0].permute(0, 3, 1, 2)
    if weights.part.kind == "classifier":
        return "logits", model(images), torch.empty(0)
    tokens: Tensor = model.forward_features(images)  # pyright: ignore[reportCallIssue]
    return "tokens", tokens, torch.empty(0)


def _transformers(weights: Weights, files: Files, inputs_BTHWC: Tensor) -> tuple[str, Tensor, Tensor]:
    model, config = load_transformers(files)
    num_tokens = weights.grid.num_tokens
    everything = torch.arange(num_tokens).unsqueeze(0)
    keep_BK = everything[:, :: round(1 / KEPT)][:, : int(num_tokens * KEPT)]
    if config["model_type"] == "videomae":
        clips = inputs_BTHWC.permute(0, 1, 4, 2, 3)
        if weights.part.kind == "masked_autoencoder":
            hidden = torch.ones(1, num_tokens, dtype=torch.bool).scatter_(1, keep_BK, False)
            # Their loss wants ImageNet's mean and std; what is predicted comes out without it too.
            return "predictions", model(clips, bool_masked_pos=hidden).logits, keep_BK
        if weights.part.kind == "classifier":
            return "logits", model(clips).logits, everything
        return "tokens", model(clips).last_hidden_state, everything
    images = inputs_BTHWC[:, 0].permute(0, 3, 1, 2)
    if weights.part.kind == "classifier":
        return "logits", model(images).logits, everything
    if weights.part.kind == "masked_autoencoder":
        model.config.mask_ratio = 1 - KEPT
        # They keep the int(N / 4) tokens of the smallest noise.
        noise = (torch.ones(1, num_tokens) + everything).scatter_(1, keep_BK, 0.0)
        hidden_BH = hidden_ids(keep_BK, num_tokens)
        return "predictions", gather_tokens(model(images, noise=noise).logits, hidden_BH), keep_BK
    model.config.mask_ratio = 0.0
    return "tokens", model(images, noise=everything.float()).last_hidden_state, everything


def load_transformers(files: Files) -> tuple[Any, dict[str, Any]]:
    """The model of transformers that an export's files are of, in evaluation mode, and its config.

    Raises WeightsError should it not take all of the tensors, or want others.
    """
    transformers = importlib.import_module("transformers")
    config = json.loads(files["config.json"])
    its = transformers.AutoConfig.for_model(**config)
    model, report = getattr(transformers, config["architectures"][0]).from_pretrained(
        None, config=its, state_dict=load(files["model.safetensors"]), output_loading_info=True
    )
    wrong = sorted([*report["missing_keys"], *report["unexpected_keys"]])
    if wrong:
        raise WeightsError(f"transformers does not take these tensors as they are: {', '.join(wrong[:5])}")
    assert isinstance(model, nn.Module)
    return model.eval(), config


LIBRARIES: dict[str, tuple[Callable[[Weights], Files], Callable[..., tuple[str, Tensor, Tensor]]]] = {
    "timm": (for_timm, _timm),
    "transformers": (for_huggingface, _transformers),
}
"""How weights are written for a library, and how it is run."""
