"""The stage that reads existing text: which file it takes, once per video, and what it survives."""

from __future__ import annotations

import builtins
import http.server
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import av
import fsspec
import numpy as np
import pytest
from av.subtitles.subtitle import SubtitleSet

from curation.captions import sidecars
from curation.errors import MediaError
from curation.stage import StageContext
from curation.stages.subtitles import Subtitles
from curation.storage import Storage
from tests.curation.chain import run_stage

HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,16

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def srt(*texts: str) -> str:
    """A cue of one second each, one after the other."""
    return "".join(
        f"{i + 1}\n00:00:{i:02d},000 --> 00:00:{i + 1:02d},000\n{text}\n\n"
        for i, text in enumerate(texts)
    )


def whisper(text: str) -> str:
    return json.dumps({"segments": [{"start": 0, "end": 3, "text": text}], "language": "en"})


def stage(**fields: Any) -> Subtitles:  # noqa: ANN401 - any field
    return Subtitles(**fields)


def read(
    uri: str | Path,
    made: Subtitles,
    *spans: tuple[float, float],
    local: str | Path | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the stage's two tables for clips of one video."""
    rows = [
        {
            "clip_id": f"c{i}",
            "video_id": "v",
            "uri": str(uri),
            "local_path": str(local or uri),
            "start_s": start,
            "end_s": end,
        }
        for i, (start, end) in enumerate(spans or [(0.0, 10.0)])
    ]
    tables, failures = run_stage(made, rows)
    assert not failures
    return tables["subtitles"].to_pylist(), tables["subtitle_cues"].to_pylist()


def chosen(uri: str | Path, made: Subtitles) -> str | None:
    return read(uri, made)[0][0]["subtitle_source"]


def test_the_words_of_each_clip_and_their_times(tmp_path: Path) -> None:
    (tmp_path / "v.srt").write_text(srt("one", "two", "three"))
    texts, cues = read(tmp_path / "v.mp4", stage(), (0.0, 1.5), (1.5, 3.0), (3.0, 9.0))
    assert texts == [
        {
            "clip_id": f"c{i}",
            "subtitle_text": text,
            "subtitle_num_cues": num,
            "subtitle_language": None,
            "subtitle_source": "sidecar:v.srt",
            "subtitle_warning": None,
        }
        for i, (text, num) in enumerate([("one two", 2), ("two three", 2), ("", 0)])
    ]
    assert [tuple(c.values()) for c in cues] == [
        ("c0", 0.0, 1.0, "one"),
        ("c0", 1.0, 1.5, "two"),
        ("c1", 0.0, 0.5, "two"),
        ("c1", 0.5, 1.5, "three"),
    ]


def test_a_video_without_text_has_nulls(tmp_path: Path) -> None:
    (tmp_path / "other.srt").write_text(srt("x"))
    (tmp_path / "v.srt.bak").write_text(srt("x"))
    (tmp_path / "v.json").write_text('{"title": "metadata of the video"}')
    (tmp_path / "v.srt").mkdir()
    texts, cues = read(tmp_path / "v.mp4", stage())
    assert cues == [] and set(texts[0].values()) == {"c0", None}
    assert set(read(tmp_path / "v.mp4", stage(sidecars=False))[0][0].values()) == {"c0", None}


@pytest.mark.parametrize(
    ("languages", "wanted"),
    [
        ((), "sidecar:v.srt"),
        (("en",), "sidecar:v.eng.vtt"),
        (("pt-BR", "de"), "sidecar:v.pt-BR.srt"),
        (("ja", "de"), "sidecar:v.de.srt"),
        (("ja",), "sidecar:v.srt"),
    ],
)
def test_the_wanted_language_is_taken_first(
    tmp_path: Path, languages: tuple[str, ...], wanted: str
) -> None:
    names = ("v.srt", "v.eng.vtt", "v.de.forced.srt", "v.de.srt", "v.pt-BR.srt")
    for name in names:
        head = "WEBVTT\n\n" if name.endswith("vtt") else ""
        (tmp_path / name).write_text(head + srt("x").replace(",", "." if head else ","))
    (tmp_path / "v.json").write_text(whisper("x"))
    assert chosen(tmp_path / "v.mp4", stage(languages=languages)) == wanted
    (tmp_path / "v.de.srt").unlink()
    assert chosen(tmp_path / "v.mp4", stage(languages=["de"])) == "sidecar:v.de.forced.srt"


def test_a_transcript_is_taken_where_there_is_no_subtitle(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(whisper(" Spoken words."))
    row = read(tmp_path / "v.mp4", stage())[0][0]
    assert row["subtitle_text"] == "Spoken words."
    assert (row["subtitle_language"], row["subtitle_source"]) == ("en", "transcript:v.json")


def test_the_subtitles_of_another_video_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "v.cut.srt").write_text(srt("of the cut"))
    assert chosen(tmp_path / "v.mp4", stage()) == "sidecar:v.cut.srt"  # three letters: a language
    (tmp_path / "v.cut.mp4").write_bytes(b"")
    assert chosen(tmp_path / "v.mp4", stage()) is None
    assert chosen(tmp_path / "v.cut.mp4", stage()) == "sidecar:v.cut.srt"
    (tmp_path / "v.final2.srt").write_text(srt("x"))
    assert chosen(tmp_path / "v.mp4", stage()) is None


def test_a_damaged_file_is_told_and_the_next_one_taken(tmp_path: Path) -> None:
    (tmp_path / "v.srt").write_bytes(os.urandom(500))
    (tmp_path / "v.json").write_text(whisper("words"))
    row = read(tmp_path / "v.mp4", stage())[0][0]
    assert (row["subtitle_text"], row["subtitle_source"]) == ("words", "transcript:v.json")
    assert row["subtitle_warning"].startswith("sidecar:v.srt ")
    (tmp_path / "v.json").write_text("{")
    row = read(tmp_path / "v.mp4", stage())[0][0]
    assert row["subtitle_text"] is None and row["subtitle_source"] is None
    assert "v.srt" in row["subtitle_warning"]
    assert "transcript:v.json is not JSON" in row["subtitle_warning"]


def test_a_large_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecars, "MAX_FILE_BYTES", 2**20)
    (tmp_path / "v.srt").write_text(srt("x") + " " * 2**20)
    row = read(tmp_path / "v.mp4", stage())[0][0]
    assert row["subtitle_text"] is None
    assert row["subtitle_warning"] == "sidecar:v.srt is larger than 1 MiB"


def test_files_are_read_once_per_video(tmp_path: Path) -> None:
    (tmp_path / "v.srt").write_text(srt("one", "two"))
    opened: list[str] = []
    real = builtins.open

    def counting(path: Any, *args: Any, **kw: Any) -> Any:  # noqa: ANN401 - as open
        opened.append(str(path))
        return real(path, *args, **kw)

    made = stage(batch_size=1)
    with mock.patch("builtins.open", counting):
        for i in range(5):
            read(tmp_path / "v.mp4", made, (float(i) / 4, 2.0))
    assert len([p for p in opened if p.endswith("v.srt")]) == 1


def test_text_is_cut_to_max_chars(tmp_path: Path) -> None:
    (tmp_path / "v.srt").write_text(srt("one", "two", "three"))
    texts, cues = read(tmp_path / "v.mp4", stage(max_chars=8))
    assert texts[0]["subtitle_text"] == "one two" and len(cues) == 3


def test_other_file_systems_are_searched(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name, text in {"v.en.srt": srt("far"), "w.srt": srt("x"), "v.sub/v.srt": srt("x")}.items():
        memory.pipe_file(f"/subtitle-test/{name}", text.encode())
    row = read("memory://subtitle-test/v.mp4", stage())[0][0]
    assert (row["subtitle_text"], row["subtitle_source"]) == ("far", "sidecar:v.en.srt")
    assert chosen("memory://subtitle-test/none.mp4", stage()) is None
    assert chosen("memory://no-such-folder/v.mp4", stage()) is None


@contextmanager
def web_server(folder: Path, status: int = 0) -> Iterator[str]:
    """Serves a folder; with ``status`` answers nothing but that."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def send_head(self) -> Any:  # noqa: ANN401 - as the base
            if status:
                self.send_error(status)
                return None
            return super().send_head()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_web_servers_are_asked_for_likely_names(tmp_path: Path) -> None:
    (tmp_path / "v.de.srt").write_text(srt("Wörter"))
    (tmp_path / "v.json").write_text(whisper("words"))
    with web_server(tmp_path) as url:
        row = read(f"{url}/v.mp4?x=1", stage(languages=["de"]))[0][0]
        assert (row["subtitle_text"], row["subtitle_language"]) == ("Wörter", "de")
        assert chosen(f"{url}/v.mp4", stage()) == "transcript:v.json"
        assert chosen(f"{url}/none.mp4", stage()) is None


@pytest.mark.parametrize(("status", "fails"), [(403, False), (500, True)])
def test_a_store_that_does_not_answer_is_tried_again(
    tmp_path: Path, status: int, fails: bool
) -> None:
    with web_server(tmp_path, status) as url:
        if not fails:
            assert chosen(f"{url}/v.mp4", stage()) is None
            return
        with pytest.raises(MediaError) as caught:
            read(f"{url}/v.mp4", stage())
    assert caught.value.code == "network_error" and caught.value.retryable


def test_a_store_that_does_not_answer_is_asked_once_per_video(tmp_path: Path) -> None:
    """The engine goes clip by clip after a failure: the next clips must not wait anew."""
    made, beats, asked = stage(), [], 0
    made.setup(
        StageContext(
            storage=Storage(tmp_path), fingerprint="f", beat=lambda: beats.append(len(beats))
        )
    )

    def find(uri: str, languages: Any) -> list[Any]:  # noqa: ANN401 - as the finder's
        nonlocal asked
        assert beats, "the watchdog is told before the wait"
        asked += 1
        raise MediaError("network_error", f"no answer about {uri}")

    with mock.patch.object(made._finder, "find", find):
        for _ in range(4):
            with pytest.raises(MediaError, match=r"no answer about s3://b/v\.mp4") as caught:
                read("s3://b/v.mp4", made)
            assert caught.value.code == "network_error"
        assert asked == 1
        with pytest.raises(MediaError, match=r"w\.mp4"):
            read("s3://b/w.mp4", made)
    assert asked == 2
    (tmp_path / "v.srt").write_text(srt("one"))
    assert chosen(tmp_path / "v.mp4", made) == "sidecar:v.srt"


def write_with_stream(path: Path, codec: str, *, first_s: float = 0.0, language: str = "") -> None:
    """Six seconds of video with two subtitle cues, 0.5-1.5 s and 2-3 s after its first frame."""
    tick = Fraction(1, 1000)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        words: Any = out.add_stream(codec)
        if language:
            words.metadata["language"] = language
        words.codec_context.subtitle_header = HEADER
        words.time_base = tick
        for i in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * i, np.uint8), "rgb24")
            frame.pts, frame.time_base = i + round(first_s * 10), Fraction(1, 10)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for i, (at_s, text) in enumerate([(0.5, r"{\i1}Hello{\i0}\N- you"), (2.0, "a & b")]):
            line = f"{i},0,Default,,0,0,0,,{text}".encode()
            packet = words.codec_context.encode_subtitle(SubtitleSet.create(line, 0, 1000))
            packet.stream, packet.time_base = words, tick
            packet.pts = packet.dts = round(1000 * (first_s + at_s))
            packet.duration = 1000
            out.mux(packet)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("v.mp4", "mov_text"), ("v.mkv", "subrip"), ("v.mkv", "ass"), ("v.mkv", "webvtt")],
)
def test_text_streams_are_read(tmp_path: Path, name: str, codec: str) -> None:
    write_with_stream(tmp_path / name, codec, language="eng")
    texts, cues = read(tmp_path / name, stage(streams=True), (0.0, 1.0), (1.0, 6.0))
    assert [t["subtitle_text"] for t in texts] == ["Hello you", "Hello you a & b"]
    assert (texts[0]["subtitle_language"], texts[0]["subtitle_source"]) == ("eng", "stream:1")
    assert [(c["cue_start_s"], c["cue_end_s"]) for c in cues] == [(0.5, 1.0), (0, 0.5), (1, 2)]


def test_streams_count_from_the_first_frame(tmp_path: Path) -> None:
    write_with_stream(tmp_path / "v.mkv", "subrip", first_s=7.0)
    _, cues = read(tmp_path / "v.mkv", stage(streams=True))
    assert [c["cue_start_s"] for c in cues] == [0.5, 2.0]


def test_files_and_streams_compete_by_language_then_by_kind(tmp_path: Path) -> None:
    video = tmp_path / "v.mkv"
    write_with_stream(video, "subrip", language="eng")
    (tmp_path / "v.json").write_text(whisper("x"))
    assert chosen(video, stage(streams=True)) == "stream:1"
    (tmp_path / "v.de.srt").write_text(srt("x"))
    assert chosen(video, stage(streams=True)) == "sidecar:v.de.srt"
    assert chosen(video, stage(streams=True, languages=["en"])) == "stream:1"
    assert chosen(video, stage(streams=False, languages=["en"])) == "transcript:v.json"


def test_the_bytes_are_asked_for_only_where_streams_are_wanted() -> None:
    assert "local_path" not in stage().reads.names
    assert "local_path" in stage(streams=True).reads.names
    assert stage().settings() != stage(reread=1).settings()


@pytest.mark.parametrize(
    "fields", [{"languages": ["../../x"]}, {"fallback_encoding": "latin-99"}, {"max_chars": 0}]
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        stage(**fields)
