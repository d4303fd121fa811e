"""The weights that a pretraining begins with, put into its model before its first step."""

from __future__ import annotations

from mae_dist import storage
from mae_dist.config.starts import StartConfig
from mae_dist.model.inflation import inflate_encoder
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.weights import native
from mae_dist.model.weights.files import open_weights
from mae_dist.model.weights.header import WeightsError, weights_file


def take_start(model: MaskedAutoencoder, start: StartConfig) -> None:
    """Replace what the model has drawn by what `start` names; nothing where that is no weights.

    A fine-tuning with mean pooling has no norm behind its blocks; that norm then begins as it was made.
    Raises StorageError if the weights cannot be read, WeightsError if they do not fit.
    """
    if start.weights is None:
        return
    uri = weights_file(start.weights)
    weights, _ = open_weights(storage.read_bytes(uri))
    encoder = native.encoder_tensors(weights)
    try:
        if start.parts == "all":
            model.load_state_dict(weights)
            return
        if start.inflate is not None:
            encoder = inflate_encoder(encoder, model.architecture, start.inflate)
        norm = {f"norm.{name}": values for name, values in model.encoder.norm.state_dict().items()}
        model.encoder.load_state_dict(norm | encoder)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{uri}: the weights do not fit the model: {reason}") from error
