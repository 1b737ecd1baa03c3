"""Video autoencoders of diffusers: the real classes at a tiny size, opened from a folder."""

# ruff: noqa: ANN401 - networks of diffusers have no types

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from curation.errors import ConfigError
from training.models.autoencoder_diffusers import diffusers_autoencoder, open_diffusers

diffusers = pytest.importorskip("diffusers")


def wan(**changes: Any) -> Any:
    return diffusers.AutoencoderKLWan(
        **{
            **{"base_dim": 3, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1},
            **{"temperal_downsample": [False, True, True]},
            **changes,
        }
    )


def ltx(**changes: Any) -> Any:
    return diffusers.AutoencoderKLLTXVideo(
        **{
            **{"latent_channels": 8, "block_out_channels": (8, 8, 8, 8), "scaling_factor": 0.5},
            **{"decoder_block_out_channels": (8, 8, 8, 8), "layers_per_block": (1, 1, 1, 1, 1)},
            **{"decoder_layers_per_block": (1, 1, 1, 1, 1), "patch_size": 1, "patch_size_t": 1},
            **changes,
        }
    )


def cogvideox() -> Any:
    return diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2
    )


def hunyuan() -> Any:
    return diffusers.AutoencoderKLHunyuanVideo(
        **{"latent_channels": 4, "block_out_channels": (8, 8, 8, 8), "layers_per_block": 1},
        norm_num_groups=4,
    )


@dataclass(frozen=True)
class Case:
    """A class, and what has to be found out about it."""

    build: Callable[[], Any]
    channels: int
    temporal: int
    fits: tuple[int, ...]
    refused: tuple[int, ...]


CASES = {
    "wan": Case(wan, 16, 4, (1, 5, 9), (2, 4, 8)),
    "ltx": Case(ltx, 8, 8, (1, 9, 17), (5, 8, 16)),
    "cogvideox": Case(cogvideox, 4, 4, (1, 9, 17), (5, 8, 13, 16)),
    "hunyuan": Case(hunyuan, 4, 4, (1, 5, 21), (2, 8, 20)),
}


def build(name: str) -> Any:
    torch.manual_seed(7)
    model = CASES[name].build()
    if name == "ltx":
        model.latents_mean = torch.linspace(-1, 1, 8)
        model.latents_std = torch.linspace(0.5, 2, 8)
    return model


def noise(frames: int, *, height_px: int = 32, width_px: int = 16, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, frames, height_px, width_px, generator=generator) * 2 - 1


@pytest.fixture(params=list(CASES))
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """Name of a case and the folder of its model."""
    build(request.param).save_pretrained(tmp_path / "vae", safe_serialization=True)
    return request.param, tmp_path / "vae"


def test_shapes_are_as_declared_and_other_counts_refused(saved: tuple[str, Path]) -> None:
    name, folder = saved
    case, autoencoder = CASES[name], open_diffusers(str(folder))
    spec = autoencoder.spec
    assert (spec.latent_channels, spec.temporal_stride) == (case.channels, case.temporal)
    assert spec.spatial_stride == 8
    for frames in case.fits:
        video = noise(frames)
        posterior = autoencoder.encode(video)
        assert posterior.mean.shape[1:] == spec.latent_shape(*video.shape[2:])
        assert posterior.mean.dtype == posterior.logvar.dtype == torch.float32
        back = autoencoder.decode(posterior.mean)
        assert back.shape == video.shape
        assert back.abs().max() <= 1
    for frames in case.refused:
        with pytest.raises(ValueError, match=f"frames .* not {frames}"):
            autoencoder.encode(noise(frames))
    with pytest.raises(ValueError, match="height divisible by 8"):
        autoencoder.encode(noise(1, height_px=20))


def test_the_posterior_is_the_networks_own_normalised(saved: tuple[str, Path]) -> None:
    name, folder = saved
    autoencoder, model, video = open_diffusers(str(folder)), build(name).eval(), noise(9)
    with torch.inference_mode():
        raw = model.encode(video).latent_dist
    posterior = autoencoder.encode(video)
    column = (1, -1, 1, 1, 1)
    mean, std, factor = torch.zeros(1), torch.ones(1), model.config.get("scaling_factor") or 1.0
    if name in ("wan", "ltx"):
        found = model if name == "ltx" else model.config
        mean, std = torch.tensor(list(found.latents_mean)), torch.tensor(list(found.latents_std))
    expected = (raw.mean - mean.view(column)) * factor / std.view(column)
    torch.testing.assert_close(posterior.mean, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(autoencoder.spec.raw(posterior.mean), raw.mean)

    # A variance is no mean: it moves by the square of the scale, and by no shift.
    scale = factor / std.view(column)
    torch.testing.assert_close(posterior.logvar, raw.logvar + 2 * scale.log())
    drawn = raw.mean + raw.std
    torch.testing.assert_close(
        posterior.sample(torch.ones(1)), (drawn - mean.view(column)) * scale, atol=1e-4, rtol=1e-4
    )

    with torch.inference_mode():
        back = model.decode(raw.mean).sample.clamp(-1, 1)
    torch.testing.assert_close(autoencoder.decode(posterior.mean), back, atol=1e-4, rtol=1e-4)


def test_encode_and_decode_say_the_same_twice(saved: tuple[str, Path]) -> None:
    _, folder = saved
    one, other, video = open_diffusers(str(folder)), open_diffusers(str(folder)), noise(9)
    first, second = one.encode(video), other.encode(video)
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.logvar, second.logvar)
    assert torch.equal(one.decode(first.mean), other.decode(second.mean))
    assert one.spec == other.spec


def test_fingerprint_follows_weights_precision_and_tiles(
    saved: tuple[str, Path], tmp_path: Path
) -> None:
    name, folder = saved
    first = open_diffusers(str(folder)).spec.fingerprint
    again = tmp_path / "elsewhere"
    build(name).save_pretrained(again)
    config = json.loads((again / "config.json").read_text())
    (again / "config.json").write_text(json.dumps({**config, "_diffusers_version": "9.9"}))
    assert open_diffusers(str(again)).spec.fingerprint == first
    assert open_diffusers(f"{tmp_path}#vae").spec.fingerprint == first
    others = {
        open_diffusers(str(folder), dtype="bfloat16").spec.fingerprint,
        open_diffusers(str(folder), tiling=True).spec.fingerprint,
        diffusers_autoencoder(build(name), "random").spec.fingerprint,
    }
    [file] = again.glob("*.safetensors")
    state = load_file(file)
    save_file({key: value * 1.001 for key, value in state.items()}, file, {"format": "pt"})
    others.add(open_diffusers(str(again)).spec.fingerprint)
    assert len(others | {first}) == 5


def test_tiles_give_the_same_shape(saved: tuple[str, Path]) -> None:
    _, folder = saved
    tiled, whole = open_diffusers(str(folder), tiling=True), open_diffusers(str(folder))
    model: Any = tiled._model
    if hasattr(model, "tile_sample_stride_height"):
        model.enable_tiling(
            **{"tile_sample_min_height": 32, "tile_sample_min_width": 32},
            **{"tile_sample_stride_height": 24, "tile_sample_stride_width": 24},
        )
    else:
        # CogVideoX's tiles overlap by a sixth and a fifth, which has to be whole cells.
        model.enable_tiling(tile_sample_min_height=48, tile_sample_min_width=40)
    video = noise(25, height_px=64, width_px=48)
    latents, exact = tiled.encode(video).mean, whole.encode(video).mean
    assert latents.shape == exact.shape
    assert not torch.equal(latents, exact)  # it did work in tiles
    assert tiled.decode(latents).shape == video.shape


def test_a_part_of_the_numbers_in_bfloat16(tmp_path: Path) -> None:
    build("wan").save_pretrained(tmp_path)
    exact, short = open_diffusers(str(tmp_path)), open_diffusers(str(tmp_path), dtype="bf16")
    a, b = exact.encode(noise(5)).mean, short.encode(noise(5)).mean
    assert b.dtype == torch.float32
    assert 0 < (a - b).abs().max() < 0.1


def test_wan_itself_would_drop_frames() -> None:
    """What is refused here, the class does without a word."""
    model = build("wan").eval()
    with torch.inference_mode():
        cut = model.encode(noise(8)).latent_dist.mean
        whole = model.encode(noise(8)[:, :, :5]).latent_dist.mean
    assert torch.equal(cut, whole)


def test_cogvideox_itself_would_add_frames() -> None:
    """Two latent frames stand for 5 frames; the class decodes 8."""
    model = build("cogvideox").eval()
    with torch.inference_mode():
        latents = model.encode(noise(5)).latent_dist.mean
        assert latents.shape[2] == 2
        assert model.decode(latents).sample.shape[2] == 8
    with pytest.raises(ValueError, match="8 frames, not 5"):
        diffusers_autoencoder(model, "cog").decode(latents)


def test_strides_are_read_from_the_configuration() -> None:
    patched = wan(
        **{"patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}
    )
    assert diffusers_autoencoder(patched, "wan 2.2").spec.spatial_stride == 16
    untold = wan(scale_factor_temporal=None)
    assert diffusers_autoencoder(untold, "wan").spec.temporal_stride == 4
    lean = ltx(
        **{"spatio_temporal_scaling": (True, True, False, False), "patch_size": 2},
        decoder_spatio_temporal_scaling=(True, True, False, False),
    )
    spec = diffusers_autoencoder(lean, "ltx").spec
    assert (spec.temporal_stride, spec.spatial_stride) == (4, 8)


def test_strides_that_are_not_true_are_found_out() -> None:
    with pytest.raises(ConfigError, match="is not usable as a video autoencoder"):
        diffusers_autoencoder(wan(scale_factor_spatial=16), "wan")


def test_a_decoder_that_adds_noise_adds_the_same() -> None:
    torch.manual_seed(2)
    noisy = ltx(timestep_conditioning=True, decoder_inject_noise=(True, False, False, False, False))
    for key, value in noisy.named_parameters():
        if "per_channel_scale" in key:
            torch.nn.init.ones_(value)
    autoencoder = diffusers_autoencoder(noisy, "ltx")
    latents = torch.randn(1, 8, 2, 2, 2)
    state = torch.random.get_rng_state()
    first = autoencoder.decode(latents)
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's draws stay its own
    torch.randn(5)
    assert torch.equal(autoencoder.decode(latents), first)


def test_other_classes_pass_the_same_door() -> None:
    """One that was never tried by hand: it says its strides, and does as it says."""
    torch.manual_seed(1)
    model = diffusers.AutoencoderKLHunyuanVideo15(
        **{"latent_channels": 4, "block_out_channels": (8, 8, 16), "layers_per_block": 1},
        **{"spatial_compression_ratio": 4, "temporal_compression_ratio": 4},
    )
    autoencoder = diffusers_autoencoder(model, "other")
    assert autoencoder.decode(autoencoder.encode(noise(5)).mean).shape == (1, 3, 5, 32, 16)


def test_what_is_no_video_autoencoder_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "vae"
    build("wan").save_pretrained(folder)
    with pytest.raises(ConfigError, match=f"{tmp_path}#vae"):
        open_diffusers(str(tmp_path))  # the part has to be named
    config = json.loads((folder / "config.json").read_text())
    for kind, message in (
        ("UNet2DModel", "'UNet2DModel' is no autoencoder"),
        ("AutoencoderKLNever", "'AutoencoderKLNever' is no autoencoder"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, "_class_name": kind}))
        with pytest.raises(ConfigError, match=message):
            open_diffusers(str(folder))
    (folder / "config.json").write_text(json.dumps(config))

    [file] = folder.glob("*.safetensors")
    state = load_file(file)
    lacking = {key: value for key, value in state.items() if key != "quant_conv.weight"}
    save_file(lacking, file, {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 of the weights.*quant_conv.weight"):
        open_diffusers(str(folder))

    file.unlink()
    torch.save(state, folder / "diffusion_pytorch_model.bin")
    with pytest.raises(ConfigError, match="no weights in safetensors"):
        open_diffusers(str(folder))
