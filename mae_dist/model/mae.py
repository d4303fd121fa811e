"""The masked autoencoder of both papers: encode the kept patches, predict the hidden ones.

    kept patches -> encoder -> bridge -> [kept tokens | mask tokens], each + its position -> decoder blocks
    -> norm -> prediction of the hidden tokens

With `encoder_mask_token` the encoder gets the mask tokens, and the decoder what has become of them; another
decoder stands in `cross_decoder.py`.

MAE puts the tokens back in order before its decoder and predicts all of them, VideoMAE does neither. Since
positions are added first, order does not matter to the blocks, and the loss looks at hidden tokens only; so
one decoder serves both, and only what is hidden is predicted.

Letters: B samples, K kept tokens, H hidden tokens, P values of one patch, V values predicted for one, D width
of the decoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mae_dist.config.geometry import Architecture, Grid
from mae_dist.model.cross_decoder import CrossDecoder
from mae_dist.model.encoder import Encoder, predicted_values
from mae_dist.model.positions import POSITIONS
from mae_dist.model.transformer import NORM_EPSILON, initialise_as_torch, initialise_linears, transformer


class Decoder(nn.Module):
    """Transformer blocks, a norm, and a linear map to what is predicted; used in pretraining only."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        stack = architecture.decoder
        self.blocks = transformer(stack, key_bias=architecture.key_bias)
        self.norm = nn.LayerNorm(stack.width, eps=NORM_EPSILON)
        self.prediction = nn.Linear(stack.width, predicted_values(architecture))

    def forward(self, tokens_BND: Tensor, num_hidden: int) -> Tensor:
        """Predict the last `num_hidden` tokens: (B, N, D) -> (B, num_hidden, V)."""
        return self.prediction(self.norm(self.blocks(tokens_BND, num_hidden)))


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder; `encoder` is what evaluations take over.

    `generator` draws the initial weights (None: torch's global one); equal generators give equal weights.
    """

    def __init__(
        self, architecture: Architecture, grid: Grid, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        encoder_width, decoder_width = architecture.encoder.width, architecture.decoder.width
        self.architecture = architecture
        self.grid = grid
        self.encoder = Encoder(architecture, grid, generator=generator)
        self.bridge: nn.Linear | None = None
        mask_width = encoder_width if architecture.encoder_mask_token else decoder_width
        self.mask_token = nn.Parameter(torch.empty(1, 1, mask_width))
        if architecture.cross_decoder:
            self.decoder: Decoder | CrossDecoder = CrossDecoder(architecture)
        else:
            self.bridge = nn.Linear(encoder_width, decoder_width, bias=architecture.bridge_bias)
            self.decoder = Decoder(architecture)
        positions = POSITIONS[architecture.positions](grid, decoder_width)
        self.positions: Tensor
        self.register_buffer("positions", positions, persistent=False)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator | None) -> None:
        is_mae = self.architecture.init == "mae"
        if self.bridge is not None:
            (initialise_linears if is_mae else initialise_as_torch)(self.bridge, generator)
        if is_mae:
            nn.init.normal_(self.mask_token, std=0.02, generator=generator)
        else:
            nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02, generator=generator)
        initialise_linears(self.decoder, generator)
        if isinstance(self.decoder, CrossDecoder):
            self.decoder.initialise(generator)

    def forward(self, kept_BKP: Tensor, keep_BK: Tensor, hidden_BH: Tensor) -> Tensor:
        """Predict the patches at `hidden_BH` from the normalised patches `kept_BKP` at `keep_BK` (ids int64).

        Kept and hidden ids need not fill the grid. Returns (B, H, V), in the order of `hidden_BH`, in the
        units of the training target.
        """
        if isinstance(self.decoder, CrossDecoder):
            hidden = self.mask_token + self.positions[hidden_BH]
            return self.decoder(hidden, self.encoder.states(kept_BKP, keep_BK))
        assert self.bridge is not None
        masks = None
        if self.architecture.encoder_mask_token:
            masks = self.mask_token + self.encoder.positions[hidden_BH]
        encoded = self.bridge(self.encoder(kept_BKP, keep_BK, masks_BHD=masks))
        start = self.encoder.num_extra_tokens
        end = start + keep_BK.shape[1]
        kept = encoded[:, start:end] + self.positions[keep_BK]
        hidden = (self.mask_token if masks is None else encoded[:, end:]) + self.positions[hidden_BH]
        # A class token has no position.
        tokens = torch.cat([encoded[:, :start], kept, hidden], dim=1)
        return self.decoder(tokens, hidden_BH.shape[1])

    def encode(self, patches_BNP: Tensor) -> Tensor:
        """Tokens of a whole input, nothing masked: (B, N, P) -> (B, N, D), after a class token if any."""
        return self.encoder(patches_BNP)
