"""Settings that do not go together are refused at once, with the mend."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.curation.chain import cut_stage


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mode": "copy", "fps": 25}, "mode: copy moves packets.*fps"),
        ({"mode": "copy", "max_long_side_px": 640}, "max_long_side_px.*mode: auto"),
        ({"mode": "copy", "letterbox": "crop"}, "letterbox"),
        ({"mode": "copy", "deinterlace": "always"}, "deinterlace"),
        ({"mode": "copy", "bit_depth": 10, "encoder": "libx265"}, "encoder, bit_depth"),
        ({"mode": "auto", "copy_codecs": ()}, "copy_codecs is empty"),
        ({"hdr": "keep"}, "hdr: keep needs bit_depth: 10"),
        ({"encoder": "h264_nvenc", "bit_depth": 10}, "writes 8 bits only"),
        ({"encoder": "auto", "bit_depth": 10}, "writes 8 bits only"),
        ({"encoder": "libx264", "crf": 52}, "above 51"),
        ({"encoder": "auto", "crf": 60}, "above 51"),
        ({"encoder": "libx264", "preset": "8"}, "no preset '8'; it knows ultrafast"),
        ({"encoder": "libsvtav1", "preset": "veryfast"}, "no preset 'veryfast'; it knows 0"),
        ({"encoder": "auto", "preset": "p4"}, "encoder: auto takes no preset"),
        ({"fps": 0}, "greater than 0"),
        ({"fps": float("nan")}, "less than or equal to 1000"),
        ({"crf": -1}, "greater than or equal to 0"),
        ({"gop_frames": 0}, "greater than or equal to 1"),
        ({"max_long_side_px": 8}, "greater than or equal to 16"),
        ({"hdr_peak_nits": 100}, "greater than or equal to 203"),
        ({"letterbox_min_bar": 0.5}, "less than 0.5"),
        ({"encoder": "mpeg2video"}, "libx264"),
        ({"copy_codecs": ("h263",)}, "copy_codecs"),
        ({"mode": "fast"}, "'auto'|'copy'"),
        ({"gop": 3}, "Extra inputs"),
    ],
)
def test_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        cut_stage(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"mode": "copy", "crf": 23, "gop_frames": 24, "audio": "keep"},
        {"mode": "copy", "hdr": "fail"},
        {"hdr": "keep", "bit_depth": 10, "encoder": "libx265"},
        {"encoder": "libsvtav1", "crf": 60, "preset": "10"},
        {"encoder": "auto", "crf": 23},
        {"fps": 23.976, "max_long_side_px": 1280, "max_short_side_px": 720, "letterbox": "crop"},
    ],
)
def test_accepted(fields: dict[str, Any]) -> None:
    cut_stage(**fields)


def test_defaults_keep_bytes_and_frames() -> None:
    """What a reader of the dataset relies on unless told otherwise."""
    stage = cut_stage()
    assert (stage.mode, stage.encoder, stage.bit_depth) == ("auto", "libx264", 8)
    assert (stage.fps, stage.max_long_side_px, stage.max_short_side_px) == (None, None, None)
    assert (stage.letterbox, stage.deinterlace, stage.hdr) == ("keep", "auto", "tonemap")


def test_every_field_is_described() -> None:
    own = set(type(cut_stage()).model_fields) - {"resources", "batch_size"}
    described = {n for n, f in type(cut_stage()).model_fields.items() if f.description}
    assert own <= described
