"""What the cut records of each file it writes: the rows of ``media``."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal, NamedTuple

from curation.media.bars import Box
from curation.media.encode import Written
from curation.media.encoders import EncoderName
from curation.media.fit import Fit
from curation.models.weights import YUNET
from curation.schema import BOOL, FLOAT64, INT32, INT64, STRING, schema

MEDIA = schema(
    clip_id=STRING,
    media_path=STRING,  # relative to the dataset root
    media_bytes=INT64,
    media_sha256=STRING,
    media_mode=STRING,  # copy | reencode
    media_mode_reason=STRING,  # asked, keyframes (copied), or why it was not copied
    media_codec=STRING,
    media_encoder=STRING,  # null when copied
    media_width_px=INT32,
    media_height_px=INT32,
    media_num_frames=INT32,
    media_duration_s=FLOAT64,
    media_fps=FLOAT64,
    media_max_gop_frames=INT32,  # most frames to decode for a random read
    media_start_pts=INT64,  # equals the clip's own span unless mode is copy
    media_end_pts=INT64,
    media_lost_start_s=FLOAT64,  # of the clip; 0 unless mode is copy
    media_lost_end_s=FLOAT64,
    media_deinterlaced=BOOL,
    media_tone_mapped=BOOL,
    media_crop_x_px=INT32,  # part kept, in source pixels as displayed; null: all
    media_crop_y_px=INT32,
    media_crop_width_px=INT32,
    media_crop_height_px=INT32,
    media_blurred_frames=INT32,  # frames with covered faces; null: none were looked for
    media_face_model=STRING,  # what looked for faces; null: nothing did
)


class Made(NamedTuple):
    """A clip's file: what was written, how, and why so."""

    written: Written
    mode: Literal["copy", "reencode"]
    reason: str
    fit: Fit | None = None
    encoder: EncoderName | None = None

    def columns(self, row: dict[str, Any]) -> dict[str, Any]:
        """The columns of ``media`` that describe it."""
        written, unit = self.written, Fraction(row["time_base"])
        box = _displayed_crop(row, self.fit)
        return {
            "media_mode": self.mode,
            "media_mode_reason": self.reason,
            "media_codec": written.codec,
            "media_encoder": self.encoder,
            "media_width_px": written.width_px,
            "media_height_px": written.height_px,
            "media_num_frames": written.num_frames,
            "media_duration_s": round(float(written.duration_s), 6),
            "media_fps": round(float(written.num_frames / written.duration_s), 6),
            "media_max_gop_frames": written.max_gop_frames,
            "media_start_pts": written.start_pts,
            "media_end_pts": written.end_pts,
            "media_lost_start_s": round(float((written.start_pts - row["start_pts"]) * unit), 6),
            "media_lost_end_s": round(float((row["end_pts"] - written.end_pts) * unit), 6),
            "media_deinterlaced": written.deinterlaced,
            "media_tone_mapped": self.fit is not None and self.fit.tonemap is not None,
            "media_crop_x_px": box.x_px if box else None,
            "media_crop_y_px": box.y_px if box else None,
            "media_crop_width_px": box.width_px if box else None,
            "media_crop_height_px": box.height_px if box else None,
            "media_blurred_frames": written.num_blurred_frames,
            "media_face_model": None if written.num_blurred_frames is None else YUNET.key,
        }


def _displayed_crop(row: dict[str, Any], fit: Fit | None) -> Box | None:
    if fit is None or fit.crop is None:
        return None
    width, height, turn = row["width_px"], row["height_px"], row["rotation_deg"]
    stored = (height, width) if turn in (90, 270) else (width, height)
    return fit.crop.turned(*stored, turn)
