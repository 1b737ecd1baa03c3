"""Given frames as the denoiser is told them, through a real autoencoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.training.encoding import tiny_vae
from training.conditioning import given_of, latent_times_s
from training.diffusion.frame_masks import known_frames
from training.models.autoencoder import Autoencoder
from training.models.open_autoencoder import open_autoencoder

SIZE = (16, 24)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Autoencoder:
    return open_autoencoder(tiny_vae(tmp_path_factory.mktemp("vae")))


@pytest.fixture(scope="module")
def video() -> Tensor:
    return torch.rand(2, 3, 9, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_what_is_not_given_is_not_looked_at(vae: Autoencoder, video: Tensor) -> None:
    known = torch.stack([known_frames("last", 9, 4, 0.0), known_frames("first", 9, 4, 0.0)])
    other = torch.where(known[:, None, :, None, None], video, torch.rand_like(video))
    one, two = (given_of(vae.spec, known, SIZE, v, vae) for v in (video, other))
    assert torch.equal(one.latents_BCthw, two.latents_BCthw)
    third = given_of(vae.spec, known, SIZE, video.flip(3), vae)
    assert not torch.allclose(one.latents_BCthw, third.latents_BCthw, atol=1e-3)


@pytest.mark.parametrize(("mode", "decided"), [("first", 1), ("extension", 2), ("last", 0)])
def test_decided_latents_are_those_of_the_whole_video(
    vae: Autoencoder, video: Tensor, mode: str, decided: int
) -> None:
    """Where nothing is unknown, the given latents are the latents: the autoencoder is causal."""
    known = known_frames(mode, 9, 4, 0.99)[None].expand(2, -1)
    given, whole = given_of(vae.spec, known, SIZE, video, vae), vae.encode(video).mean
    assert (~given.unknown_Bt).sum(1).tolist() == [decided] * 2
    torch.testing.assert_close(
        given.latents_BCthw[:, :, :decided], whole[:, :, :decided], rtol=0, atol=1e-5
    )
    rest = given.latents_BCthw[:, :, decided:] - whole[:, :, decided:]
    assert rest.abs().max() > 1e-3


def test_without_given_frames_no_autoencoder_is_needed(vae: Autoencoder) -> None:
    given = given_of(vae.spec, torch.zeros((3, 9), dtype=torch.bool), SIZE)
    assert given.latents_BCthw.shape == (3, 4, 3, 2, 3) and not given.latents_BCthw.any()
    assert given.mask_BSthw.shape == (3, 4, 3, 2, 3) and not given.mask_BSthw.any()
    assert given.unknown_Bt.all()
    with pytest.raises(ValueError, match="autoencoder"):
        given_of(vae.spec, known_frames("first", 9, 4, 0.0)[None], SIZE)


def test_the_mask_says_which_of_four_frames(vae: Autoencoder, video: Tensor) -> None:
    known = known_frames("first_last", 9, 4, 0.0)[None].expand(2, -1)
    mask = given_of(vae.spec, known, SIZE, video, vae).mask_BSthw
    assert mask[0, :, :, 0, 0].tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 1]]


def test_times_of_latent_frames() -> None:
    times = latent_times_s(3, 4, torch.tensor([8.0, 16.0]))
    assert times.tolist() == [[0.0, 0.5, 1.0], [0.0, 0.25, 0.5]]
