"""Our weights as others read them: the files of a folder for timm, transformers, or the authors' code.

    timm          model.safetensors, config.json, README.md: timm.create_model("local-dir:FOLDER", ...)
    huggingface   the same and preprocessor_config.json: AutoModel.from_pretrained(FOLDER)
    authors       model.pth with the names of the authors of MAE or VideoMAE, model_card.md

Each carries its model card where our own reader finds it, so that what tensors cannot say comes back.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from mae_dist.config.geometry import Stack
from mae_dist.model.transformer import NORM_EPSILON
from mae_dist.model.weights.dialects import huggingface, mae, videomae
from mae_dist.model.weights.header import WeightsError
from mae_dist.model.weights.naming import Naming, Part, to_theirs
from mae_dist.model.weights.native import card_markdown
from mae_dist.model.weights.reading import Weights, encoder_alone
from mae_dist.model.weights.stated import CARD, to_carry

Files = dict[str, bytes]

_TIMM_NAMES = {
    (384, 12, 16): "vit_small_patch16_224",
    (768, 12, 16): "vit_base_patch16_224",
    (1024, 24, 16): "vit_large_patch16_224",
    (1280, 32, 14): "vit_huge_patch14_224",
}
"""By width, depth and patch; any other is a vit_base_patch16_224 with all of its arguments replaced."""


def for_timm(weights: Weights) -> Files:
    """The encoder, or the classifier, as a VisionTransformer of timm; a decoder is left out.

    Raises WeightsError for what timm has no model of.
    """
    if weights.part.kind == "masked_autoencoder":
        weights = encoder_alone(weights)
    if _family(weights) != "mae":
        raise WeightsError("timm has no transformer of clips; transformers and the authors' code have")
    tensors = _theirs(weights, mae.NAMING)
    return {
        "model.safetensors": save(tensors, metadata=_carried(weights) | {"format": "pt"}),
        "config.json": _json(timm_config(weights)),
        "README.md": _card(weights, tensors, 'timm.create_model("local-dir:FOLDER", pretrained=True)'),
    }


def timm_config(weights: Weights) -> dict[str, Any]:
    """What timm needs to build the model and to feed it."""
    architecture, card = weights.card.architecture, weights.card
    encoder = architecture.encoder
    is_classifier = weights.part.kind == "classifier"
    pool = "avg" if is_classifier and weights.part.pool == "mean" else "token"
    num_classes = len(weights.classes)
    arguments = {
        "img_size": [card.height, card.width],
        "patch_size": architecture.patch,
        "embed_dim": encoder.width,
        "depth": encoder.depth,
        "num_heads": encoder.heads,
        "mlp_ratio": encoder.mlp_ratio,
        "global_pool": pool,
    }
    trained = {
        "input_size": [3, card.height, card.width],
        "mean": list(card.mean),
        "std": list(card.std),
        "num_classes": num_classes,
        "fixed_input_size": True,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }
    named = _TIMM_NAMES.get((encoder.width, encoder.depth, architecture.patch), "vit_base_patch16_224")
    config = {"architecture": named, "num_classes": num_classes, "num_features": encoder.width}
    config |= {"global_pool": pool, "model_args": arguments, "pretrained_cfg": trained}
    return config | ({"label_names": list(weights.classes)} if is_classifier else {})


def for_huggingface(weights: Weights) -> Files:
    """A model of transformers, with the names that every version of it reads.

    Raises WeightsError for what transformers has no model of.
    """
    config = huggingface_config(weights)
    tensors = _theirs(weights, huggingface.NAMINGS[weights.card.architecture.class_token, "legacy"])
    shortest = min(weights.card.height, weights.card.width)
    preprocessor = {
        "image_processor_type": "VideoMAEImageProcessor" if _is_video(weights) else "ViTImageProcessor",
        "image_mean": list(weights.card.mean),
        "image_std": list(weights.card.std),
        "size": {"shortest_edge": shortest}
        if _is_video(weights)
        else {"height": weights.card.height, "width": weights.card.width},
    }
    use = f'transformers.{config["architectures"][0]}.from_pretrained("FOLDER")'
    return {
        "model.safetensors": save(tensors, metadata=_carried(weights) | {"format": "pt"}),
        "config.json": _json(config),
        "preprocessor_config.json": _json(preprocessor),
        "README.md": _card(weights, tensors, use, _HUGGINGFACE_DIFFERS if _is_video(weights) else ""),
    }


_HUGGINGFACE_DIFFERS = (
    "Layer norms of the encoder have this epsilon through config.json. Those of `decoder.norm` and `fc_norm` "
    "cannot be set there and are torch's 1e-05, so predictions and logits differ in the last digits."
)


def huggingface_config(weights: Weights) -> dict[str, Any]:
    """The config of the model of transformers that fits. Raises WeightsError if there is none."""
    architecture, card, kind = weights.card.architecture, weights.card, weights.part.kind
    is_video = _family(weights) == "videomae"
    if kind == "masked_autoencoder":
        huggingface.check_decoder(architecture)
        _check_target(weights)
    if kind == "classifier" and not is_video and weights.part.pool == "mean":
        raise WeightsError("transformers has no image classifier that norms the mean of the tokens; timm has")
    model_type = "videomae" if is_video else "vit" if kind == "classifier" else "vit_mae"
    names = {"encoder": "Model", "masked_autoencoder": "ForPreTraining"}
    classified = "ForVideoClassification" if is_video else "ForImageClassification"
    stem = {"videomae": "VideoMAE", "vit": "ViT", "vit_mae": "ViTMAE"}[model_type]
    config: dict[str, Any] = {
        "architectures": [stem + names.get(kind, classified)],
        "model_type": model_type,
        "image_size": card.height if card.height == card.width else [card.height, card.width],
        "patch_size": architecture.patch,
        "num_channels": architecture.channels,
        "layer_norm_eps": NORM_EPSILON,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    } | _sizes(
        architecture.encoder, "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"
    )
    if kind == "masked_autoencoder":
        config |= {"norm_pix_loss": card.target != "pixel"} | _sizes(
            architecture.decoder,
            "decoder_hidden_size",
            "decoder_num_hidden_layers",
            "decoder_num_attention_heads",
            "decoder_intermediate_size",
        )
    if is_video:
        config |= {"num_frames": card.frames, "tubelet_size": architecture.tubelet, "qkv_bias": True}
        config |= {"use_mean_pooling": kind == "classifier"}
    if kind == "classifier":
        config["id2label"] = {str(number): name for number, name in enumerate(weights.classes)}
        config["label2id"] = {name: number for number, name in enumerate(weights.classes)}
    return config


def for_authors(weights: Weights) -> Files:
    """The file that the code of the paper's authors reads.

    Raises WeightsError for what it has no model of.
    """
    if weights.part.kind == "masked_autoencoder":
        huggingface.check_decoder(weights.card.architecture)
        _check_target(weights)
    if _family(weights) == "mae":
        naming = mae.NAMING
    else:
        naming = videomae.FINE_TUNED if weights.part.kind == "classifier" else videomae.PRETRAINED
    tensors = _theirs(weights, naming)
    file = io.BytesIO()
    torch.save({"model": tensors} | _carried(weights), file)
    use = 'torch.load("model.pth", weights_only=True)["model"]'
    return {"model.pth": file.getvalue(), "model_card.md": _card(weights, tensors, use)}


WRITERS: dict[str, Callable[[Weights], Files]] = {
    "timm": for_timm,
    "huggingface": for_huggingface,
    "authors": for_authors,
}


def _family(weights: Weights) -> str:
    """Of which paper's form a model is; WeightsError if of none, so that no other library has it."""
    its = weights.card.architecture
    if its.class_token and its.key_bias and its.tubelet == 1:
        return "mae"
    if not its.class_token and not its.key_bias and its.positions == "sincos_1d":
        return "videomae"
    raise WeightsError(
        f"no other library has an encoder of tubelets of {its.tubelet} frame(s) "
        f"{'with' if its.class_token else 'without'} a class token and with positions {its.positions}"
    )


def _is_video(weights: Weights) -> bool:
    return _family(weights) == "videomae"


def _check_target(weights: Weights) -> None:
    """Targets that the library's loss would take for another."""
    fitting = ("norm_pixel_videomae",) if _is_video(weights) else ("norm_pixel_mae", "pixel")
    if weights.card.target not in fitting:
        raise WeightsError(
            f"its decoder predicts {weights.card.target}, which their model does not "
            f"({' or '.join(fitting)}); export the encoder alone (--encoder-only)"
        )


def _theirs(weights: Weights, naming: Naming) -> dict[str, Tensor]:
    part = Part(kind=weights.part.kind, architecture=weights.card.architecture, pool=weights.part.pool)
    tensors = to_theirs(weights.tensors, naming, part, weights.grid)
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _carried(weights: Weights) -> dict[str, str]:
    return {CARD: to_carry(weights.card, weights.classes)}


def _sizes(stack: Stack, width: str, depth: str, heads: str, hidden: str) -> dict[str, int]:
    return {
        width: stack.width,
        depth: stack.depth,
        heads: stack.heads,
        hidden: int(stack.width * stack.mlp_ratio),
    }


def _card(weights: Weights, tensors: Mapping[str, Tensor], use: str, differs: str = "") -> bytes:
    """The model card for people, of the exported tensors."""
    kind, pool = weights.part.kind, weights.part.pool
    rows = {
        "Holds": kind.replace("_", " "),
        "Pooling": pool if kind == "classifier" else "none: all tokens come out normed",
        "sha256 of the tensors": digest_of(tensors),
    }
    if weights.classes:
        rows["Classes"] = str(len(weights.classes))
    described = replace(weights.card, provenance={**weights.card.provenance, **rows})
    parts = [card_markdown(described), f"```python\n{use}\n```\n", differs and f"{differs}\n"]
    return "\n".join(part for part in parts if part).encode()


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes and values, the same in every format of file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
