"""What a training step is given."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from training.data.buckets import Bucket


@dataclass
class Batch:
    """One microbatch: B samples of one bucket.

    Attributes:
        video: uint8 of shape (B, 3, T, H, W), RGB, 0 to 255; a view of (B, T, H, W, 3) memory.
            None where pixels are not read.
        weights: float32 of shape (B,): 1; 0 for a repeat, which must not count in the loss.
        captions: B texts, one drawn for each sample; empty where a clip has none.
        caption_kinds: B kinds: given, short, medium, ...; empty where there is no caption.
        keys: B clip ids, as stored in the shards.
        records: B dicts, the ``.json`` of each sample: scores, all captions, provenance.
        start_s: float32 of shape (B,): time of the first frame in the clip, seconds; of the
            latents' window where they tell it.
        flipped: bool of shape (B,): mirrored left to right.
        latents: Tensors of the sibling set by name, first dimension B; empty without one. Of a set
            of ``clipmill encode``: ``mean`` and ``logvar`` float16 (B, C, t, h, w) of one window;
            ``text`` float16 (B, L, D), the states of the very caption that stands here, zeros
            after the shorter ones; ``text_mask`` bool (B, L), True where they are.
        bucket: Shape T x H x W, and the rate, frames per second.
        step: Optimizer step.
        microbatch: 0 to K - 1 over the whole step.
        source: Which source of the mixture.
        epoch: Of that source.
        last: True for the last microbatch that this rank has in this step: time for the optimizer.
        failed: Keys of samples that could not be read, and stand here as repeats of weight 0.
    """

    video: torch.Tensor | None
    weights: torch.Tensor
    captions: list[str]
    caption_kinds: list[str]
    keys: list[str]
    records: list[dict[str, object]]
    start_s: torch.Tensor
    flipped: torch.Tensor
    bucket: Bucket
    step: int
    microbatch: int
    source: int
    epoch: int
    last: bool
    latents: dict[str, torch.Tensor] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        tensors = [self.weights, self.start_s, self.flipped, *self.latents.values()]
        if self.video is not None:
            tensors.append(self.video)
        return sum(t.element_size() * t.numel() for t in tensors)

    def pin_memory(self) -> Batch:
        """Move the tensors to page-locked memory, in place."""
        self.video = None if self.video is None else _pinned(self.video)
        self.weights, self.start_s = self.weights.pin_memory(), self.start_s.pin_memory()
        self.latents = {name: tensor.pin_memory() for name, tensor in self.latents.items()}
        return self


def _pinned(video: torch.Tensor) -> torch.Tensor:
    """Keep the memory order: pinning a permuted view would copy frame by frame."""
    return video.permute(0, 2, 3, 4, 1).pin_memory().permute(0, 4, 1, 2, 3)
