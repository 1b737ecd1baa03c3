"""HDR to SDR: PQ and HLG in BT.2020 to BT.709, with highlights rolled off instead of clipped.

Sources: PQ is SMPTE ST 2084, HLG with its OOTF is ITU-R BT.2100; SDR white is the 203 cd/m2 of
ITU-R BT.2408; the gamut matrix is ITU-R BT.2087; the tone curve is the EETF of ITU-R BT.2390
(5.4.1), applied after the matrix to the largest of R, G and B so that hues stay. What BT.709 cannot
show (a negative component) is clipped. The result is for a BT.1886 display, as SDR video tagged
BT.709 is. With a peak of 1000 cd/m2 all below 88 cd/m2 is unchanged.

Own code, since this FFmpeg has no zscale, and swscale's own mapping either clips above SDR white
(colorimetric) or shows SDR white at half its light (perceptual, unless the peak is announced).
Only tables and single float32 operations are used: no fused or reordered sums that another
processor would round otherwise. Cost: about 0.1 s a frame at 1080p, at the stored size.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

Transfer = Literal["pq", "hlg"]

SDR_WHITE_NITS = 203.0
PQ_PEAK_NITS = 10_000.0
HLG_PEAK_NITS = 1000.0
HLG_GAMMA = 1.2  # BT.2100's system gamma at 1000 cd/m2
DISPLAY_GAMMA = 2.4  # BT.1886
LEVELS = 65536
TOP = np.float32(LEVELS - 1)

TO_BT709 = (
    (1.6605, -0.5876, -0.0728),
    (-0.1246, 1.1329, -0.0083),
    (-0.0182, -0.1006, 1.1187),
)
"""Linear BT.2020 to linear BT.709, rows of BT.2087."""
LUMA_BT2020 = (0.2627, 0.6780, 0.0593)


def pq_to_nits(code: np.ndarray) -> np.ndarray:
    """ST 2084 EOTF: code in [0, 1] to cd/m2, float64."""
    power = np.power(code, 32 / 2523)
    return PQ_PEAK_NITS * np.power(
        np.maximum(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power), 16384 / 2610
    )


def nits_to_pq(nits: np.ndarray) -> np.ndarray:
    """ST 2084 inverse EOTF: cd/m2 to a code in [0, 1], float64."""
    power = np.power(nits / PQ_PEAK_NITS, 2610 / 16384)
    return np.power((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power), 2523 / 32)


def hlg_to_scene(code: np.ndarray) -> np.ndarray:
    """BT.2100 HLG inverse OETF: code in [0, 1] to scene light in [0, 1], float64."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


def rolled_off_nits(nits: np.ndarray, peak_nits: float) -> np.ndarray:
    """BT.2390 EETF from a display of ``peak_nits`` to one of SDR white; never above either.

    Args:
        nits: cd/m2; more than ``peak_nits`` counts as that.
        peak_nits: Brightest light of the source.
    """
    if peak_nits <= SDR_WHITE_NITS:
        return np.minimum(nits, SDR_WHITE_NITS)
    top = float(nits_to_pq(np.array(peak_nits)))
    most = float(nits_to_pq(np.array(SDR_WHITE_NITS))) / top
    knee = 1.5 * most - 0.5
    code = np.minimum(nits_to_pq(nits) / top, 1.0)
    t = np.clip((code - knee) / (1 - knee), 0, 1)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * most
    )
    return np.where(code < knee, nits, pq_to_nits(spline * top))


def to_sdr(codes: np.ndarray, transfer: Transfer, peak_nits: float) -> np.ndarray:
    """Tone-map one picture.

    Args:
        codes: uint16 [h, w, 3], R'G'B' in BT.2020, full range, PQ or HLG.
        transfer: Which of the two.
        peak_nits: Brightest light of a PQ source; HLG has its own 1000 cd/m2.

    Returns:
        uint16 [h, w, 3], R'G'B' in BT.709, full range, for a BT.1886 display.
    """
    peak = HLG_PEAK_NITS if transfer == "hlg" else peak_nits
    light = [_linear_table(transfer)[codes[..., i]] for i in range(3)]  # 1.0 is SDR white
    if transfer == "hlg":
        scene = _weighted(light, LUMA_BT2020)
        gain = _ootf_table()[_index(scene)]
        light = [plane * gain for plane in light]
    light = [_weighted(light, weights) for weights in TO_BT709]
    brightest = np.maximum(np.maximum(light[0], light[1]), light[2])
    gain = _gain_table(peak)[_index(brightest * np.float32(SDR_WHITE_NITS / PQ_PEAK_NITS))]
    out = np.empty(codes.shape, np.uint16)
    for i, plane in enumerate(light):
        out[..., i] = _display_table()[_index(plane * gain)]
    return out


def _weighted(planes: list[np.ndarray], weights: tuple[float, float, float]) -> np.ndarray:
    total = planes[0] * np.float32(weights[0])
    total += planes[1] * np.float32(weights[1])
    total += planes[2] * np.float32(weights[2])
    return total


def _index(light: np.ndarray) -> np.ndarray:
    """Where light in [0, 1] stands in a table: by its root, which spends entries on the dark."""
    root = np.sqrt(np.clip(light, np.float32(0), np.float32(1)))
    return (root * TOP + np.float32(0.5)).astype(np.uint16)


def _grid() -> np.ndarray:
    return np.arange(LEVELS) / (LEVELS - 1)


@lru_cache(maxsize=2)
def _linear_table(transfer: Transfer) -> np.ndarray:
    """By 16-bit code: PQ display light over SDR white, or HLG scene light."""
    if transfer == "hlg":
        return hlg_to_scene(_grid()).astype(np.float32)
    return (pq_to_nits(_grid()) / SDR_WHITE_NITS).astype(np.float32)


@lru_cache(maxsize=1)
def _ootf_table() -> np.ndarray:
    """By scene luminance (root): what makes display light over SDR white out of scene light."""
    scene = _grid() ** 2
    gain = HLG_PEAK_NITS / SDR_WHITE_NITS * np.power(scene, HLG_GAMMA - 1)
    return gain.astype(np.float32)


@lru_cache(maxsize=8)
def _gain_table(peak_nits: float) -> np.ndarray:
    """By light over what PQ can tell at most (root): the factor of the tone curve."""
    nits = np.maximum(_grid() ** 2 * PQ_PEAK_NITS, 1e-9)
    return (rolled_off_nits(nits, peak_nits) / nits).astype(np.float32)


@lru_cache(maxsize=1)
def _display_table() -> np.ndarray:
    """By light over SDR white (root): the 16-bit code that a BT.1886 display shows as it."""
    return np.round(np.power(_grid() ** 2, 1 / DISPLAY_GAMMA) * (LEVELS - 1)).astype(np.uint16)
