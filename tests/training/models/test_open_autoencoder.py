"""One name, one autoencoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from curation.errors import ConfigError
from curation.models.registry import MODELS_DIR_VARIABLE
from tests.training.models.test_diffusers_autoencoders import build
from tests.training.models.test_frame_autoencoders import build_kl
from training.models.autoencoder_diffusers import DiffusersAutoencoder
from training.models.autoencoder_frames import FrameAutoencoder
from training.models.open_autoencoder import OWN_FILE, open_autoencoder


def test_the_class_decides_which_wrapper(tmp_path: Path) -> None:
    build("wan").save_pretrained(tmp_path / "wan" / "vae")
    build_kl().save_pretrained(tmp_path / "kl")
    films = open_autoencoder(f"{tmp_path}/wan#vae", dtype="bf16")
    assert isinstance(films, DiffusersAutoencoder)
    assert films.spec.temporal_stride == 4
    pictures = open_autoencoder(str(tmp_path / "kl"), tiling=True)
    assert isinstance(pictures, FrameAutoencoder)
    assert pictures.spec.temporal_stride == 1


def test_taef2_by_name(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (assets / "weights" / "taef2_encoder.pth").is_file():
        pytest.skip("the weights of TAEF2 are not here")
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(assets / "weights"))
    assert open_autoencoder("taef2").spec.latent_channels == 32
    with pytest.raises(ConfigError, match="takes no tiles"):
        open_autoencoder("taef2", tiling=True)


def test_own_training_by_file_and_by_folder(tmp_path: Path) -> None:
    from training.models.vae import save_vae
    from training.models.vae_network import VaeConfig, VaeNetwork

    torch.manual_seed(1)
    network = VaeNetwork(VaeConfig())
    channels = network.config.latent_channels
    save_vae(tmp_path / OWN_FILE, network, (0.5,) * channels, (2.0,) * channels, {})
    by_file, by_folder = open_autoencoder(str(tmp_path / OWN_FILE)), open_autoencoder(str(tmp_path))
    assert by_file.spec == by_folder.spec
    assert by_file.spec.scale == (2.0,) * channels


@pytest.mark.parametrize(
    "name", ["", "nothing", "./no/such/folder", "some/where.safetensors", "/no/such/vae"]
)
def test_other_names_are_told_what_is_possible(name: str) -> None:
    with pytest.raises(ConfigError, match="one of: clipmill-small; taef2; a"):
        open_autoencoder(name)


def test_other_files_and_folders_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="holds no VAE of clipmill"):
        open_autoencoder(str(tmp_path / "other.safetensors"))
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    save_file({"a": torch.zeros(1)}, tmp_path / "bert" / "model.safetensors")
    with pytest.raises(ConfigError, match="names no class of diffusers"):
        open_autoencoder(str(tmp_path / "bert"))
    with pytest.raises(ConfigError, match="no model is here"):
        open_autoencoder(str(tmp_path))
