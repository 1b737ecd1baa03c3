"""Which settings of the cut go together; what does not is said before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curation.media.encoders import MAX_CRF, PRESETS, EncoderName

if TYPE_CHECKING:
    from curation.stages.cut import Cut

PIXEL_FIELDS = (
    "encoder",
    "bit_depth",
    "max_long_side_px",
    "max_short_side_px",
    "fps",
    "letterbox",
    "blur_faces",
)
"""Fields that change pixels or times: without effect on copied packets."""


def check_cut(cut: Cut) -> None:
    """Check fields against each other.

    Raises:
        ValueError: With the fields and the mend.
    """
    if cut.mode == "copy":
        _copy_touches_nothing(cut)
        return
    if cut.mode == "auto" and not cut.copy_codecs:
        raise ValueError("copy_codecs is empty: nothing would be copied; use mode: reencode")
    if cut.blur_faces and cut.hdr == "keep":
        raise ValueError(
            "blur_faces needs hdr: tonemap, since faces are looked for in SDR pictures"
        )
    if cut.hdr == "keep" and cut.bit_depth != 10:
        raise ValueError("hdr: keep needs bit_depth: 10, since HDR in 8 bits shows bands")
    if cut.bit_depth == 10 and cut.encoder in ("h264_nvenc", "auto"):
        raise ValueError(
            f"encoder: {cut.encoder} writes 8 bits only; for bit_depth: 10 use libx264, libx265 "
            "or libsvtav1"
        )
    _encoder_knows(cut, "libx264" if cut.encoder == "auto" else cut.encoder)


def _copy_touches_nothing(cut: Cut) -> None:
    changed = [n for n in PIXEL_FIELDS if getattr(cut, n) != type(cut).model_fields[n].default]
    if cut.deinterlace == "always":
        changed.append("deinterlace")
    if changed:
        raise ValueError(
            f"mode: copy moves packets as they are, so {', '.join(changed)} cannot take effect; "
            "use mode: auto or reencode"
        )


def _encoder_knows(cut: Cut, encoder: EncoderName) -> None:
    if cut.crf > MAX_CRF[encoder]:
        raise ValueError(f"crf {cut.crf} is above {MAX_CRF[encoder]}, the most of {encoder}")
    if cut.preset is None:
        return
    if cut.encoder == "auto":
        raise ValueError(
            "encoder: auto takes no preset, since NVENC and libx264 name theirs differently; "
            "set preset: null or name the encoder"
        )
    if cut.preset not in PRESETS[encoder]:
        raise ValueError(
            f"{encoder} has no preset {cut.preset!r}; it knows {', '.join(PRESETS[encoder])}"
        )
