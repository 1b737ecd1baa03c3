"""Does anything asked for need pixels? If nothing does, a clip's packets may be copied."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from curation.media.facts import StreamFacts
from curation.media.fit import Fit, output_size

PixelReason = Literal[
    "blurred",  # faces have to be covered
    "codec",  # not one of the codecs that readers are known to take
    "rotated",  # only a player would turn it upright
    "not_square",  # pixels are not square
    "odd_size",  # a side is odd
    "hdr",  # has to become SDR
    "pixel_format",  # not 4:2:0 of the wanted bit depth, or it has an alpha plane
    "full_range",  # luma uses 0-255
    "interlaced",  # has to be deinterlaced
    "resized",  # larger than the size limits
    "fps",  # a constant frame rate is asked for
    "letterbox",  # has bars to crop
]
"""Why a clip has to be re-encoded whatever its keyframes."""


def needs_pixels(
    facts: StreamFacts, fit: Fit, *, pix_fmt: str, codecs: Collection[str], blur: bool = False
) -> PixelReason | None:
    """The first reason to re-encode, or None when the packets would do.

    Args:
        facts: The source.
        fit: What is asked of the pixels.
        pix_fmt: Pixel format that a re-encoded clip would have.
        codecs: Codecs that may be copied.
        blur: Faces are to be covered, if there are any.
    """
    size = (facts.width_px, facts.height_px)
    checks: tuple[tuple[PixelReason, bool], ...] = (
        ("blurred", blur),
        ("codec", facts.codec not in codecs),
        ("rotated", facts.rotation_deg != 0),
        ("not_square", abs(facts.sample_aspect_ratio - 1) > 1e-6),
        ("hdr", fit.tonemap is not None),
        ("full_range", facts.full_range),
        ("pixel_format", facts.has_alpha or facts.pix_fmt != pix_fmt),
        ("interlaced", fit.deinterlace == "always"),
        ("interlaced", fit.deinterlace == "auto" and facts.interlaced),
        ("fps", fit.fps is not None),
        ("letterbox", fit.crop is not None),
        ("odd_size", output_size(*size, 1.0) != size),
        ("resized", fit.size_px != size),
    )
    return next((reason for reason, holds in checks if holds), None)
