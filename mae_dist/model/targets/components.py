"""Principal components of patches, whose coefficients the decoder can predict (MAE, table 1d: 96 of them).

Letters: P values of a patch, V components, n patches.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mae_dist.model.weights.files import open_weights
from mae_dist.model.weights.header import COMPONENTS, check_format


class Components(nn.Module):
    """Coefficients of patches in an orthonormal basis."""

    centre: Tensor
    basis: Tensor

    def __init__(self, centre_P: Tensor, basis_PV: Tensor) -> None:
        super().__init__()
        # Outside of the state dict: the run keeps them in a file of their own.
        self.register_buffer("centre", centre_P, persistent=False)
        self.register_buffer("basis", basis_PV, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """(..., P) to (..., V), the component of most variance first."""
        return (values - self.centre) @ self.basis


def fit_components(patches: Iterable[Tensor], num_components: int) -> tuple[Components, float]:
    """The components of patches that come in parts (n, P), and the share of their variance that they hold.

    Computed in float64 from sums over all patches. Each component's largest value is positive, so that equal
    patches give equal components and not their negatives.
    """
    count, total_P, products_PP = 0, torch.zeros(()), torch.zeros(())
    for part_nP in patches:
        values = part_nP.double()
        count += len(values)
        total_P, products_PP = total_P + values.sum(0), products_PP + values.T @ values
    centre_P = total_P / count
    covariance = products_PP / count - torch.outer(centre_P, centre_P)
    variances, vectors = torch.linalg.eigh(covariance)
    basis_PV = vectors.flip(1)[:, :num_components]
    largest_V = basis_PV.gather(0, basis_PV.abs().argmax(0, keepdim=True))
    share = variances.flip(0)[:num_components].sum() / variances.sum()
    return Components(centre_P.float(), (basis_PV * largest_V.sign()).float()), share.item()


def to_bytes(components: Components) -> bytes:
    """A safetensors file of the components."""
    tensors = {"centre": components.centre, "basis": components.basis.contiguous()}
    return save(tensors, metadata={"format": COMPONENTS})


def from_bytes(data: bytes) -> Components:
    """The components of a file made by `to_bytes`. Raises WeightsError if it is none."""
    tensors, metadata = open_weights(data)
    check_format(metadata, COMPONENTS)
    return Components(tensors["centre"], tensors["basis"])
