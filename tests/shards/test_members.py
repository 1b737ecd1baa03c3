"""The optional member with the sound, and buckets of bands of lengths."""

from __future__ import annotations

import io
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from curation.errors import CatalogError
from curation.shards.audio import copy_sound
from curation.shards.index import read_index
from curation.shards.samples import kept_samples
from curation.shards.settings import ShardSettings
from curation.shards.verify import verify_shards
from curation.shards.writer import order_key, write_shards
from curation.storage import Storage
from tests.faults.helpers import catalog_of, make_video, run
from tests.shards.caption_stages import without_captioning


def with_sound(path: Path, seconds: float, tone_hz: float) -> Path:
    """A small video of two shots with a tone."""
    silent = make_video(path.with_suffix(".silent.mp4"), [(seconds / 2, 3), (seconds / 2, 4)])
    rate = 48_000
    with av.open(str(silent)) as inp, av.open(str(path), "w") as out:
        video = out.add_stream_from_template(inp.streams.video[0])
        audio = out.add_stream("aac", rate=rate)
        audio.codec_context.layout = "mono"
        for packet in inp.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
        wave = np.sin(2 * np.pi * tone_hz * np.arange(int(seconds * rate)) / rate) * 0.5
        for at in range(0, wave.size, 1024):
            part = wave[None, at : at + 1024].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    silent.unlink()
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video with sound and one without, cut with their sound, and sharded with it."""
    folder = tmp_path_factory.mktemp("members")
    (folder / "in").mkdir()
    inputs = [
        with_sound(folder / "in" / "loud.mp4", 3.0, 440.0),
        make_video(folder / "in" / "mute.mp4", [(1.7, 5)]),
    ]
    report = run(
        *(inputs, folder / "out"),
        **without_captioning(),
        cut={"preset": "ultrafast", "audio": "keep"},
        shard={"audio": "m4a"},
    )
    assert report.balanced and report.shards is not None and report.shards.num_samples >= 4
    return folder / "out"


def rows_of(root: Path) -> list[dict[str, Any]]:
    table = read_index(Storage(root))
    assert table is not None
    return table.to_pylist()


def member(root: Path, row: dict[str, Any], suffix: str) -> bytes:
    data = (root / row["shard"]).read_bytes()
    return data[row[f"{suffix}_offset"] :][: row[f"{suffix}_bytes"]]


def packets(data: bytes) -> list[tuple[Fraction, bytes]]:
    with av.open(io.BytesIO(data), "r") as container:
        found = [p for p in container.demux(audio=0) if p.dts is not None and p.pts is not None]
        return [((p.pts or 0) * (p.time_base or Fraction(0)), bytes(p)) for p in found]


def test_the_sound_is_copied_packet_by_packet(finished: Path) -> None:
    loud = [r for r in rows_of(finished) if r["m4a_offset"] is not None]
    mute = [r for r in rows_of(finished) if r["m4a_offset"] is None]
    assert len(loud) >= 2 and mute
    assert all(r["m4a_bytes"] is None for r in mute)
    for row in loud:
        mp4, m4a = (member(finished, row, s) for s in ("mp4", "m4a"))
        assert packets(m4a) == packets(mp4) and packets(m4a)
        assert copy_sound(mp4) == m4a == copy_sound(mp4)
        with av.open(io.BytesIO(m4a), "r") as container:
            assert not container.streams.video and len(container.streams.audio) == 1
            sound = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)
        assert np.abs(sound).max() > 0.2
        assert sound.shape[1] / 48_000 == pytest.approx(row["duration_s"], abs=0.1)


def test_it_stands_after_the_mp4(finished: Path) -> None:
    sound = {r["clip_id"]: r["m4a_offset"] is not None for r in rows_of(finished)}
    names = []
    for path in sorted((finished / "shards").rglob("*.tar")):
        with tarfile.open(path, "r:") as tar:
            names += tar.getnames()
    expected = []
    for row in rows_of(finished):
        more = ["m4a"] if sound[row["clip_id"]] else []
        expected += [f"{row['clip_id']}.{s}" for s in ("mp4", *more, "json", "txt")]
    assert sorted(names) == sorted(expected)
    loud = next(r for r in rows_of(finished) if r["m4a_offset"] is not None)
    assert loud["mp4_offset"] < loud["m4a_offset"] < loud["json_offset"] < loud["txt_offset"]


def test_verify_listens_too(finished: Path, tmp_path: Path) -> None:
    assert verify_shards(catalog_of(finished)).problems == []
    root = Path(shutil.copytree(finished, tmp_path / "out"))
    row = next(r for r in rows_of(root) if r["m4a_offset"] is not None)
    data = bytearray((root / row["shard"]).read_bytes())
    data[row["m4a_offset"] : row["m4a_offset"] + row["m4a_bytes"]] = bytes(row["m4a_bytes"])
    (root / row["shard"]).write_bytes(data)
    problems = verify_shards(catalog_of(root)).problems
    assert any(".m4a does not decode" in p and row["clip_id"] in p for p in problems)


def test_the_same_bytes_again_and_none_without_the_setting(finished: Path, tmp_path: Path) -> None:
    root = Storage(shutil.copytree(finished, tmp_path / "out"))
    catalog = catalog_of(tmp_path / "out")
    before = {n: root.read_bytes(n) for n in root.walk("shards")}

    def pack(settings: ShardSettings) -> None:
        write_shards(root, lambda: kept_samples(catalog, settings), settings)

    pack(ShardSettings())  # pyright: ignore[reportCallIssue]
    assert all(r["m4a_offset"] is None for r in rows_of(tmp_path / "out"))
    assert verify_shards(catalog).problems == []
    pack(ShardSettings(audio="m4a"))  # pyright: ignore[reportCallIssue]
    assert {n: root.read_bytes(n) for n in root.walk("shards")} == before


def test_sound_of_damaged_media_is_refused(finished: Path, tmp_path: Path) -> None:
    root = Storage(shutil.copytree(finished, tmp_path / "out"))
    catalog = catalog_of(tmp_path / "out")
    settings = ShardSettings(audio="m4a", seed=1)  # pyright: ignore[reportCallIssue]
    victim = next(kept_samples(catalog, settings)).media_path
    root.write_bytes(victim, b"no mp4 at all")
    with pytest.raises(CatalogError, match="media of a kept clip cannot be read"):
        write_shards(root, lambda: kept_samples(catalog, settings), settings)
    root.remove(victim)
    with pytest.raises(CatalogError, match="media of a kept clip is missing"):
        write_shards(root, lambda: kept_samples(catalog, settings), settings)


def test_webdataset_and_datasets_read_samples_with_and_without_sound(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from webdataset.compat import WebDataset

    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    rows = {r["clip_id"]: r for r in rows_of(finished)}
    files = sorted(str(p) for p in (finished / "shards").rglob("*.tar"))
    found: list[Any] = list(WebDataset(files, shardshuffle=False))
    assert {f["__key__"]: "m4a" in f for f in found} == {
        k: r["m4a_offset"] is not None for k, r in rows.items()
    }
    # datasets infers columns of the first samples; said beforehand, a sample may lack one.
    features = datasets.Features(
        {
            "__key__": datasets.Value("string"),
            "__url__": datasets.Value("string"),
            "mp4": datasets.Video(decode=False),
            "m4a": datasets.Value("binary"),
            "txt": datasets.Value("string"),
        }
    )
    loaded = datasets.load_dataset(
        *("webdataset",),
        data_files=files,
        split="train",
        streaming=True,
        features=features,
        cache_dir=str(tmp_path / "cache"),
    )
    sizes = {row["__key__"]: row["m4a"] and len(row["m4a"]) for row in loaded}
    assert sizes == {k: r["m4a_bytes"] for k, r in rows.items()}


@pytest.mark.parametrize("band", [1, 4, 16])
def test_bands_of_lengths_share_a_bucket(finished: Path, tmp_path: Path, band: int) -> None:
    root = Storage(shutil.copytree(finished, tmp_path / "out"))
    catalog = catalog_of(tmp_path / "out")
    settings = ShardSettings(bucket_frames=band)  # pyright: ignore[reportCallIssue]
    samples = list(kept_samples(catalog, settings))
    keys = [order_key(s.split, s.bucket, 0, s.clip_id) for s in samples]
    assert keys == sorted(keys)
    write_shards(root, lambda: kept_samples(catalog, settings), settings)
    lengths = set()
    for row in rows_of(tmp_path / "out"):
        frames = row["bucket"].split("x")[0]
        first, _, last = frames.partition("-")
        assert int(first) <= row["frames"] <= int(last or first)
        assert (band == 1) == (last == "")
        if band > 1:
            assert int(first) % band == 0 and int(last) == int(first) + band - 1
        assert row["shard"].split("/")[1] == row["bucket"]
        lengths.add(row["frames"])
    assert len(lengths) > 1, "the test has clips of several lengths"
    assert verify_shards(catalog).problems == []
