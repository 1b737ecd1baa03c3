"""What the embedders that run on torch share: the picture made ready, batches, unit length.

Results do not depend on what else is in a batch. On a CPU each picture is a batch of its own: a
matrix product over more rows may round a row otherwise, and one picture already fills a core. On
a GPU batches have one size, the last one padded, and TF32 stays off.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from curation.errors import ConfigError
from curation.models.embedders import MODELS, Embedder, EmbeddingModel

GPU_BATCH = 32
THREADS = 1
"""CPU threads of torch: a worker is one core, and sums do not depend on how many there are."""


class TorchEmbedder(Embedder):
    """A network on a device.

    Args:
        model: What it is fed.
        network: In inference mode, on the CPU.
        on_gpu: The worker was given a GPU.
    """

    def __init__(self, model: EmbeddingModel, network: torch.nn.Module, *, on_gpu: bool) -> None:
        self.model, self.dim, self.joint_text = model, model.dim, model.joint_text
        self.device = torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu")
        self.batch_size = GPU_BATCH if self.device.type == "cuda" else 1
        self._network: Any = network.eval().requires_grad_(False).to(self.device)

    @abstractmethod
    def _picture_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """[b, dim] of any length, from float32 [b, 3, side, side]."""

    def _text_features(self, texts: list[str]) -> torch.Tensor:
        """[n, dim] of any length."""
        names = ", ".join(m.weights.key for m in MODELS.values() if m.joint_text)
        raise ConfigError(
            f"{self.model.weights.name} knows pictures, not texts",
            mend=f"embed with one of: {names}",
        )

    @torch.inference_mode()
    def pictures(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """See :meth:`Embedder.pictures`; takes pictures one batch at a time."""
        torch.set_num_threads(THREADS)
        parts = [np.empty((0, self.dim), np.float32)]
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            for batch in _batches(pictures, self.batch_size):
                pixels = np.stack([prepare(picture, self.model) for picture in batch])
                missing = self.batch_size - len(pixels)
                pixels = np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0)))
                features = self._picture_features(torch.from_numpy(pixels).to(self.device))
                parts.append(_unit(features[: len(batch)]))
        return np.concatenate(parts)

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> np.ndarray:
        """See :meth:`Embedder.texts`; one text at a time."""
        torch.set_num_threads(THREADS)
        parts = [_unit(self._text_features([text])) for text in texts]
        return np.concatenate([np.empty((0, self.dim), np.float32), *parts])


def prepare(picture: np.ndarray, model: EmbeddingModel) -> np.ndarray:
    """A picture as the network was trained on: bicubic with antialiasing, then normalised.

    Args:
        picture: uint8 RGB [h, w, 3].
        model: What it is for.

    Returns:
        float32 [3, side, side].
    """
    image = Image.fromarray(picture)
    side = model.side_px
    if model.resize_px is None:
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    else:
        scale = model.resize_px / min(image.size)
        # As torchvision does: the short side exactly, the long one rounded down.
        width, height = (
            model.resize_px if s == min(image.size) else int(s * scale) for s in image.size
        )
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - side) / 2), round((height - side) / 2)
        image = image.crop((left, top, left + side, top + side))
    values = np.asarray(image, np.float32) / np.float32(255)
    values = (values - np.array(model.mean, np.float32)) / np.array(model.std, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def load_state(
    network: torch.nn.Module, state: dict[str, torch.Tensor], model: EmbeddingModel, path: object
) -> None:
    """Fill a network.

    Raises:
        ConfigError: The file holds another network's weights.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as exc:
        raise ConfigError(
            f"{path} does not hold the weights of {model.weights.name}: "
            f"{str(exc).splitlines()[-1].strip()[:200]}",
            mend=f"clipmill models pull {model.weights.key}",
        ) from exc


_T = TypeVar("_T")


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Lists of ``size`` items, the last one shorter."""
    batch: list[_T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _unit(features: torch.Tensor) -> np.ndarray:
    """Rows of length 1, float32 on the CPU."""
    return torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
