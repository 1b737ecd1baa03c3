"""Captions, flips, windows, crops, and what of a shard is read."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save

from curation.errors import CatalogError, MediaError
from curation.schema import SIBLING_INDEX
from curation.storage import Storage
from tests.media import Recording
from tests.training.shards import Clip, number_of, numbered, write_dataset
from training.data.buckets import Bucket
from training.data.captions import choose_caption, may_flip
from training.data.geometry import Draws, target_times_s, view_of, window_start_s
from training.data.index import ShardIndex, load_index
from training.data.sample import OPEN_FILES, Part, Parts, Place, SampleReader
from training.data.settings import ReadSettings
from training.data.siblings import Siblings
from training.data.tasks import Task

BUCKET = Bucket(5, 32, 32, 8.0, 2, 2)
GOLDEN = [
    0.5392293981410612,
    0.9806864454745285,
    0.010256609420160379,
    0.5077542441165639,
    0.1854254110921706,
]
SEEN = {"overlay_text_fraction": 0.0, "unclear_text_fraction": 0.0}


class TestCaptions:
    RECORD = {  # noqa: RUF012
        "captions": [
            {"kind": "given", "text": "a", "weight": 1.0},
            {"kind": "speech", "text": "b", "weight": 0.0},
            {"kind": "long", "text": "c", "weight": 3.0},
        ],
        "caption": "a",
        "caption_kind": "given",
    }

    @pytest.mark.parametrize(
        ("draw", "kind"), [(0.0, "given"), (0.249, "given"), (0.25, "long"), (0.999, "long")]
    )
    def test_drawn_by_weight(self, draw: float, kind: str) -> None:
        assert choose_caption(self.RECORD, draw)[0] == kind

    def test_without_weights_the_default(self) -> None:
        silent = self.RECORD | {"captions": [{"kind": "speech", "text": "b", "weight": 0.0}]}
        assert choose_caption(silent, 0.9) == ("given", "a")
        assert choose_caption({}, 0.5) == ("", "")

    def test_only_numbers_below_one(self) -> None:
        with pytest.raises(ValueError, match=r"\[0, 1\)"):
            choose_caption(self.RECORD, 1.0)

    def test_shares_over_many_samples(self) -> None:
        kinds = Counter(
            choose_caption(self.RECORD, Draws(0, 0, key).of("caption"))[0] for key in range(4000)
        )
        assert kinds["long"] / 4000 == pytest.approx(0.75, abs=0.03)


class TestFlip:
    @pytest.mark.parametrize(
        ("text", "may"),
        [
            ("a dog runs", True),
            ("a dog runs to the left", False),
            ("Right-hand side: a tree", False),
            ("the LEFTMOST one", False),
            ("turns rightwards", False),
            ("bottom-left corner", False),
            ("bright light, an upright post", True),
        ],
    )
    def test_words(self, text: str, may: bool) -> None:
        assert may_flip({"captions": [{"text": text, "weight": 0.0}], "scores": SEEN}) is may
        assert may_flip({"caption": text, "scores": SEEN}) is may

    @pytest.mark.parametrize(
        ("scores", "may"),
        [
            (SEEN, True),
            (SEEN | {"overlay_text_fraction": 0.01}, False),
            (SEEN | {"unclear_text_fraction": 0.01}, False),
            (SEEN | {"overlay_text_fraction": None}, False),
            ({}, False),
        ],
    )
    def test_overlay_text(self, scores: dict[str, Any], may: bool) -> None:
        assert may_flip({"caption": "a dog", "scores": scores}) is may


class TestGeometry:
    def test_golden_draws(self) -> None:
        """A change of these breaks running trainings."""
        draws = Draws(7, 3, 0x0123456789ABCDEF)
        got = [draws.of(p) for p in ("window", "crop-y", "crop-x", "flip", "caption")]
        assert got == pytest.approx(GOLDEN, abs=1e-12)

    def test_windows_end_with_the_clip_at_the_latest(self) -> None:
        starts = [
            window_start_s("random", Draws(0, 0, key), frames=49, fps=24.0, bucket=BUCKET)
            for key in range(2000)
        ]
        assert min(starts) >= 0
        assert max(starts) + BUCKET.span_s <= 48 / 24
        assert np.histogram(starts, 5, (0, 1.5))[0] == pytest.approx([400] * 5, rel=0.2)

    def test_start_middle_and_short_clips(self) -> None:
        def at(kind: Any, frames: int) -> float:  # noqa: ANN401
            return window_start_s(kind, Draws(0, 0, 1), frames=frames, fps=24.0, bucket=BUCKET)

        assert (at("start", 49), at("middle", 49)) == (0.0, 0.75)
        assert at("random", 13) == 0.0  # exactly the span
        assert target_times_s(0.5, BUCKET) == [0.5, 0.625, 0.75, 0.875, 1.0]

    def test_a_picture_may_be_any_moment(self) -> None:
        picture = Bucket(1, 32, 32, 8.0, 2, 2)
        starts = [
            window_start_s("random", Draws(0, 0, key), frames=49, fps=24.0, bucket=picture)
            for key in range(500)
        ]
        assert min(starts) < 0.05 and 1.95 < max(starts) <= 2.0

    def test_crops(self) -> None:
        centre = view_of(BUCKET, Draws(0, 0, 1), crop="center", scaling="area", mirror=False)
        assert centre.corner(32, 64) == (0, 16)
        lefts = Counter(
            view_of(BUCKET, Draws(0, 0, key), crop="random", scaling="area", mirror=False).corner(
                32, 35
            )[1]
            for key in range(2000)
        )
        assert set(lefts) == {0, 1, 2, 3}
        assert min(lefts.values()) > 400


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return numbered(tmp_path_factory.mktemp("media"), 36, Recording(fps=24), (48, 32))


def clip(name: str, media: bytes, **more: Any) -> Clip:  # noqa: ANN401
    return Clip(name, media, 36, 32, 48, 24.0, **more)


def place_of(index: ShardIndex, position: int) -> Place:
    shard = index.words["shard"][index["shard"][position]]
    mp4, texts = (
        Part(shard, int(index[f"{kind}_offset"][position]), int(index[f"{kind}_bytes"][position]))
        for kind in ("mp4", "json")
    )
    frames, fps = int(index["frames"][position]), float(index["fps"][position])
    return Place(position, int(index["key_hash"][position]), frames, fps, mp4, texts)


def read_one(root: str, place: Place, settings: ReadSettings) -> tuple[Any, np.ndarray]:
    out = np.zeros((5, 32, 32, 3), np.uint8)
    return SampleReader(settings, 0).read(root, place, BUCKET, 0, out), out


class TestReading:
    def test_a_sample(self, tmp_path: Path, media: bytes) -> None:
        said = ({"kind": "given", "text": "grey", "weight": 1.0},)
        write_dataset(tmp_path, [clip(f"c{n}", media, captions=said) for n in range(6)])
        index = load_index(str(tmp_path))
        for position in range(6):
            got, out = read_one(
                str(tmp_path), place_of(index, position), ReadSettings(window="start")
            )
            assert got.record["clip_id"] == index.clip_ids([position])[0]
            assert (got.caption, got.caption_kind, got.start_s) == ("grey", "given", 0.0)
            assert [number_of(picture) for picture in out] == [0, 3, 6, 9, 12]

    def test_flips_are_drawn_and_refused(self, tmp_path: Path, media: bytes) -> None:
        left = ({"kind": "given", "text": "to the left", "weight": 1.0},)
        clips = [clip(f"a{n}", media) for n in range(20)]
        clips += [clip(f"b{n}", media, captions=left) for n in range(20)]
        clips += [clip(f"c{n}", media, scores={}) for n in range(20)]
        write_dataset(tmp_path, clips)
        index = load_index(str(tmp_path))
        names = {c.clip_id: c.name for c in clips}

        def flipped(share: float) -> list[str]:
            found = []
            for position in range(len(index)):
                reader = SampleReader(ReadSettings(flip=share), 0, pixels=False)
                got = reader.read(str(tmp_path), place_of(index, position), BUCKET, 0, None)
                if got.flipped:
                    found.append(names[got.record["clip_id"]])
            return found

        assert flipped(0.0) == []
        assert sorted(flipped(1.0)) == sorted(c.name for c in clips if c.name[0] == "a")
        assert 3 < len(flipped(0.5)) < 17

    def test_an_index_of_other_shards_is_noticed(self, tmp_path: Path, media: bytes) -> None:
        write_dataset(tmp_path, [clip(f"c{n}", media) for n in range(2)])
        index = load_index(str(tmp_path))
        one, other = place_of(index, 0), place_of(index, 1)
        wrong = Place(0, one.key_hash, 36, 24.0, one.mp4, other.json)
        with pytest.raises(CatalogError, match="other shards"):
            read_one(str(tmp_path), wrong, ReadSettings())

    def test_damage(self, tmp_path: Path, media: bytes) -> None:
        places = write_dataset(tmp_path, [clip("c", media)])
        index = load_index(str(tmp_path))
        place = place_of(index, 0)
        broken = Part(place.json.file, place.json.offset + 1, place.json.num_bytes)
        with pytest.raises(MediaError, match="json"):
            read_one(
                str(tmp_path),
                Place(0, place.key_hash, 36, 24.0, place.mp4, broken),
                ReadSettings(),
            )
        path, offset, _ = next(iter(places.values()))
        path.write_bytes(path.read_bytes()[: offset + 100])
        beyond = Part(place.mp4.file, offset, 1000)
        with pytest.raises(MediaError, match="ends inside"):
            Parts(str(tmp_path)).read(beyond)
        path.unlink()
        with pytest.raises(CatalogError, match="missing"):
            Parts(str(tmp_path)).read(beyond)

    def test_few_files_stay_open(self, tmp_path: Path) -> None:
        for n in range(OPEN_FILES + 5):
            (tmp_path / f"{n}").write_bytes(b"abc")
        parts = Parts(str(tmp_path))
        for _ in range(2):
            for n in range(OPEN_FILES + 5):
                assert parts.read(Part(f"{n}", 1, 2)) == b"bc"
        assert len(parts._files) == OPEN_FILES
        parts.close()


FINGERPRINT = "0123456789abcdef"


def write_siblings(root: Path, index: ShardIndex, reads: list[str], skip: int = 0) -> Path:
    """One set: all members in one tar, each with a tensor that tells its position."""
    folder = root / "latents" / FINGERPRINT
    folder.mkdir(parents=True)
    name, rows, data = f"latents/{FINGERPRINT}/all.tar", [], b""
    for position, key in enumerate(index.clip_ids(range(len(index)))):
        member = save({"moments": torch.full((2, 3), float(position))})
        rows.append(
            {
                "clip_id": key,
                "key_hash": int(index["key_hash"][position]),
                "mp4_hash": int(index["mp4_hash"][position]),
                "text_hash": 0,
                "sibling": name,
                "data_offset": len(data),
                "data_bytes": len(member),
            }
        )
        data += member
    (root / name).write_bytes(data)
    (folder / "set.json").write_text(json.dumps({"reads": reads, "description": {}}))
    pq.write_table(
        pa.Table.from_pylist(rows[::-1][skip:], schema=SIBLING_INDEX), folder / "index.parquet"
    )
    return folder


class TestSiblings:
    @pytest.fixture
    def index(self, tmp_path: Path, media: bytes) -> ShardIndex:
        write_dataset(tmp_path, [clip(f"c{n}", media) for n in range(6)])
        return load_index(str(tmp_path))

    def test_read(self, tmp_path: Path, index: ShardIndex) -> None:
        write_siblings(tmp_path, index, ["mp4"])
        part = index.take(np.array([4, 1]))
        siblings = Siblings(part, FINGERPRINT)
        assert siblings.reads == ("mp4",)
        assert [siblings.read(n)["moments"][0, 0].item() for n in range(2)] == [4, 1]

    def test_refused(self, tmp_path: Path, index: ShardIndex) -> None:
        with pytest.raises(CatalogError, match="no such set") as info:
            Siblings(index, FINGERPRINT)
        assert (
            info.value.mend == f"run the program that wrote {tmp_path}/latents/{FINGERPRINT} again"
        )
        folder = write_siblings(tmp_path, index, ["mp4", "text"], skip=0)
        with pytest.raises(CatalogError, match="6 of 6 latents are stale: made of another text"):
            Siblings(index, FINGERPRINT)
        (folder / "set.json").write_text(json.dumps({"reads": ["sound"], "description": {}}))
        with pytest.raises(CatalogError, match="no reads of mp4 or text"):
            Siblings(index, FINGERPRINT)
        (folder / "index.parquet").unlink()
        (folder / "set.json").write_text(json.dumps({"reads": ["mp4"], "description": {}}))
        with pytest.raises(CatalogError, match="not finished"):
            Siblings(index, FINGERPRINT)

    def test_samples_without_latents(self, tmp_path: Path, index: ShardIndex) -> None:
        write_siblings(tmp_path, index, ["mp4"], skip=2)
        with pytest.raises(CatalogError, match="2 of 6 samples have no latents"):
            Siblings(index, FINGERPRINT)
        assert len(Siblings(index.take(np.arange(4)), FINGERPRINT)._files) == 4


def test_a_store_that_fails_is_asked_again(
    media: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.data import sample

    class Refused(Exception):
        """As a store's own library raises it."""

    remote = Storage("memory://test_sample_failing")
    remote.write_bytes("a", b"0123456789")
    parts, asked = Parts(remote.url), []

    def fails(path: str, start: int, end: int) -> bytes:
        asked.append((start, end))
        if len(asked) < failures:
            raise Refused("busy")
        return b"0123456789"[start:end]

    monkeypatch.setattr(parts._storage.fs, "cat_file", fails)
    monkeypatch.setattr(sample, "PAUSE_S", 0.0)
    failures = 3
    assert parts.read(Part("a", 2, 3)) == b"234"
    failures = 99
    with pytest.raises(MediaError, match=r"network_error.*busy"):
        parts.read(Part("a", 2, 3))
    assert asked == [(2, 5)] * 6


def test_remote_roots(media: bytes, tmp_path: Path) -> None:
    write_dataset(tmp_path, [clip("c", media)])
    remote = Storage("memory://test_sample_remote")
    remote.fs.put(str(tmp_path), remote.root, recursive=True)
    index = load_index(remote.url)
    got, out = read_one(remote.url, place_of(index, 0), ReadSettings(window="start"))
    assert got.record["clip_id"] == index.clip_ids([0])[0]
    assert number_of(out[1]) == 3


def test_the_size_of_a_batch_counts_what_is_read() -> None:
    """Pixels only where they are decoded, latents of each slot as they are stored."""
    places = tuple(
        Place(n, n, 36, 24.0, Part("a", 0, 9), Part("a", 9, 9), Part("b", 0, 100 + n))
        for n in range(2)
    )
    shape = Bucket(5, 32, 48, 8.0, 3, 12)
    task = Task("root", shape, 0, places, (0, 1, 0))
    assert task.num_bytes == 3 * 5 * 32 * 48 * 3 + 301
    assert replace(task, pixels=False).num_bytes == 301
    plain = tuple(replace(place, latents=None) for place in places)
    assert replace(task, places=plain).num_bytes == 3 * 5 * 32 * 48 * 3
    assert replace(task, places=plain, pixels=False).num_bytes == 0
