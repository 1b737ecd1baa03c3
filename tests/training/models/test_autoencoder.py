"""The interface of autoencoders: sizes, scale, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.models.autoencoder import Autoencoder, LatentSpec, Posterior, psnr_db


def spec(**changes: object) -> LatentSpec:
    values: dict[str, object] = {
        **{"name": "some", "fingerprint": "0" * 16, "latent_channels": 2},
        **{"temporal_stride": 4, "spatial_stride": 8},
    }
    return LatentSpec(**{**values, **changes})  # type: ignore[arg-type]


def test_latent_shape_of_sizes_that_fit() -> None:
    assert spec().latent_shape(9, 32, 16) == (2, 3, 4, 2)
    assert spec().latent_shape(1, 8, 8) == (2, 1, 1, 1)
    assert spec(temporal_stride=1).latent_shape(6, 8, 8) == (2, 6, 1, 1)
    assert [spec().num_frames(t) for t in (1, 2, 5)] == [1, 5, 17]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((8, 16, 16), r"k \* 4 \+ 1 frames .* not 8: the nearest are 5 and 9"),
        ((0, 16, 16), "not 0"),
        ((5, 12, 16), "height divisible by 8 pixels, not 12: the nearest are 8 and 16"),
        ((5, 16, 4), "width divisible by 8 pixels, not 4: the nearest are 8"),
        ((5, 0, 16), "height divisible by 8 pixels, not 0"),
    ],
)
def test_sizes_that_do_not_fit_are_told_with_those_that_do(
    size: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        spec().check(*size)


def test_frames_may_step_further_than_latents() -> None:
    stepped = spec(frame_step=8)
    assert stepped.latent_shape(17, 8, 8) == (2, 5, 1, 1)
    with pytest.raises(ValueError, match="the nearest are 1 and 9"):
        stepped.check(5, 8, 8)
    with pytest.raises(ValueError, match="at least 5"):
        spec(min_frames=5).check(1, 8, 8)


def test_normalised_latents_come_back_raw() -> None:
    scaled = spec(shift=(1.0, -2.0), scale=(0.5, 4.0))
    mean, logvar = torch.randn(2, 1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    posterior = scaled.normalise(mean, logvar)
    torch.testing.assert_close(scaled.raw(posterior.mean), mean)
    torch.testing.assert_close(posterior.mean[:, 1], (mean[:, 1] + 2) * 4)
    # A sample is the raw sample, normalised: the deviation scales, the shift does not touch it.
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(2))
    raw = mean + (0.5 * logvar).exp() * noise
    torch.testing.assert_close(scaled.raw(posterior.sample(noise)), raw)


def test_numbers_of_channels_have_to_agree() -> None:
    with pytest.raises(ValueError, match="3 numbers for 2 channels"):
        spec(shift=(0.0, 0.0, 0.0))


def test_kl_of_the_standard_normal_is_nothing() -> None:
    zero = torch.zeros(1, 2, 1, 2, 2)
    assert Posterior(zero, zero).kl().item() == 0
    assert Posterior(zero + 2, zero).kl().item() == pytest.approx(2)
    assert Posterior(zero, zero + 1).kl().item() == pytest.approx((math.e - 2) / 2)


class Blocks(Autoencoder):
    """Means of blocks of 8 x 8 pixels of every fourth frame, as a network with strides would."""

    def __init__(self, *, drops: bool = False) -> None:
        self.spec = spec(latent_channels=3)
        self.device = torch.device("cpu")
        self.drops = drops

    def _encode(self, video: Tensor) -> Posterior:
        mean = torch.nn.functional.avg_pool3d(video[:, :, ::4], (1, 8, 8))
        mean = mean[:, :, :-1] if self.drops else mean
        return self.spec.normalise(mean, torch.zeros_like(mean))

    def _decode(self, latents: Tensor) -> Tensor:
        frames = latents.repeat_interleave(4, 2)[:, :, 3:]
        return 2 * frames.repeat_interleave(8, 3).repeat_interleave(8, 4)


def test_encode_and_decode_enforce_what_is_declared() -> None:
    blocks = Blocks()
    video = torch.rand(2, 3, 5, 16, 8) * 2 - 1
    posterior = blocks.encode(video)
    assert posterior.mean.shape == (2, 3, 2, 2, 1)
    back = blocks.decode(posterior.mean)
    assert back.shape == video.shape
    assert blocks.decode(posterior.mean + 9).max() == 1  # within [-1, 1]
    for wrong in (video[0], video[:, :2], (video * 127).to(torch.uint8)):
        with pytest.raises(ValueError, match=r"a video is float \(B, 3, T, H, W\)"):
            blocks.encode(wrong)
    with pytest.raises(ValueError, match=r"k \* 4 \+ 1"):
        blocks.encode(video[:, :, :4])
    with pytest.raises(ValueError, match=r"are \(B, 3, t, h, w\)"):
        blocks.decode(posterior.mean[:, :2])


def test_a_network_that_drops_frames_is_found_out() -> None:
    with pytest.raises(ValueError, match="where its strides say"):
        Blocks(drops=True).encode(torch.zeros(1, 3, 9, 8, 8))


def test_psnr() -> None:
    zero = torch.zeros(4)
    assert psnr_db(zero, zero) == math.inf
    assert psnr_db(zero, zero + 0.2) == pytest.approx(20)
