"""Videos from a small denoiser: what they depend on, what is given to it, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from curation.errors import ConfigError
from tests.media import Camera, psnr
from tests.training.encoding import tiny_vae
from tests.training.generating import (
    SHAPES,
    about_of,
    tiny_dit,
    tiny_generator,
    write_export,
    write_run,
)
from training.checkpoint import save_checkpoint
from training.data.batch import Batch
from training.data.buckets import Bucket
from training.denoiser import export_denoiser, open_denoiser
from training.diffusion.guidance import Guidance
from training.draws import SampleDraws
from training.generate import Generator, open_generator
from training.inputs import InputMaker
from training.models.vae import save_vae
from training.models.vae_network import VaeConfig, VaeNetwork
from training.request import Request
from training.settings import ConditioningSettings

SIZE: dict[str, Any] = {"frames": 9, "height_px": 32, "width_px": 48, "fps": 8.0}
Video = NDArray[np.uint8]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return tiny_generator(tmp_path_factory.mktemp("generator"))


def request_of(*prompts: str, **more: Any) -> Request:  # noqa: ANN401
    return Request(**{"prompts": prompts, "num_steps": 3, **SIZE, **more})


def made(generator: Generator, *prompts: str, **more: Any) -> list[Video]:  # noqa: ANN401
    return list(generator.generate(request_of(*prompts, **more)))


def scene(num_frames: int = 9) -> list[Video]:
    return Camera(pan_per_s=0.2, square_per_s=0.3).shoot(48, 32, np.arange(num_frames) / 8)


class Calls:
    """What the real network is asked and says."""

    def __init__(self, generator: Generator) -> None:
        self.asked: list[dict[str, Any]] = []
        self._hook = generator.denoiser.register_forward_hook(self._keep, with_kwargs=True)

    def _keep(self, _: object, args: tuple[Any, ...], kwargs: dict[str, Any], out: object) -> None:
        self.asked.append(kwargs | {"x": args[0], "sigma": args[1], "said": out})

    def __enter__(self) -> Calls:
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def test_a_video_of_the_shape(generator: Generator) -> None:
    (video,) = made(generator, "a dog runs")
    assert video.shape == (9, 32, 48, 3) and video.dtype == np.uint8 and video.std() > 1


def test_a_picture_is_a_video_of_one_frame(generator: Generator) -> None:
    (video,) = made(generator, "a dog", frames=1)
    assert video.shape == (1, 32, 48, 3)


def test_prompts_do_not_depend_on_one_another(generator: Generator) -> None:
    several = made(generator, "a dog runs", "waves", "a street at night with many lights")
    assert np.array_equal(several[0], made(generator, "a dog runs")[0])
    assert np.array_equal(several[1], made(generator, "a dog runs", "waves")[1])


def test_together_as_one_by_one(generator: Generator) -> None:
    prompts, guidance = ["a dog runs over a meadow", "waves", "night"], Guidance(scale=3)
    alone = made(generator, *prompts, guidance=guidance)
    together = made(generator, *prompts, guidance=guidance, batch_size=2)
    assert len(together) == 3
    for a, b in zip(alone, together, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_seed_number_and_text_each_change_it(generator: Generator) -> None:
    first, second = made(generator, "a dog runs", "a dog runs")
    assert np.array_equal(first, made(generator, "a dog runs")[0])
    others = [second, *made(generator, "a dog runs", seed=1), *made(generator, "waves")]
    for other in others:
        assert not np.array_equal(first, other)


def test_a_given_first_frame_comes_through_the_autoencoder(generator: Generator) -> None:
    picture = scene(1)[0]
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1
    autoencoder = generator.autoencoder
    limit = (autoencoder.decode(autoencoder.encode(tensor).mean) + 1) * 127.5
    expected = limit[0, :, 0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    for sampler in ("euler", "heun"):
        (video,) = made(generator, "a dog", given={0: picture}, sampler=sampler)
        assert np.abs(video[0].astype(int) - expected).max() <= 1
        assert psnr(made(generator, "a dog", sampler=sampler)[0][0], expected) < 40


def test_an_extension_keeps_all_that_is_given(generator: Generator) -> None:
    frames = scene()
    given = dict(enumerate(frames[:5]))
    (video,) = made(generator, "a dog", given=given)
    tensor = torch.from_numpy(np.stack(frames[:5])).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    limit = generator.autoencoder.decode(generator.autoencoder.encode(tensor).mean)
    expected = ((limit + 1) * 127.5).round().to(torch.uint8)[0].permute(1, 2, 3, 0).numpy()
    assert np.abs(video[:5].astype(int) - expected).max() <= 1
    assert not np.array_equal(video[5:], made(generator, "a dog")[0][5:])


def test_a_last_frame_is_a_hint(generator: Generator) -> None:
    """It changes what is made; its latent frame is not decided by it."""
    (plain,), (hinted,) = made(generator, "a"), made(generator, "a", given={8: scene()[8]})
    assert not np.array_equal(plain, hinted)


@pytest.mark.parametrize("places", [(), (0,), (8,), (0, 8), (0, 1, 2, 3, 4), (0, 3, 6)])
def test_the_network_is_told_what_it_was_told_in_training(
    places: tuple[int, ...], generator: Generator
) -> None:
    frames = np.stack(scene())
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None]
    batch = Batch(
        video=pixels,
        weights=torch.ones(1),
        captions=["a dog runs"],
        caption_kinds=["given"],
        keys=["a"],
        records=[{}],
        start_s=torch.zeros(1),
        flipped=torch.zeros(1, dtype=torch.bool),
        latents={},
        bucket=Bucket(9, 32, 48, 8.0, 1, 18),
        step=0,
        microbatch=0,
        source=0,
        epoch=0,
        last=True,
    )
    maker = InputMaker(
        generator.autoencoder.spec,
        generator.denoiser.config,
        generator.about.flow_config(),
        ConditioningSettings(text_dropout=0.0),
        0,
        torch.device("cpu"),
        autoencoder=generator.autoencoder,
        text_encoder=generator.text_encoder,
    )
    known = torch.zeros(1, 9, dtype=torch.bool)
    known[0, list(places)] = True
    trained = maker.inputs(maker.given_known(batch, SampleDraws(0, 0, ["a"]), known))
    with Calls(generator) as calls:
        made(generator, "a dog runs", given={n: frames[n] for n in places}, num_steps=1)
    (told,) = calls.asked
    names = ("given_BCthw", "mask_BSthw", "text_BLD", "text_mask_BL", "fps_B", "times_Bt")
    for name in names:
        assert torch.equal(told[name], getattr(trained, name)), name
    assert told["x"].shape == trained.x0_BCthw.shape


def test_how_often_the_network_is_asked(generator: Generator) -> None:
    def asked(**more: Any) -> list[int]:  # noqa: ANN401
        with Calls(generator) as calls:
            made(generator, "a dog", num_steps=4, shift=1.0, **more)
        return [len(one["x"]) for one in calls.asked]

    assert asked() == [1] * 4
    assert asked(sampler="heun") == [1] * 7
    assert asked(guidance=Guidance(scale=4)) == [2] * 4
    # sigmas 1, 0.75, 0.5, 0.25
    assert asked(guidance=Guidance(scale=4, low=0.3, high=0.8)) == [1, 2, 2, 1]


def test_guidance_leads_away_from_the_empty_prompt(generator: Generator) -> None:
    plain, without = made(generator, "a dog"), made(generator, "")
    none = made(generator, "a dog", guidance=Guidance(scale=0))
    assert np.abs(none[0].astype(int) - without[0]).max() <= 1
    strong = made(generator, "a dog", guidance=Guidance(scale=6))
    ahead, behind = (float((a[0].astype(int) - plain[0]).std()) for a in (strong, without))
    assert ahead > behind > 0
    calm = made(generator, "a dog", guidance=Guidance(scale=6, rescale=1.0))
    assert not np.array_equal(calm[0], strong[0])


def test_one_step_is_noise_less_the_guided_velocity(generator: Generator) -> None:
    with Calls(generator) as calls:
        (video,) = made(generator, "a dog", num_steps=1, guidance=Guidance(scale=3))
    (told,) = calls.asked
    text, empty = told["said"].float()
    latents = (told["x"][0] - (empty + 3 * (text - empty)))[None]
    frames = ((generator.autoencoder.decode(latents) + 1) * 127.5).round()
    expected = frames[0].permute(1, 2, 3, 0).numpy()
    assert np.abs(video.astype(int) - expected).max() <= 1
    assert told["sigma"].tolist() == [1, 1]
    assert torch.equal(told["x"][0], told["x"][1]) and abs(float(told["x"].std()) - 1) < 0.2


def test_the_spread_is_taken_where_something_is_made(generator: Generator) -> None:
    picture, guidance = scene(1)[0], Guidance(scale=6, rescale=1.0)
    with Calls(generator) as calls:
        (video,) = made(generator, "a dog", num_steps=1, guidance=guidance, given={0: picture})
    (told,) = calls.asked
    text, empty = told["said"].float()
    velocity = empty + 6 * (text - empty)
    # The first latent frame is decided by the picture and does not count.
    velocity *= text[:, 1:].std(correction=0) / velocity[:, 1:].std(correction=0)
    latents = (told["x"][0] - velocity)[None]
    latents[:, :, 0] = told["given_BCthw"][:1, :, 0]
    frames = ((generator.autoencoder.decode(latents) + 1) * 127.5).round()
    expected = frames[0].permute(1, 2, 3, 0).numpy()
    assert np.abs(video.astype(int) - expected).max() <= 1


def test_steps_are_shifted_as_in_training(generator: Generator) -> None:
    with Calls(generator) as calls:
        made(generator, "a", num_steps=2)
    alpha = 3**0.5  # three latent frames of few tokens
    middle = alpha * 0.5 / (1 + (alpha - 1) * 0.5)
    found = [float(one["sigma"][0]) for one in calls.asked]
    assert found == pytest.approx([1, middle])
    assert generator.shift(request_of("a")) == pytest.approx(alpha)
    assert generator.shift(request_of("a", shift=5.0)) == 5


def test_progress_is_told(generator: Generator) -> None:
    told: list[tuple[int, int]] = []
    asked = request_of("a", "b", "c", batch_size=2)
    list(generator.generate(asked, lambda done, total: told.append((done, total))))
    assert told == [(n, 6) for n in range(1, 7)]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"frames": 8}, "5 and 9"),
        ({"height_px": 30}, "24 and 32"),
        ({"width_px": 40}, "32 and 48"),
        ({"fps": 0.0}, "frames per second"),
        ({"prompts": []}, "no prompt"),
        ({"num_steps": 0}, "from 1"),
        ({"batch_size": 0}, "from 1"),
        ({"shift": 0.0}, "above 0"),
        ({"given": {9: np.zeros((32, 48, 3), np.uint8)}}, "no frame 9"),
        ({"given": {0: np.zeros((48, 32, 3), np.uint8)}}, "frame 0 is"),
        ({"given": {0: np.zeros((32, 48, 3), np.float32)}}, "float32"),
        ({"frames": 1, "given": {0: np.zeros((32, 48, 3), np.uint8)}}, "nothing to make"),
    ],
)
def test_what_cannot_be_made_is_said_at_once(
    more: dict[str, Any], told: str, generator: Generator
) -> None:
    with pytest.raises(ConfigError, match=told):
        generator.generate(request_of("a", **more))


def test_a_shape_is_completed_from_those_of_training(generator: Generator) -> None:
    assert generator.shape() == SHAPES[0]
    assert generator.shape(frames=1) == SHAPES[2]
    assert generator.shape(fps=4) == SHAPES[1]
    assert generator.shape(width_px=64).frames == 9  # not the picture of that width
    assert generator.shape(frames=13, width_px=64).model_dump() == {
        **{"frames": 13, "height_px": 32, "width_px": 64, "fps": 8.0}
    }
    with pytest.raises(ConfigError, match="5 and 9"):
        generator.shape(frames=7)


def test_opened_from_an_export_as_from_a_run(generator: Generator, tmp_path: Path) -> None:
    vae = tiny_vae(tmp_path)
    (expected,) = made(generator, "a dog")
    for folder in (write_export(tmp_path / "export", vae), write_run(tmp_path / "run", vae)):
        opened = open_generator(folder, device="cpu", autocast="off")
        assert np.array_equal(made(opened, "a dog")[0], expected)
        assert opened.weights_sha256 == generator.weights_sha256
    assert opened.about.steps == 7
    last = open_generator(tmp_path / "run", device="cpu", autocast="off", weights="model")
    assert last.weights_sha256 != generator.weights_sha256
    assert not np.array_equal(made(last, "a dog")[0], expected)


def test_other_encoders_are_refused(tmp_path: Path) -> None:
    vae = tiny_vae(tmp_path)
    export = write_export(tmp_path / "export", vae)
    torch.manual_seed(5)
    config = VaeConfig(latent_channels=4, width=16, encoder_depth=1, decoder_depth=1, pixel_width=8)
    save_vae(tmp_path / "other.safetensors", VaeNetwork(config), (0.1,), (2.0,), {})
    with pytest.raises(ConfigError, match="another autoencoder"):
        open_generator(export, device="cpu", vae=str(tmp_path / "other.safetensors"))
    moved = Path(vae).rename(tmp_path / "moved.safetensors")
    with pytest.raises(ConfigError, match="no autoencoder"):
        open_generator(export, device="cpu")
    assert open_generator(export, device="cpu", vae=str(moved)).about.vae == str(moved)
    config_file = export / "config.json"
    text = config_file.read_text()
    known = open_generator(export, device="cpu", vae=str(moved)).about.text_fingerprint
    config_file.write_text(text.replace(known, "0" * 16))
    with pytest.raises(ConfigError, match="another text encoder"):
        open_generator(export, device="cpu", vae=str(moved))


def test_a_network_in_training_is_left_as_it_is(generator: Generator) -> None:
    network = tiny_dit().train().requires_grad_(True)
    own = Generator(
        network, generator.about, generator.autoencoder, generator.text_encoder, autocast="off"
    )
    made(own, "a dog")
    assert network.training and all(p.grad is None for p in network.parameters())
    assert own.weights_sha256 == generator.weights_sha256


def test_given_frames_mean_nothing_to_one_that_was_trained_on_texts(tmp_path: Path) -> None:
    texts_alone = tiny_generator(tmp_path)
    texts_alone.about = texts_alone.about.model_copy(update={"modes": ("text",)})
    with pytest.raises(ConfigError, match="trained on texts alone"):
        texts_alone.generate(request_of("a", given={0: scene()[0]}))
    texts_alone.generate(request_of("a"))


def test_an_export_has_one_kind_of_weights(tmp_path: Path) -> None:
    run = tmp_path / "run"
    average, last = tiny_dit(0), tiny_dit(1)
    groups = {"ema": dict(average.named_parameters()), "model": dict(last.named_parameters())}
    about = about_of(tiny_vae(tmp_path)).model_dump(mode="json")
    save_checkpoint(run, 3, groups, {"denoiser": about})
    export_denoiser(run, tmp_path / "model", weights="model")
    network, told = open_denoiser(tmp_path / "model")
    assert told.weights == "model" and told.steps == 3
    assert torch.equal(network.enter.weight, last.enter.weight)
    with pytest.raises(ConfigError, match="model alone, not ema"):
        open_denoiser(tmp_path / "model", weights="ema")
    assert open_denoiser(run)[1].weights == "ema"
