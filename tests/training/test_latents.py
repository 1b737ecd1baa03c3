"""Latents of ``clipmill encode`` in the loader: the very windows and captions that it hands out."""

from __future__ import annotations

import logging
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curation.errors import CatalogError, ConfigError, ErrorCode, MediaError
from tests.training.encoding import TEXTS, buckets_file, encoded, some_clips, tiny_vae
from tests.training.shards import write_dataset
from training.data.batch import Batch
from training.data.buckets import Bucket, BucketSettings
from training.data.captions import caption_number, choose_caption, texts_of
from training.data.latents import (
    SetBuckets,
    SetDescription,
    as_float16,
    error_in,
    error_metadata,
)
from training.data.loader import ClipLoader
from training.data.settings import DataSettings
from training.data.settings_file import read_settings
from training.models.text_encoders import open_text_encoder
from training.models.vae import open_vae

K = 6


class Made:
    """A dataset with a set of up to three windows a clip; one clip is damaged."""

    def __init__(self, folder: Path) -> None:
        (folder / "media").mkdir()
        self.root = str(folder / "data")
        write_dataset(Path(self.root), some_clips(folder / "media"), per_shard=3, damaged=("w3",))
        self.vae, self.buckets = tiny_vae(folder), buckets_file(folder)
        report = encoded(self.root, self.vae, self.buckets, windows=3)
        assert report.ok and report.account is not None
        assert report.account.failed == {"decode_failed": 1}
        self.fingerprint = report.fingerprint

    def settings(self, *overrides: str, pixels: bool = True, **read: Any) -> DataSettings:  # noqa: ANN401
        chosen = read_settings(self.buckets, [f"order.microbatches={K}", *overrides])
        return chosen.model_copy(
            update={
                "latents": self.fingerprint,
                "pixels": pixels,
                "read": chosen.read.model_copy(update={"num_workers": 0} | read),
            }
        )

    def batches(self, settings: DataSettings, count: int = 2 * K) -> list[Batch]:
        with ClipLoader(self.root, settings) as loader:
            return list(islice(loader, count))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("latents"))


def test_latents_are_those_of_the_window_that_is_shown(made: Made) -> None:
    vae = open_vae(made.vae)
    starts = set()
    for batch in made.batches(made.settings()):
        assert batch.video is not None
        posterior = vae.encode(batch.video.float() / 127.5 - 1)
        for name in ("mean", "logvar"):
            stored = batch.latents[name]
            assert stored.dtype == torch.float16 and stored.shape == posterior.mean.shape
            torch.testing.assert_close(
                stored.float(), getattr(posterior, name), rtol=1e-3, atol=1e-4
            )
        assert "start_s" not in batch.latents
        starts |= set(batch.start_s.tolist())
    assert len(starts) >= 3, "several windows"


def test_texts_are_the_states_of_the_caption_that_was_drawn(made: Made) -> None:
    encoder = open_text_encoder("minilm")
    kinds, lengths = set(), set()
    for batch in made.batches(made.settings(pixels=False)):
        assert batch.video is None
        text, mask = batch.latents["text"], batch.latents["text_mask"]
        assert text.dtype == torch.float16 and mask.dtype == torch.bool
        assert text.shape == (*mask.shape, encoder.spec.dim)
        for number, states in enumerate(encoder.encode(batch.captions)):
            assert mask[number].tolist() == [n < len(states) for n in range(mask.shape[1])]
            torch.testing.assert_close(
                text[number, : len(states)].float(), states, rtol=1e-3, atol=1e-4
            )
            assert not text[number, len(states) :].any()
        assert mask.any(0).all(), "no longer than the longest"
        kinds |= set(batch.caption_kinds)
        lengths.add(mask.shape[1])
    assert kinds == {"given", "long", ""} and len(lengths) > 1


def test_pixels_change_nothing_about_latents(made: Made) -> None:
    for one, other in zip(
        made.batches(made.settings()), made.batches(made.settings(pixels=False)), strict=True
    ):
        assert one.keys == other.keys and torch.equal(one.start_s, other.start_s)
        assert all(torch.equal(one.latents[n], other.latents[n]) for n in one.latents)
        assert one.latents.keys() == other.latents.keys()


@pytest.mark.parametrize("window", ["start", "middle"])
def test_a_window_may_be_named(made: Made, window: str) -> None:
    starts = {
        (frames, batch.bucket.frames, start)
        for batch in made.batches(made.settings(window=window))
        for frames, start in zip(
            [30 if batch.bucket.frames == 5 else 36] * 9, batch.start_s.tolist(), strict=False
        )
    }
    rooms = {(30, 5): 29 / 24 - 0.5, (36, 9): 35 / 24 - 1.0}
    share = 0.0 if window == "start" else 0.5
    assert starts == {(*shape, float(np.float32(room * share))) for shape, room in rooms.items()}


def test_a_clip_that_failed_is_replaced(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING),
        ClipLoader(made.root, made.settings(pixels=False)) as loader,
    ):
        batches = list(islice(loader, 2 * K))
        ((failed, reason),) = loader.failed.items()
    assert "decode_failed" in reason and failed[1] in caplog.text
    stand_ins = [b for b in batches if b.failed]
    assert stand_ins and all(b.failed == [failed[1]] for b in stand_ins)
    assert all((b.weights == 0).any() for b in stand_ins)


def test_the_empty_prompt(made: Made, tmp_path: Path) -> None:
    with ClipLoader(made.root, made.settings()) as loader:
        found = loader.empty_prompt
    assert found is not None
    torch.testing.assert_close(
        found.float(), open_text_encoder("minilm").encode([""])[0], rtol=1e-3, atol=1e-4
    )
    root = shutil.copytree(made.root, tmp_path / "copy")
    file = root / "latents" / made.fingerprint / "empty_prompt.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with (
        ClipLoader(str(root), made.settings()) as loader,
        pytest.raises(CatalogError, match=r"empty prompt are damaged[^`]*`clipmill encode OUT`"),
    ):
        _ = loader.empty_prompt
    file.unlink()
    with (
        ClipLoader(str(root), made.settings()) as loader,
        pytest.raises(CatalogError, match="no states of the empty prompt"),
    ):
        _ = loader.empty_prompt


class TestRefused:
    def test_other_buckets(self, made: Made) -> None:
        with pytest.raises(CatalogError, match=r"10 of 12 samples .* other buckets, such as "):
            ClipLoader(
                made.root, made.settings("buckets.shapes.0.fps=10", "buckets.shapes.1.fps=7")
            )

    def test_fewer_buckets_of_the_same_kind_are_none(self, made: Made) -> None:
        """The clips that stay go where they went."""
        shapes = "shapes=[{frames: 5, height_px: 32, width_px: 48, fps: 8, samples: 1}]"
        batches = made.batches(made.settings(shapes, "max_crop=0.2", "microbatch_tokens=12"))
        assert {b.bucket.frames for b in batches} == {5}
        other = made.settings(
            "shapes=[{frames: 5, height_px: 32, width_px: 32, fps: 8}]", "max_crop=0.4"
        )
        with pytest.raises(CatalogError, match="other buckets"):
            ClipLoader(made.root, other)

    def test_other_strides(self, made: Made) -> None:
        with pytest.raises(CatalogError, match=r"temporal 4 and spatial 8.*temporal 2 and spat"):
            ClipLoader(made.root, made.settings("temporal_stride=2", "microbatch_tokens=64"))

    @pytest.mark.parametrize(
        ("overrides", "key"),
        [
            (("read.crop=random",), "read.crop"),
            (("read.scaling=area",), "read.scaling"),
            (("read.flip=0.5",), "read.flip"),
        ],
    )
    def test_pictures_read_in_another_way(
        self, made: Made, overrides: tuple[str, ...], key: str
    ) -> None:
        with pytest.raises(ConfigError) as info:
            ClipLoader(made.root, made.settings(*overrides))
        assert info.value.where == key and info.value.mend

    def test_single_frames_of_clips(self, made: Made) -> None:
        one = "{frames: 1, height_px: 32, width_px: 48}"
        shapes = f"shapes=[{{frames: 5, height_px: 32, width_px: 48, fps: 8}}, {one}]"
        with pytest.raises(ConfigError, match="single frames") as info:
            ClipLoader(made.root, made.settings(shapes, "order.image_ratio=0.5"))
        assert info.value.where == "order.image_ratio"


BUCKET = Bucket(9, 64, 96, 8.0, 1, 1)


def described(**more: Any) -> SetDescription:  # noqa: ANN401
    return SetDescription(autoencoder=None, text_encoder=None, buckets=None, **more)


class TestWindows:
    def test_one(self) -> None:
        assert described(window="start").starts_s(48, 24.0, BUCKET) == [0.0]
        assert described().starts_s(49, 24.0, BUCKET) == [0.5]

    def test_several_are_spread_over_the_room(self) -> None:
        starts = described(windows=3).starts_s(49, 24.0, BUCKET)
        assert starts == [0.0, 0.5, 1.0]

    def test_never_more_than_the_room_has_frames(self) -> None:
        assert described(windows=5).starts_s(25, 24.0, BUCKET) == [0.0]
        assert len(described(windows=5).starts_s(27, 24.0, BUCKET)) == 3
        assert described(windows=5).starts_s(1, 24.0, Bucket(1, 8, 8, 8.0, 1, 1)) == [0.0]

    @pytest.mark.parametrize("fps", [24.0, 25.0, 29.97, 59.94])
    def test_float32_holds_them(self, fps: float) -> None:
        starts = described(windows=7).starts_s(300, fps, BUCKET)
        assert [float(np.float32(s)) for s in starts] == starts and len(starts) == 7
        assert max(starts) + BUCKET.span_s <= 299 / fps + 1e-5


def test_the_fingerprint_is_of_what_decides() -> None:
    shapes = [{"frames": 5, "height_px": 64, "width_px": 64, "fps": 8}]
    base = BucketSettings.model_validate({"shapes": shapes})
    finer = base.model_copy(update={"patch": (1, 1, 1), "microbatch_tokens": 99999})
    dearer = base.model_copy(update={"max_crop": 0.1})
    prints = [
        described().model_copy(update={"buckets": SetBuckets.of(b)}).fingerprint()
        for b in (base, finer, dearer)
    ]
    assert prints[0] == prints[1] != prints[2]
    assert len({described().fingerprint(), described(windows=2).fingerprint(), *prints}) == 4


def test_captions_are_numbered_as_they_are_drawn() -> None:
    record = {"captions": list(TEXTS), "caption": "one", "caption_kind": "given"}
    assert texts_of(record) == ["one", "two dogs run over a meadow"]
    for draw in (0.0, 0.3, 0.5, 0.99):
        text = choose_caption(record, draw)[1]
        assert texts_of(record)[caption_number(record, draw)] == text
    assert texts_of({}) == [""] and caption_number({}, 0.9) == 0


def test_what_float16_cannot_hold_is_refused() -> None:
    assert as_float16(torch.tensor([1.0, -60000.0]), "x").dtype == torch.float16
    for bad in (1e5, float("nan"), float("-inf")):
        with pytest.raises(MediaError, match="encode_failed"):
            as_float16(torch.tensor([0.0, bad]), "x")


def test_a_failure_is_told_by_its_member() -> None:
    from safetensors.torch import save

    said = error_metadata(MediaError(ErrorCode.NO_FRAMES, 'none "at" all ' + "é" * 500))
    data = save({}, metadata=said)
    assert len(data) < 2048 and save({}, metadata=said) == data
    error = error_in(data)
    assert error is not None and error.code == "no_frames" and error.message.startswith("none")
    assert error_in(save({"mean": torch.zeros(2)})) is None
    for damaged in (b"", data[:20], b"\xff" * 40):
        with pytest.raises(MediaError, match="damaged latents"):
            error_in(damaged)
