"""One name, one autoencoder: the shipped one, TAEF2, one of our training, or one of diffusers.

clipmill-small                    the video autoencoder that the package carries
taef2                             a tiny one of pictures, frame by frame
FOLDER, FILE.safetensors          of our own training (``vae.safetensors`` in a folder)
FOLDER[#vae], owner/name[#vae]    of diffusers, of videos or pictures
"""

from __future__ import annotations

from pathlib import Path

import torch

from curation.errors import ConfigError
from training.models.autoencoder import Autoencoder
from training.models.autoencoder_diffusers import open_diffusers
from training.models.autoencoder_frames import PICTURE_CLASSES, TAEF2, open_frames, open_taef2
from training.models.pretrained import as_dtype, model_folder, read_config, split_name

SHIPPED = "clipmill-small"
OWN_FILE = "vae.safetensors"
POSSIBLE = (
    f"one of: {SHIPPED}; {TAEF2}; a .safetensors file of clipmill's training, or a folder with"
    f" {OWN_FILE}; a folder or hub id of a diffusers autoencoder, as FOLDER, FOLDER#vae,"
    " owner/name or owner/name#vae"
)


def open_autoencoder(
    name: str = SHIPPED,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    tiling: bool = False,
) -> Autoencoder:
    """Load an autoencoder by its name, see the head of this file.

    Args:
        name: Which.
        device: Where it runs.
        dtype: Precision of the network, float32 by default.
        tiling: Bounded memory for large frames, of diffusers' classes; it moves the numbers. Our
            own always work in chunks and tiles, with equal numbers. TAEF2 takes none.

    Raises:
        ConfigError: There is none of this name, or it cannot be used.
    """
    place, precision = torch.device(device), as_dtype(dtype)
    if name == TAEF2:
        if tiling:
            raise ConfigError(
                "takes no tiles: its blocks look at the whole picture",
                where=name,
                mend="leave tiling off",
            )
        return open_taef2(device=place, dtype=precision)
    own = _own_file(Path(name))
    if name == SHIPPED or own:
        # Here, since it is a room of its own: those who use another never load it.
        from training.models.vae import open_vae

        return open_vae(None if name == SHIPPED else own, device=place, dtype=precision)
    if not _may_be_diffusers(name):
        raise ConfigError("no autoencoder has this name", where=name, mend=POSSIBLE)
    kind = read_config(model_folder(name)).get("_class_name")
    if not isinstance(kind, str):
        raise ConfigError("its config.json names no class of diffusers", where=name, mend=POSSIBLE)
    if kind in PICTURE_CLASSES:
        return open_frames(name, device=place, dtype=precision, tiling=tiling)
    return open_diffusers(name, device=place, dtype=precision, tiling=tiling)


def _own_file(path: Path) -> Path | None:
    """The weights of an autoencoder of our own training."""
    path = path / OWN_FILE if path.is_dir() else path
    return path if path.is_file() else None


def _may_be_diffusers(name: str) -> bool:
    """A folder, or what can be a hub's id."""
    base, _ = split_name(name)
    owner, slash, rest = base.partition("/")
    is_id = bool(owner and slash and rest) and "/" not in rest and not base.startswith(".")
    return (bool(base) and Path(base).is_dir()) or (
        is_id and not base.endswith(Path(OWN_FILE).suffix)
    )
