"""Terms of a VAE's loss against plain arithmetic, its crops, its basis."""

from __future__ import annotations

import pytest
import torch

from tests.training.models.test_vae import footage
from training.data.batch import Batch
from training.data.buckets import Bucket
from training.models.autoencoder import Posterior, psnr_db
from training.models.vae_network import VaeConfig, VaeNetwork
from training.vae.basis import fit_basis
from training.vae.crops import crops_of
from training.vae.losses import Discriminator, efficientnet_features, perceptual_distance, vae_loss
from training.vae.settings import CropSettings, LossSettings


def test_terms_are_means_over_numbers() -> None:
    video = torch.zeros(1, 3, 5, 8, 8)
    made = video.clone()
    made[:, :, 2] = 0.5  # one frame of five is off, so two of four steps are
    zero = torch.zeros(1, 4, 2, 1, 1)
    given = LossSettings(l1=1, mse=2, temporal=4, kl=10)
    total, terms = vae_loss(video, made, Posterior(zero + 1, zero), given)
    assert terms["l1"].item() == pytest.approx(0.1)
    assert terms["mse"].item() == pytest.approx(0.05)
    assert terms["temporal"].item() == pytest.approx(0.25)
    assert terms["kl"].item() == pytest.approx(0.5)
    assert total.item() == pytest.approx(0.1 + 0.1 + 1.0 + 5.0)


def test_a_standard_posterior_has_no_divergence() -> None:
    zero = torch.zeros(2, 4, 1, 3, 3)
    assert Posterior(zero, zero).kl().item() == 0
    assert Posterior(zero, zero - 2).kl().item() > 0


def test_a_picture_has_no_temporal_term() -> None:
    video = torch.rand(2, 3, 1, 8, 8)
    zero = torch.zeros(2, 4, 1, 1, 1)
    _, terms = vae_loss(video, video + 0.1, Posterior(zero, zero), LossSettings())
    assert terms["temporal"].item() == 0


def test_perceptual_distance_grows_with_blur() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    features = efficientnet_features(torch.device("cpu"))
    video = footage(2, 64, 96)
    blurs = [
        torch.nn.functional.avg_pool3d(video, (1, k, k), 1, (0, k // 2, k // 2)) for k in (3, 7)
    ]
    distances = [perceptual_distance(video, x, features).item() for x in (video, *blurs)]
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert distances[0] < distances[1] < distances[2]
    made = blurs[1].requires_grad_()
    perceptual_distance(video, made, features).backward()
    assert made.grad is not None and made.grad.abs().sum() > 0


def test_the_discriminator_learns_to_tell_blur() -> None:
    torch.manual_seed(0)
    judge = Discriminator(8)
    video = footage(5, 32, 48)
    blurred = torch.nn.functional.avg_pool3d(video, (1, 5, 5), 1, (0, 2, 2))
    optimizer = torch.optim.Adam(judge.parameters(), 1e-2)
    loss = judge.loss(video, blurred)
    first = loss.item()
    for _ in range(40):
        optimizer.zero_grad()
        loss = judge.loss(video, blurred)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first
    assert judge(video).mean() > judge(blurred).mean()


def test_the_basis_is_the_best_linear_codec() -> None:
    network = VaeNetwork(VaeConfig(latent_channels=8, width=8, encoder_depth=1, decoder_depth=1))
    video = footage(17, 64, 96)
    kept = fit_basis(network, [video])
    with torch.inference_mode():
        mean, _ = network.encode(video)
        made = network.decode(mean)
    assert 0.7 < kept < 1
    assert (mean.std((0, 2, 3, 4), unbiased=False) - 1).abs().max() < 1e-3
    variance = torch.cat([video[:, :, :1].expand(-1, -1, 3, -1, -1), video], 2).var().item()
    assert psnr_db(video, made) > 20
    error = (made - video).square().mean().item()
    assert error < 3 * (1 - kept) * variance
    with pytest.raises(ValueError, match="different directions"):
        fit_basis(network, [torch.zeros(1, 3, 5, 16, 16)])


def a_batch(weights: list[float]) -> Batch:
    count = len(weights)
    video = torch.arange(count * 5 * 40 * 64 * 3, dtype=torch.int64) % 256
    return Batch(
        video=video.to(torch.uint8).view(count, 5, 40, 64, 3).permute(0, 4, 1, 2, 3),
        weights=torch.tensor(weights),
        captions=[""] * count,
        caption_kinds=[""] * count,
        keys=[f"{n:032x}" for n in range(count)],
        records=[{}] * count,
        start_s=torch.zeros(count),
        flipped=torch.zeros(count, dtype=torch.bool),
        bucket=Bucket(5, 40, 64, 8, count, 20),
        step=0,
        microbatch=0,
        source=0,
        epoch=0,
        last=True,
    )


def test_crops_are_drawn_by_key_and_repeats_left_out() -> None:
    settings = CropSettings(size_px=16, per_sample=3, scales=(1.0, 0.5, 0.25))
    both, first = (crops_of(a_batch(w), settings, 7) for w in ([1.0, 1.0], [1.0, 0.0]))
    assert both.shape == (6, 3, 5, 16, 16)
    assert torch.equal(both[:3], first)
    assert both.min() >= -1 and both.max() <= 1
    assert not torch.equal(both, crops_of(a_batch([1.0, 1.0]), settings, 8))
    assert crops_of(a_batch([0.0, 0.0]), settings, 7).shape == (0, 3, 5, 16, 16)
    with pytest.raises(ValueError, match="do not fit"):
        crops_of(a_batch([1.0]), CropSettings(size_px=48), 7)
