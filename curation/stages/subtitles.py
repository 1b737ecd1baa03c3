"""Subtitles: what is said inside each kept clip, from text that lies beside or inside its video.

Looked for beside ``NAME.mp4``: subtitle files ``NAME.srt``, ``NAME.vtt``, ``NAME.ass`` and
``NAME.<language>.srt`` (or ``.vtt``, ``.ass``), and ``NAME.json``, the transcript of a speech
recogniser (Whisper, faster-whisper, WhisperX, whisper.cpp, Transformers); with ``streams`` also
text streams inside the container. One of them is read: that in the first wanted language, subtitle
files before streams before transcripts. A file that cannot be read fails nothing: the next one is
taken, and ``subtitle_warning`` says what was wrong. A store that does not answer fails the clips
until the next run.

Files are read once per video and only beside the source's own URI. They are not part of the
fingerprint: raise ``reread`` after files came or changed.
Cost: milliseconds per video; for streams the container is read through once.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator

from curation.captions.sidecars import LANGUAGE, Finder, Sidecar, rank_language, read_small
from curation.captions.streams import read_stream, text_streams
from curation.captions.subtitles import (
    Cue,
    DamagedError,
    Parsed,
    cut_cues,
    join_text,
    parse_subtitles,
    parse_transcript,
)
from curation.captions.tables import CUES, SUBTITLES
from curation.errors import MediaError
from curation.schema import FLOAT64, STRING, schema
from curation.stage import Grain, Output, Stage, StageContext

KINDS = ("sidecar", "stream", "transcript")
"""Where words come from, the most trusted first: people wrote subtitles, models transcripts."""
NO_LANGUAGE = (None, "", "und")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file or stream that may hold the words of a video.

    Attributes:
        source: As ``subtitle_source`` names it.
        language: As the file name or stream names it; None: it does not.
        forced: Only the lines in a foreign language.
        read: Gives its cues; None: it is something else.
    """

    source: str
    language: str | None
    forced: bool = False
    read: Callable[[], Parsed | None]


@dataclass
class Track:
    """The words of one video; all empty when there are none."""

    cut: Callable[[float, float], list[Cue]] | None = None
    language: str | None = None
    source: str | None = None
    warnings: list[str] = field(default_factory=list)


class Subtitles(Stage):
    """Reads existing subtitles and transcripts of kept clips."""

    name: ClassVar[str] = "subtitles"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "clip"
    gated: ClassVar[bool] = True
    adds: ClassVar[Mapping[str, pa.Schema]] = {"subtitles": SUBTITLES, "subtitle_cues": CUES}
    details: ClassVar[frozenset[str]] = frozenset({"subtitle_cues"})

    languages: tuple[str, ...] = Field(
        (), description="wanted languages, best first, e.g. [en, de]; others are taken after them"
    )
    sidecars: bool = Field(True, description="look for files beside the video")
    streams: bool = Field(False, description="look for text streams inside the video")
    max_chars: int = Field(2000, ge=1, description="longest text of a clip; ended at a word")
    fallback_encoding: str = Field("cp1252", description="of subtitle files that are not UTF-8")
    reread: int = Field(0, ge=0, description="raise it to have all files read again")

    _context: StageContext | None = PrivateAttr(default=None)
    _track: tuple[object, Track | MediaError] = PrivateAttr(default=(None, Track()))
    _finder: Finder = PrivateAttr(default_factory=Finder)

    @field_validator("languages")
    @classmethod
    def _codes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for code in value:
            if not LANGUAGE.fullmatch(code):
                raise ValueError(f"{code!r} is no language code; e.g. en, de, pt-BR")
        return value

    @field_validator("fallback_encoding")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except LookupError as exc:
            raise ValueError("no such encoding; e.g. cp1252, cp1251, gb18030, shift_jis") from exc

    @property
    def reads(self) -> pa.Schema:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The clip's span and the source's URI; its bytes only where streams are wanted."""
        wanted = {"local_path": STRING} if self.streams else {}
        return schema(clip_id=STRING, start_s=FLOAT64, end_s=FLOAT64, uri=STRING, **wanted)

    def setup(self, context: StageContext) -> None:
        """Keep the watchdog's bell."""
        self._context = context

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Find the words of a batch of clips of one video."""
        rows = batch.to_pylist()
        texts, cues = [], []
        for row in rows:
            track = self._track_of(row)
            inside = track.cut(row["start_s"], row["end_s"]) if track.cut else []
            texts.append(
                {
                    "clip_id": row["clip_id"],
                    "subtitle_text": join_text(inside, self.max_chars) if track.cut else None,
                    "subtitle_num_cues": len(inside) if track.cut else None,
                    "subtitle_language": track.language,
                    "subtitle_source": track.source,
                    "subtitle_warning": "; ".join(track.warnings) or None,
                }
            )
            cues += [
                {
                    "clip_id": row["clip_id"],
                    "cue_start_s": cue.start_s,
                    "cue_end_s": cue.end_s,
                    "cue_text": cue.text,
                }
                for cue in inside
            ]
        yield "subtitles", pa.Table.from_pylist(texts, schema=SUBTITLES)
        yield "subtitle_cues", pa.Table.from_pylist(cues, schema=CUES)

    def _track_of(self, row: Mapping[str, Any]) -> Track:
        """The words of a clip's video: read once for all of its clips.

        A failure counts for all of them as well: a failed batch is gone through clip by clip, and
        a store that does not answer must not be waited for once for each.

        Raises:
            MediaError: The store does not answer.
        """
        key = row.get("video_id"), row["uri"]
        if self._track[0] != key:
            try:
                self._track = key, self._read(row)
            except MediaError as exc:
                self._track = key, exc.with_traceback(None)
        found = self._track[1]
        if isinstance(found, MediaError):
            raise MediaError(found.code, found.message)
        return found

    def _read(self, row: Mapping[str, Any]) -> Track:
        track = Track()
        for found in self._found(row):
            try:
                parsed = found.read()
            except DamagedError as exc:
                track.warnings.append(f"{found.source} {exc}")
                continue
            if parsed is None:
                continue
            if parsed.warning:
                track.warnings.append(f"{found.source} {parsed.warning}")
            track.cut, track.source = cut_cues(parsed.cues), found.source
            track.language = found.language or parsed.language
            break
        return track

    def _found(self, row: Mapping[str, Any]) -> list[Found]:
        """All there is, the best first."""
        found: list[Found] = []
        if self.sidecars:
            self._beat()
            found += [self._file(s) for s in self._finder.find(row["uri"], self.languages)]
        if self.streams:
            found += [self._stream(row["local_path"], *s) for s in text_streams(row["local_path"])]
        return sorted(found, key=self._place)

    def _place(self, found: Found) -> tuple[int, int, bool, bool, str]:
        """Where a file or stream stands: language, kind, whole before forced, plain names first."""
        kind = KINDS.index(found.source.partition(":")[0])
        rank = rank_language(found.language, self.languages)
        return rank, kind, found.forced, found.language is not None, found.source

    def _file(self, sidecar: Sidecar) -> Found:
        transcript = sidecar.suffix == ".json"

        def read() -> Parsed | None:
            self._beat()
            data = read_small(sidecar.uri)
            if data is None:
                return None
            if transcript:
                return parse_transcript(data)
            return parse_subtitles(data, sidecar.suffix, self.fallback_encoding)

        return Found(
            source=f"{'transcript' if transcript else 'sidecar'}:{sidecar.name}",
            language=sidecar.language,
            forced=sidecar.forced,
            read=read,
        )

    def _stream(self, path: str, index: int, language: str | None) -> Found:
        return Found(
            source=f"stream:{index}",
            language=None if language in NO_LANGUAGE else language,
            read=lambda: read_stream(path, index, self._beat),
        )

    def _beat(self) -> None:
        if self._context is not None:
            self._context.beat()
