"""Cut: each kept clip becomes an MP4 file of its own, before its row says so.

``reencode`` gives exactly the clip's frames, upright, in square pixels, progressive, 8-bit SDR,
with short GOPs. ``copy`` moves packets untouched between keyframes inside the clip and reports
what it gave up; size, orientation and colours stay as stored. ``auto`` copies where that gives
exactly the clip's frames and nothing asked for needs pixels, and re-encodes everything else.
Cost: decode plus libx264 of the kept seconds (about a third of real time per core at 720p); a copy
costs reading the packets and decoding one group of pictures; ``letterbox: crop`` one more decode.

``blur_faces`` covers every face that YuNet finds in the written frames (see ``media/blur.py``), so
nothing is copied then. It lowers the risk and does not end it: faces that are small, turned away or
half hidden are missed, and clothes, gait and voice remain. Sampled frames in the catalog, and
reports drawn from them, are not blurred. Number plates are not looked for.
Cost: 8 ms a frame at 320x192, 19 ms at 720p.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, Literal

import av.error
import pyarrow as pa
from pydantic import Field, PrivateAttr, model_validator

from curation.errors import ErrorCode, MediaError
from curation.media.bars import Box, find_bars
from curation.media.blur import FaceBlur
from curation.media.copy import copy_exactly, copy_span
from curation.media.decode import open_video, walk_frames
from curation.media.encode import Written, encode_span
from curation.media.encoders import EncoderName, EncodeSettings
from curation.media.facts import StreamFacts
from curation.media.fit import Fit, output_size
from curation.media.mode import needs_pixels
from curation.media.nvenc import MIN_SIZE_PX, choose_encoder
from curation.models.registry import file_sha256, find_weights, require_weights
from curation.models.weights import YUNET, Weights
from curation.models.yunet import FaceFinder
from curation.schema import BOOL, FLOAT64, INT32, INT64, STRING, schema
from curation.stage import Grain, Output, Stage, StageContext
from curation.stages.cut_rows import MEDIA, Made
from curation.stages.cut_settings import check_cut
from curation.stages.each_clip import each_clip

CopyCodec = Literal["h264", "hevc", "av1", "vp9", "mpeg4"]


class Cut(Stage):
    """Writes the media of kept clips under ``media/``."""

    name: ClassVar[str] = "cut"
    version: ClassVar[int] = 2
    grain: ClassVar[Grain] = "clip"
    gated: ClassVar[bool] = True
    reads: ClassVar[pa.Schema] = schema(
        local_path=STRING,
        clip_id=STRING,
        start_pts=INT64,
        end_pts=INT64,
        num_frames=INT32,
        time_base=STRING,
        codec=STRING,
        width_px=INT32,
        height_px=INT32,
        rotation_deg=INT32,
        sample_aspect_ratio=FLOAT64,
        pix_fmt=STRING,
        has_alpha=BOOL,
        transfer=STRING,
        is_hdr=BOOL,
        full_range=BOOL,
        interlaced=BOOL,
        median_fps=FLOAT64,
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {"media": MEDIA}

    mode: Literal["reencode", "copy", "auto"] = Field(
        "auto", description="auto copies where that is exact; copy snaps to keyframes; reencode"
    )
    copy_max_gop_frames: int = Field(
        # Two seconds at 30 fps, the keyframe distance that streaming services code at. A random
        # read then decodes 30 frames too many on average: no more than a training window itself.
        60,
        ge=1,
        description="auto: most frames between keyframes of a copied clip",
    )
    copy_codecs: tuple[CopyCodec, ...] = Field(
        ("h264",), description="auto: codecs that the readers of the dataset decode"
    )
    encoder: EncoderName | Literal["auto"] = Field(
        "libx264",
        description="libx264 (same bytes on every machine), libx265, libsvtav1, h264_nvenc, or "
        "auto: NVENC where a probe encodes, else libx264",
    )
    crf: int = Field(18, ge=0, le=63, description="quality of the encoder; lower is better")
    preset: str | None = Field(None, description="preset of the encoder; null: veryfast, 8, p4")
    gop_frames: int = Field(12, ge=1, description="frames between keyframes")
    bit_depth: Literal[8, 10] = Field(8, description="bits per sample of re-encoded clips")
    max_long_side_px: int | None = Field(None, ge=16, description="shrink to it; null: no limit")
    max_short_side_px: int | None = Field(None, ge=16, description="shrink to it; null: no limit")
    scaling: Literal["area", "lanczos"] = Field("area", description="area averages")
    fps: float | None = Field(
        None, gt=0, le=1000, description="constant frame rate to give; null: the frames' own times"
    )
    hdr: Literal["tonemap", "keep", "fail"] = Field(
        "tonemap", description="PQ and HLG sources: to SDR BT.709, as they are, or fail the clip"
    )
    hdr_peak_nits: float = Field(
        1000, ge=203, le=10_000, description="light of a PQ source that becomes white, cd/m2"
    )
    deinterlace: Literal["auto", "always", "never"] = Field(
        "auto", description="auto: frames that are flagged as interlaced"
    )
    letterbox: Literal["keep", "crop"] = Field("keep", description="crop: black bars are cut off")
    letterbox_min_bar: float = Field(
        0.02, gt=0, lt=0.5, description="smallest bar worth cropping, share of the side"
    )
    audio: Literal["drop", "keep"] = Field("drop", description="keep: AAC beside the picture")
    blur_faces: bool = Field(False, description="cover the faces that YuNet finds")
    blur_confidence: float = Field(
        # Lower than in faces: a blot too many costs less than a face too many.
        0.5,
        ge=0.05,
        le=1,
        description="from which a face is covered",
    )
    blur_hold_frames: int = Field(
        12, ge=1, le=120, description="frames a face is covered before it is found and after"
    )
    blur_detect_px: int = Field(
        640,
        ge=128,
        description="longer side of the picture looked at; faces below 10 pixels of it are missed",
    )

    _context: StageContext | None = PrivateAttr(default=None)
    _encoder: EncoderName = PrivateAttr(default="libx264")
    _finder: FaceFinder | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _fields_fit(self) -> Cut:
        check_cut(self)
        return self

    def setup(self, context: StageContext) -> None:
        """Keep the storage to write to, load the face detector, try the encoder."""
        self._context = context
        if self.blur_faces:
            self._finder = FaceFinder(self.blur_confidence)
        if self.mode != "copy":
            self._encoder = choose_encoder(self.encoder)

    def settings(self) -> dict[str, object]:
        """All fields; those of blurring only where it is on."""
        fields = super().settings()
        return {n: v for n, v in fields.items() if self.blur_faces or not n.startswith("blur_")}

    def model_checksums(self) -> dict[str, str]:
        """The face detector, where it runs."""
        if not self.blur_faces or find_weights(YUNET) is None:
            return {}
        return {YUNET.key: file_sha256(require_weights(YUNET))}

    def missing(self) -> list[Weights]:
        """The face detector: without it a run that has to blur must not start."""
        return [YUNET] if self.blur_faces and find_weights(YUNET) is None else []

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Cut clips one by one; one that fails does not stop the others."""
        assert self._context is not None
        yield from each_clip(batch, self._cut, self._context, self.adds)

    def _cut(self, row: dict[str, Any], context: StageContext) -> dict[str, Any]:
        if row["is_hdr"] and self.hdr == "fail":
            raise MediaError(
                ErrorCode.ENCODE_FAILED, f"the source is HDR ({row['transfer']}) and hdr is fail"
            )
        with tempfile.TemporaryDirectory(prefix="clipmill-cut-") as folder:
            target = Path(folder) / "clip.mp4"
            made = self._write(row, target, context)
            data = target.read_bytes()  # one clip of bounded length, not a video
            name = media_name(row["clip_id"], context.fingerprint)
            context.storage.put_file(target, name)
        stored = {
            "clip_id": row["clip_id"],
            "media_path": name,
            "media_bytes": len(data),
            "media_sha256": hashlib.sha256(data).hexdigest(),
        }
        return stored | made.columns(row)

    def _write(self, row: dict[str, Any], target: Path, context: StageContext) -> Made:
        path, start, end = row["local_path"], row["start_pts"], row["end_pts"]
        sound = self.audio == "keep"
        if self.mode == "copy":
            written = copy_span(path, target, start, end, with_audio=sound)
            return Made(written, "copy", "asked")
        settings, fit = self._settings(), self._fit(row, context)
        reason: str | None = "asked"
        if self.mode == "auto":
            facts = StreamFacts(**{n: row[n] for n in StreamFacts.__dataclass_fields__})
            reason = needs_pixels(
                facts,
                fit,
                pix_fmt=settings.pix_fmt,
                codecs=self.copy_codecs,
                blur=self.blur_faces,
            )
        if reason is None:
            copied = copy_exactly(
                path,
                target,
                start,
                end,
                num_frames=row["num_frames"],
                max_gop_frames=self.copy_max_gop_frames,
                with_audio=sound,
            )
            if isinstance(copied, Written):
                return Made(copied, "copy", "keyframes")
            reason = copied
        fps = row["median_fps"] or 25.0
        if self.encoder == "auto" and not _nvenc_takes(fit.size_px):
            settings = replace(settings, encoder="libx264")
        written = encode_span(
            path, target, start, end, fit=fit, fps=fps, settings=settings, blur=self._blur()
        )
        if written.num_source_frames != row["num_frames"]:
            raise MediaError(
                ErrorCode.DECODE_FAILED,
                f"of {row['num_frames']} frames {written.num_source_frames} decode after a seek",
            )
        return Made(written, "reencode", reason, fit, settings.encoder)

    def _blur(self) -> FaceBlur | None:
        """What covers the faces of one clip."""
        if self._finder is None:
            return None
        return FaceBlur(
            self._finder, hold_frames=self.blur_hold_frames, detect_px=self.blur_detect_px
        )

    def _settings(self) -> EncodeSettings:
        return EncodeSettings(
            encoder=self._encoder,
            crf=self.crf,
            preset=self.preset,
            gop_frames=self.gop_frames,
            bit_depth=self.bit_depth,
            with_audio=self.audio == "keep",
        )

    def _fit(self, row: dict[str, Any], context: StageContext) -> Fit:
        width, height, turn = row["width_px"], row["height_px"], row["rotation_deg"]
        crop = self._bars(row, context) if self.letterbox == "crop" else None
        if crop is not None:
            width, height = crop.width_px, crop.height_px
            if turn in (90, 270):
                width, height = height, width
        return Fit(
            size_px=output_size(
                width,
                height,
                row["sample_aspect_ratio"],
                max_long_side_px=self.max_long_side_px,
                max_short_side_px=self.max_short_side_px,
            ),
            turn_deg=turn,
            scaling=self.scaling,
            deinterlace=self.deinterlace,
            crop=crop,
            tonemap=row["transfer"] if row["is_hdr"] and self.hdr == "tonemap" else None,
            hdr_peak_nits=self.hdr_peak_nits,
            fps=self.fps,
        )

    def _bars(self, row: dict[str, Any], context: StageContext) -> Box | None:
        with open_video(row["local_path"]) as (source, stream):
            walk = walk_frames(source, stream, start_pts=row["start_pts"])
            inside = takewhile(lambda d: d.pts < row["end_pts"], walk)
            try:
                box = find_bars((d.frame for d in inside), min_bar=self.letterbox_min_bar)
            except (av.error.FFmpegError, ValueError) as exc:
                raise MediaError(ErrorCode.DECODE_FAILED, f"{type(exc).__name__}: {exc}") from exc
        context.beat()
        return box


def media_name(clip_id: str, fingerprint: str) -> str:
    """Where a clip's media lies, relative to the dataset root."""
    return f"media/{clip_id[:2]}/{clip_id}-{fingerprint[:12]}.mp4"


def _nvenc_takes(size_px: tuple[int, int]) -> bool:
    return size_px[0] >= MIN_SIZE_PX[0] and size_px[1] >= MIN_SIZE_PX[1]
