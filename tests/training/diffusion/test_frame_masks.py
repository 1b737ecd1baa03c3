"""Frames that are given: each mode's picture, its choices, and what a causal VAE makes of it."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import pytest
import torch
from torch import Tensor

from training.data.keys import GOLDEN, mix
from training.diffusion.frame_masks import (
    FEWEST,
    MODES,
    Mode,
    _split_mix,
    choose_mode,
    folded,
    known_frames,
    unknown_latents,
)
from training.models.vae_network import VaeConfig, VaeNetwork

SIZES = [(1, 1), (2, 1), (3, 1), (16, 1), (3, 2), (17, 2), (5, 4), (9, 4), (49, 4), (17, 8)]
"""Frames and temporal stride."""


def row(text: str) -> Tensor:
    """A mask as it is drawn: x given, . not; spaces do not count."""
    return torch.tensor([[c == "x" for c in text.replace(" ", "")]])


def drawn(mode: str, num_frames: int, stride: int, draw: float) -> str:
    known = known_frames(mode, num_frames, stride, draw)
    assert known.dtype == torch.bool and known.shape == (num_frames,)
    return "".join("x" if frame else "." for frame in known.tolist())


@pytest.mark.parametrize(
    ("mode", "draw", "picture"),
    [
        ("text", 0.5, "................."),
        ("first", 0.5, "x................"),
        ("last", 0.5, "................x"),
        ("first_last", 0.5, "x...............x"),
        ("interpolation", 0.0, "x.x.x.x.x.x.x.x.x"),
        ("interpolation", 0.3, "x...x...x...x...x"),
        ("interpolation", 0.5, "x.......x.......x"),
        ("interpolation", 0.99, "x...............x"),
        ("extension", 0.0, "xxxxx............"),
        ("extension", 0.4, "xxxxxxxxx........"),
        ("extension", 0.99, "xxxxxxxxxxxxx...."),
        ("keyframes", 0.0, "x..............x."),
        ("keyframes", 0.6, "x...x...x........"),
        ("keyframes", 0.99, "x..x.x......x...."),
    ],
)
def test_golden_pictures(mode: str, draw: float, picture: str) -> None:
    """A change here changes what every training that goes on is given."""
    assert drawn(mode, 17, 4, draw) == picture


def test_a_last_frame_beside_the_grid_is_not_given() -> None:
    assert drawn("interpolation", 7, 1, 0.99) == "x...x.."
    assert drawn("interpolation", 7, 1, 0.0) == "x.x.x.x"


@pytest.mark.parametrize(("num_frames", "stride"), SIZES)
@pytest.mark.parametrize("mode", MODES)
def test_something_is_given_and_something_left(mode: Mode, num_frames: int, stride: int) -> None:
    if num_frames < FEWEST[mode]:
        with pytest.raises(ValueError, match=f"{mode} needs at least {FEWEST[mode]} frames"):
            known_frames(mode, num_frames, stride, 0.5)
        return
    for i in range(100):
        known = known_frames(mode, num_frames, stride, i / 100)
        assert known.any() == (mode != "text")
        assert unknown_latents(known[None], stride).any()
        assert torch.equal(known, known_frames(mode, num_frames, stride, i / 100))


def test_all_modes_but_text_refuse_a_picture() -> None:
    assert {mode for mode in MODES if FEWEST[mode] == 1} == {"text"}


def test_keyframes_fill_their_range_evenly() -> None:
    draws = 12000
    known = torch.stack([known_frames("keyframes", 33, 4, i / draws) for i in range(draws)])
    assert known[:, 0].all()
    counts = Counter(known.sum(1).tolist())
    assert all(abs(counts[count] - draws / 7) <= 1 for count in range(2, 9))
    # 4 of 32 places on average: an eighth of the draws each, give or take its square root
    per_place = known[:, 1:].sum(0)
    assert per_place.sum() == known.sum() - draws
    assert ((per_place - draws / 8).abs() < 5 * math.sqrt(draws / 8)).all()


def test_keyframes_do_not_go_together() -> None:
    """Any pair of places is as likely as any other."""
    draws = 8000
    known = [known_frames("keyframes", 7, 1, i / draws) for i in range(draws)]
    pairs = Counter(tuple(k.nonzero()[1:, 0].tolist()) for k in known if k.sum() == 3)
    expected = sum(pairs.values()) / 15
    assert len(pairs) == 15
    assert all(abs(seen - expected) < 5 * math.sqrt(expected) for seen in pairs.values())


@pytest.mark.parametrize(("num_frames", "stride", "most"), [(3, 1, 2), (9, 4, 2), (16, 1, 15)])
def test_keyframes_are_never_all(num_frames: int, stride: int, most: int) -> None:
    counts = {int(known_frames("keyframes", num_frames, stride, i / 99).sum()) for i in range(99)}
    assert counts == set(range(2, most + 1))


def test_steps_and_prefixes_are_even() -> None:
    steps = Counter(drawn("interpolation", 17, 4, i / 400).count("x") for i in range(400))
    assert steps == {9: 100, 5: 100, 3: 100, 2: 100}
    prefixes = Counter(drawn("extension", 17, 4, i / 300).count("x") for i in range(300))
    assert prefixes == {5: 100, 9: 100, 13: 100}


def test_two_latent_frames_are_extended_from_the_first() -> None:
    assert {drawn("extension", 5, 4, i / 10) for i in range(10)} == {"x...."}


def test_the_largest_draw_is_taken() -> None:
    largest = math.nextafter(1.0, 0.0)
    for mode in MODES:
        assert unknown_latents(known_frames(mode, 49, 4, largest)[None], 4).any()
        assert choose_mode({mode: 0.1, "text": 0.2}, largest, 49) in (mode, "text")


def test_split_mix_gives_its_published_numbers() -> None:
    assert [*islice(_split_mix(1234567), 3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
    assert [*islice(_split_mix(5), 2)] == [mix(5 + GOLDEN), mix(5 + 2 * GOLDEN)]


@pytest.mark.parametrize(
    ("mode", "num_frames", "stride", "draw", "words"),
    [
        ("second", 9, 4, 0.5, "no mode 'second'; there are text, first"),
        ("first", 8, 4, 0.5, "8 frames are not k \\* 4 \\+ 1"),
        ("text", 0, 1, 0.5, "0 frames"),
        ("text", 9, 0, 0.5, "9 frames are not k \\* 0"),
        ("text", 9, 4, 1.0, "a draw lies in"),
        ("text", 9, 4, math.nan, "a draw lies in"),
    ],
)
def test_bad_calls_are_refused(
    mode: str, num_frames: int, stride: int, draw: float, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        known_frames(mode, num_frames, stride, draw)


def test_a_mixture_has_its_shares() -> None:
    mixture = {"extension": 2, "text": 5.0, "first": 1, "last": 0}
    seen = Counter(choose_mode(mixture, i / 800, 9) for i in range(800))
    assert seen == {"text": 500, "first": 100, "extension": 200}
    turned = dict(reversed(mixture.items()))
    assert all(choose_mode(mixture, i / 99, 9) == choose_mode(turned, i / 99, 9) for i in range(99))


def test_short_videos_leave_out_what_they_cannot() -> None:
    mixture = {"first": 1.0, "keyframes": 6.0, "last": 3.0}
    assert {choose_mode(mixture, i / 10, 1) for i in range(10)} == {"text"}
    two = Counter(choose_mode(mixture, i / 400, 2) for i in range(400))
    assert two == {"first": 100, "last": 300}
    assert choose_mode({"keyframes": 1}, 0.5, 2) == "text"


@pytest.mark.parametrize(
    ("mixture", "draw", "words"),
    [
        ({"text": 1, "firsts": 1}, 0.5, "no mode 'firsts'"),
        ({"text": 1, "first": -0.1}, 0.5, "the weight of first is -0.1"),
        ({"text": math.inf}, 0.5, "the weight of text is inf"),
        ({"text": math.nan}, 0.5, "the weight of text is nan"),
        ({"text": 0.0}, 0.5, "no mode of the mixture"),
        ({}, 0.5, "no mode of the mixture"),
        ({"text": 1}, 1.0, "a draw lies in"),
    ],
)
def test_bad_mixtures_are_refused(mixture: dict[str, float], draw: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        choose_mode(mixture, draw, 9)


def test_a_mask_is_folded_into_channels() -> None:
    mask = folded(row("x ..x. xx.."), 4)
    assert mask.dtype == torch.float32
    assert mask.tolist() == [[[1, 0, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0]]]
    assert torch.equal(folded(row("x.x"), 1), torch.tensor([[[1.0, 0.0, 1.0]]]))
    assert torch.equal(folded(row("x"), 4), torch.ones(1, 4, 1))


@pytest.mark.parametrize(("num_frames", "stride"), SIZES)
def test_folding_keeps_every_frame_in_its_place(num_frames: int, stride: int) -> None:
    generator = torch.Generator().manual_seed(0)
    known = torch.rand(5, num_frames, generator=generator) < 0.5
    mask = folded(known, stride)
    assert mask.shape == (5, stride, (num_frames - 1) // stride + 1)
    for frame in range(num_frames):
        latent, channel = (frame - 1) // stride + 1, (frame - 1) % stride
        channels = range(stride) if frame == 0 else [channel]
        for s in channels:
            assert torch.equal(mask[:, s, latent], known[:, frame].float())


@pytest.mark.parametrize(
    ("frames", "latents"),
    [
        ("x xxxx ....", [False, False, True]),
        ("x xxx. xxxx", [False, True, True]),  # what comes after a gap is a hint alone
        (". xxxx xxxx", [True, True, True]),
        ("x xxxx xxxx", [False, False, False]),
    ],
)
def test_unknown_latents(frames: str, latents: list[bool]) -> None:
    assert unknown_latents(row(frames), 4).tolist() == [latents]


def test_a_causal_autoencoder_agrees() -> None:
    """Latents that are called known are those of the whole video; the next one is not."""
    torch.manual_seed(0)
    config = VaeConfig(latent_channels=4, width=8, encoder_depth=1, decoder_depth=1, pixel_width=4)
    network = VaeNetwork(config).eval().requires_grad_(False)
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.2)  # nothing begins as zero: every layer has a say
    video = torch.rand(1, 3, 17, 32, 32) * 2 - 1
    latents, _ = network.encode(video)
    stride = 16 // (latents.shape[2] - 1)
    for i, mode in enumerate(MODES):
        known = known_frames(mode, 17, stride, 0.1 * i)[None]
        given, _ = network.encode(video * known[:, None, :, None, None])
        same = ((given - latents).abs() < 1e-5).all(dim=(1, 3, 4))
        assert torch.equal(~same, unknown_latents(known, stride)), mode


def test_frames_that_do_not_fit_are_refused() -> None:
    for function in (folded, unknown_latents):
        with pytest.raises(ValueError, match="8 frames are not"):
            function(torch.zeros(1, 8, dtype=torch.bool), 4)
