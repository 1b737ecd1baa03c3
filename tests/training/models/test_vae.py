"""The small VAE: whole, in chunks and in tiles alike; files; the weights that ship."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from curation.errors import ConfigError
from tests.media import Camera
from training.models.autoencoder import psnr_db
from training.models.vae import SHIPPED, about_vae, open_vae, save_vae, shipped_file
from training.models.vae_network import VaeConfig, VaeNetwork, from_cells, to_cells
from training.models.vae_stream import (
    DecoderStream,
    EncoderStream,
    decode_stream,
    encode_stream,
    tiles_of,
)

TOLERANCE = 2e-5
"""Of pixels and latents of about 1: what float32 sums may differ by in another order."""
MAX_BYTES = 8 * 10**6


@pytest.fixture(scope="module", params=[0, 8], ids=["cells", "cells and frames"])
def network(request: pytest.FixtureRequest) -> VaeNetwork:
    """Random everywhere: nothing begins as zero, so every layer has a say."""
    torch.manual_seed(0)
    config = VaeConfig(
        latent_channels=8,
        width=16,
        encoder_depth=2,
        decoder_depth=3,
        pixel_width=8,
        frame_width=request.param,
    )
    made = VaeNetwork(config).eval().requires_grad_(False)
    for name, value in made.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(value, std=0.08 if request.param else 0.15)
    return made


@pytest.fixture(scope="module")
def video() -> Tensor:
    return torch.rand(2, 3, 21, 96, 144, generator=torch.Generator().manual_seed(1)) * 2 - 1


def footage(frames: int, height: int, width: int, fps: float = 12.0) -> Tensor:
    """A moving generated scene, (1, 3, T, H, W) in [-1, 1]."""
    shots = Camera(pan_per_s=0.1, tilt_per_s=0.05).shoot(
        width, height, torch.arange(frames).numpy() / fps
    )
    pictures = torch.stack([torch.from_numpy(shot.copy()) for shot in shots])
    return pictures.permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def test_blocks_and_back() -> None:
    x = torch.rand(2, 3, 8, 16, 24)
    assert to_cells(x).shape == (4, 768, 2, 3)
    assert torch.equal(from_cells(to_cells(x), 2), x)


def test_cuts_in_time_and_space_change_nothing(network: VaeNetwork, video: Tensor) -> None:
    with torch.inference_mode():
        mean, logvar = network.encode(video)
        pixels = network.decode(mean)
    pieces = [m for m, _ in encode_stream(network, video.split(7, 2), tile_px=40)]
    assert len(pieces) > 2
    assert torch.allclose(torch.cat(pieces, 2), mean, atol=TOLERANCE)
    empty = [video[:, :, :0], video]
    assert torch.equal(torch.cat([m for m, _ in encode_stream(network, empty)], 2), mean)
    parts = list(decode_stream(network, mean.split(2, 2), tile_px=32))
    assert [part.shape[2] for part in parts] == [5, 8, 8]
    assert torch.allclose(torch.cat(parts, 2), pixels, atol=TOLERANCE)
    assert logvar.shape == mean.shape == (2, 8, 6, 12, 18)


def test_margins_are_needed_and_enough(network: VaeNetwork, video: Tensor) -> None:
    """A change outside of what a tile sees leaves its latents; one at its rim does not."""
    margin, network = network.config.encoder_margin, deepcopy(network).double()
    video = video[:1].double()
    tile = tiles_of(12, 18, 4, margin)[0]
    assert tile.kept == (0, 4, 0, 4)
    beyond, rim = video.clone(), video.clone()
    beyond[..., (4 + margin) * 8 :, :] = 0
    rim[..., (4 + margin - 1) * 8 :, :] = 0
    with torch.inference_mode():
        given, far, near = (
            network.encode(x[:, :, :1])[0][..., :4, :4] for x in (video, beyond, rim)
        )
    assert (given - far).abs().max() < 1e-12
    assert (given - near).abs().max() > 1e-9
    latents = torch.randn(1, 8, 1, 12, 18, dtype=torch.double)
    margin = network.config.decoder_margin
    beyond, rim = latents.clone(), latents.clone()
    beyond[..., 2 + margin :, :] = 0
    rim[..., 2 + margin - 2 :, :] = 0  # of the last cell of the margin only a part is seen
    with torch.inference_mode():
        given, far, near = (network.decode(z)[..., :16, :16] for z in (latents, beyond, rim))
    assert (given - far).abs().max() < 1e-12
    assert (given - near).abs().max() > 1e-12


def test_time_looks_back_alone(network: VaeNetwork, video: Tensor) -> None:
    later = video.clone()
    later[:, :, 13:] = 0
    with torch.inference_mode():
        given, changed = network.encode(video)[0], network.encode(later)[0]
        first = network.encode(video[:, :, :1])[0]
        shown = network.decode(given), network.decode(changed)
    assert torch.allclose(given[:, :, :4], changed[:, :, :4], atol=TOLERANCE)
    assert (given[:, :, 4] - changed[:, :, 4]).abs().max() > 0.01
    assert torch.allclose(shown[0][:, :, :13], shown[1][:, :, :13], atol=TOLERANCE)
    assert torch.allclose(first, given[:, :, :1], atol=TOLERANCE)


def test_streams_refuse_what_does_not_fit(network: VaeNetwork, video: Tensor) -> None:
    with pytest.raises(ValueError, match="4k"):
        EncoderStream(network).push(video[:, :, :4])
    with pytest.raises(ValueError, match="3 are left over"):
        list(encode_stream(network, [video[:, :, :8]]))
    with pytest.raises(ValueError, match="0 are left over"):
        list(encode_stream(network, []))
    stream = EncoderStream(network)
    stream.push(video[:, :, :1])
    with pytest.raises(ValueError, match="goes on with"):
        stream.push(video[:, :, 1:5, :64])
    with pytest.raises(ValueError, match="divisible by 8"):
        list(encode_stream(network, [video[..., :60, :]]))
    with pytest.raises(ValueError, match="t from 1"):
        DecoderStream(network).push(torch.zeros(1, 8, 0, 4, 4))
    with pytest.raises(ValueError, match="tile_px"):
        EncoderStream(network, tile_px=20)


def test_a_file_holds_all(network: VaeNetwork, video: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    shift, scale = tuple(0.1 * n for n in range(8)), (2.0,) * 8
    save_vae(path, network, shift, scale, {"made": "here"})
    vae = open_vae(path, tile_px=48)
    assert about_vae(path) == {"made": "here"}
    assert vae.spec.name == "own" and vae.spec.shift == shift
    posterior = vae.encode(video)
    with torch.inference_mode():
        raw, logvar = vae.network.encode(video)
    expected = (raw - torch.tensor(shift).view(1, -1, 1, 1, 1)) * 2
    assert torch.allclose(posterior.mean, expected, atol=TOLERANCE)
    assert torch.allclose(posterior.logvar, logvar + 2 * torch.tensor(2.0).log(), atol=TOLERANCE)
    with torch.inference_mode():
        pixels = vae.network.decode(raw).clamp(-1, 1)
    assert torch.allclose(vae.decode(posterior.mean), pixels, atol=TOLERANCE)
    save_vae(path, network, (0.0,) * 8, scale, {"made": "here"})
    assert open_vae(path).spec.fingerprint != vae.spec.fingerprint
    save_vae(path, network, shift, scale, {"made": "elsewhere"})
    assert open_vae(path).spec.fingerprint == vae.spec.fingerprint
    assert open_vae(path, dtype=torch.bfloat16).spec.fingerprint != vae.spec.fingerprint


@pytest.mark.parametrize(
    ("frames", "height", "width", "told"),
    [(8, 64, 64, "5 and 9"), (9, 60, 64, "56 and 64"), (9, 64, 4, "nearest are 8")],
)
def test_sizes_that_do_not_fit(frames: int, height: int, width: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        open_vae().encode(torch.zeros(1, 3, frames, height, width))


def test_damaged_files(network: VaeNetwork, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        open_vae(tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(shipped_file().read_bytes()[:5000])
    with pytest.raises(ConfigError, match="holds no VAE"):
        open_vae(broken)
    save_vae(tmp_path / "shifts.safetensors", network, (0.0,) * 3, (1.0,), {})
    with pytest.raises(ConfigError, match="3 numbers for 8 channels"):
        open_vae(tmp_path / "shifts.safetensors")
    bad = network.decoder_out.weight.clone()
    network.decoder_out.weight.fill_(1e6)
    with pytest.raises(ValueError, match="not finite"):
        save_vae(tmp_path / "large.safetensors", network, (0.0,), (1.0,), {})
    network.decoder_out.weight.copy_(bad)
    assert not (tmp_path / "large.safetensors").exists()


def test_the_shipped_weights() -> None:
    assert shipped_file().stat().st_size <= MAX_BYTES
    vae, about = open_vae(), about_vae()
    assert vae.spec.name == SHIPPED and vae.spec.latent_channels == 16
    assert about["footage"] and all(row["licence"] for row in about["footage"])
    video = footage(17, 96, 160)
    posterior = vae.encode(video)
    assert posterior.mean.shape == (1, 16, 5, 12, 20)
    assert psnr_db(video, vae.decode(posterior.mean)) > 25  # a texture without end: hard
    assert 0.2 < posterior.mean.std() < 3
    with torch.inference_mode():
        noisy = posterior.sample(torch.randn(posterior.mean.shape))
    assert psnr_db(video, vae.decode(noisy)) > 24.5


def test_real_footage_is_above_27_db(assets: Path) -> None:
    """A clip that no weight has seen, at 256 lines."""
    import av

    pictures = []
    with av.open(str(assets / "videos" / "real" / "flower.mp4")) as file:
        for number, frame in enumerate(file.decode(video=0)):
            if number % 2 == 0:
                pictures.append(frame.to_ndarray(width=448, height=256, format="rgb24"))
            if len(pictures) == 9:
                break
    video = torch.stack([torch.from_numpy(p) for p in pictures]).permute(3, 0, 1, 2)[None]
    video = video.float() / 127.5 - 1
    vae = open_vae()
    made = vae.decode(vae.encode(video).mean)
    assert psnr_db(video, made) > 27
    change = (made.diff(dim=2) - video.diff(dim=2)).abs().mean((0, 1, 3, 4))
    assert change.max() < 3 * change.min()  # no step stands out: no seams between latent frames
