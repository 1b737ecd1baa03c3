"""The linear codec that a VAE begins as: principal components of blocks of footage.

Karhunen-Loeve transform: of all linear transforms of a block to C numbers the one with the least
squared error. The first block of a video, one frame four times, is among those counted.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from curation.errors import ConfigError
from training.models.vae import open_vae
from training.models.vae_network import BLOCK, TEMPORAL, VaeNetwork, to_cells

SHIPPED = "shipped"


def fit_basis(network: VaeNetwork, crops: Iterable[Tensor]) -> float:
    """Compute the transform and set it.

    Args:
        network: Changed in place.
        crops: Of footage, (N, 3, 4k + 1, H, W) in [-1, 1].

    Returns:
        Share of the variance that it keeps.

    Raises:
        ValueError: Too few different blocks for so many channels.
    """
    count, total = 0, torch.zeros(BLOCK, dtype=torch.float64)
    products = torch.zeros(BLOCK, BLOCK, dtype=torch.float64)
    for x in crops:
        whole = torch.cat([x[:, :, :1].expand(-1, -1, TEMPORAL - 1, -1, -1), x], 2).cpu()
        rows = to_cells(whole).permute(0, 2, 3, 1).reshape(-1, BLOCK).double()
        count, total = count + len(rows), total + rows.sum(0)
        products += rows.T @ rows
    mean = total / max(1, count)
    variances, vectors = torch.linalg.eigh(products / max(1, count) - torch.outer(mean, mean))
    channels = network.config.latent_channels
    kept = variances.flip(0)[:channels]
    if kept[-1] <= 1e-9:
        raise ValueError(f"{count} blocks of footage have no {channels} different directions")
    basis = vectors.flip(1)[:, :channels]
    # The sign of an eigenvector is arbitrary: the largest part is made positive.
    basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
    device = network.analysis.weight.device
    network.set_basis(*(v.float().to(device) for v in (mean, basis, kept.sqrt())))
    return float(kept.sum() / variances.sum())


def begin_with(network: VaeNetwork, path: str) -> None:
    """Begin with the weights of a file; layers on single frames that it lacks stay as they are.

    Args:
        network: Changed in place.
        path: File of a VAE, or ``shipped``.

    Raises:
        ConfigError: There is no such file, or its network has other sizes.
    """
    given = open_vae(None if path == SHIPPED else path).network.state_dict()
    mine = network.state_dict()
    lacking = [name for name in mine if name not in given and not name.startswith("frames_")]
    wrong = [n for n, value in given.items() if n not in mine or mine[n].shape != value.shape]
    if lacking or wrong:
        raise ConfigError(
            f"is of a network with other sizes: {', '.join([*lacking, *wrong][:3])}",
            where=path,
            mend="the sizes of that network in the section model",
        )
    network.load_state_dict(mine | given)
