"""Captions beside shuffled ones: do they fit the clips that they stand on better than others?

Of the pairs of vectors at most ``MAX_PAIRS`` are drawn, and every caption is compared with every
clip:

- ``rho``, the correlation of captions with their clips, both relative to their means, is compared
  with that of shuffled pairs (a permutation test). Where captions are mixed up it is near 0.
- Captions that fit the clip a few rows further on better than their own are shifted. Neighbours
  count by how much they differ, for clips of one video may well share a caption.
- Captions that are all the same, on clips that are not, belong to none of them.

``undecided`` is for runs that are too small, or whose clips are too alike, to tell.

Measured on 31 clips of 15 real videos with captions written by hand, compared by tags, the weak
way (``rho`` 0.27, shuffled 0.00 with a deviation of 0.03): right rows passed in every draw of 8 and
more clips. Shuffled at random, 46 of 50 failed and none passed; of draws of 20 clips 44 of 60
failed and 1 passed, of 8 clips 19 and none. Rotated, 29 of 30 failed; moved by one row, most
captions still stand on their own video, and one of the two directions passed. It sees a run, not a
row: with half of the rows swapped it passes; with 60 % 10 of 60 draws did not pass, with 70 % 34,
with 80 % 57.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Verdict = Literal["passed", "failed", "undecided"]
MAX_PAIRS = 1024
MAX_PER_VIDEO = 32
PERMUTATIONS = 999
P_PASSED, P_VIDEOS = 0.01, 0.05
"""Most likely by chance: by clips, and by whole videos, of which there are fewer."""
MIN_PAIRS = 8
MIN_VIDEOS = 6
"""Videos from which they are also shuffled whole."""
RHO_RIGHT = 0.12
"""Below this captions do not belong to their clips; see the module's numbers."""
SURE = 2.33
"""Standard deviations of the shuffled pairs by which ``rho`` has to stay below: 1 in 100."""
MIN_SPREAD = 0.2
"""Mean squared distance of the clips' vectors from their mean, below which all clips are alike."""
SAME_TEXT = 0.01
"""The same of the captions' vectors, below which all captions are one."""
SHIFTS = (1, -1, 2, -2, 3, -3)
SHIFT_Z = 2.6
"""Standard errors by which a shifted pairing has to be better: 1 in 200, for each shift."""
NOT_WORDS = re.compile(r"[\W_]+")


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What the vectors of a run say.

    Attributes:
        verdict: See the module.
        reason: In a sentence.
        num_pairs: Clips compared.
        num_videos: Of so many videos.
        right: Mean cosine of captions and their clips; None: nothing to compare, so all below.
        shuffled: Mean cosine of captions and clips of other videos, or of other clips.
        rho: Correlation, -1 to 1, 0 for mixed-up captions.
        rho_shuffled_std: Its standard deviation over shuffled pairs.
        p_value: Share of shuffles that fit at least as well.
        p_value_videos: The same, shuffling whole videos; None: too few.
        mean_rank: Share of other videos' clips that fit a caption less well than its own: 0.5 is
            chance, 1 is best.
        shift: Rows by which the captions seem to be shifted; None: they are not.
    """

    verdict: Verdict
    reason: str
    num_pairs: int = 0
    num_videos: int = 0
    right: float | None = None
    shuffled: float | None = None
    rho: float | None = None
    rho_shuffled_std: float | None = None
    p_value: float | None = None
    p_value_videos: float | None = None
    mean_rank: float | None = None
    shift: int | None = None


def alignment_gate(
    text_vectors: np.ndarray,
    clip_vectors: np.ndarray,
    video_ids: Sequence[str],
    *,
    seed: int,
    max_pairs: int = MAX_PAIRS,
) -> GateResult:
    """Compare captions with their own and with other clips.

    Args:
        text_vectors: float [n, dim] of length 1, in the order in which captions were written.
        clip_vectors: float [n, dim] of length 1, likewise.
        video_ids: Of each row; rows of a video stand together.
        seed: Of the draw and of the shuffles.
        max_pairs: Most rows compared: runs of neighbours, so that shifts can be seen.
    """
    at = _drawn(len(video_ids), max_pairs, seed)
    texts = np.asarray(text_vectors, np.float64)[at]
    clips = np.asarray(clip_vectors, np.float64)[at]
    videos = np.unique(np.asarray(video_ids)[at], return_inverse=True)[1]
    counts: dict[str, Any] = {"num_pairs": len(at), "num_videos": len(set(videos.tolist()))}
    if len(at) < MIN_PAIRS:
        reason = f"{len(at)} captions are too few to compare, {MIN_PAIRS} are needed"
        return GateResult(verdict="undecided", reason=reason, **counts)
    cosines = texts @ clips.T
    found = counts | _measures(texts, clips, cosines, videos, seed)
    found["shift"] = _shift(cosines, clips, at)
    verdict, reason = _judged(found, _spread(texts), _spread(clips))
    return GateResult(verdict=verdict, reason=reason, **found)


def _measures(
    texts: np.ndarray, clips: np.ndarray, cosines: np.ndarray, videos: np.ndarray, seed: int
) -> dict[str, Any]:
    """The numbers of a :class:`GateResult`."""
    rng = np.random.default_rng(seed)
    right, others = np.diag(cosines), videos[:, None] != videos[None]
    if not others.any():
        others = ~np.eye(len(right), dtype=bool)
    scale = float(np.sqrt(_spread(texts) * _spread(clips)))
    scale = max(scale, 1e-12)
    p_value, spread = _permutation(cosines, rng)
    num_videos = int(videos.max()) + 1
    members = np.eye(num_videos)[videos]
    members /= members.sum(0)
    by_video = _permutation(members.T @ cosines @ members, rng)[0]
    ranks = [
        (row[i] > row[o]).mean() for i, (row, o) in enumerate(zip(cosines, others, strict=True))
    ]
    return {
        "right": round(float(right.mean()), 4),
        "shuffled": round(float(cosines[others].mean()), 4),
        "rho": round(float(right.mean() - cosines.mean()) / scale, 4),
        "rho_shuffled_std": round(spread / scale, 4),
        "p_value": round(p_value, 4),
        "p_value_videos": round(by_video, 4) if num_videos >= MIN_VIDEOS else None,
        "mean_rank": round(float(np.mean(ranks)), 4),
    }


def _judged(found: dict[str, Any], text_spread: float, clip_spread: float) -> tuple[Verdict, str]:
    """The verdict, and why."""
    rho, std, p_videos = found["rho"], found["rho_shuffled_std"], found["p_value_videos"]
    alike = clip_spread < MIN_SPREAD
    if text_spread < SAME_TEXT and not alike:
        return "failed", "all captions are nearly the same, the clips are not"
    if found["shift"] is not None:
        return "failed", (
            f"captions fit the clip {found['shift']:+d} rows away better than their own: "
            "they are shifted"
        )
    by_chance = found["p_value"] >= P_PASSED or (p_videos is not None and p_videos >= P_VIDEOS)
    weak = rho + SURE * std < RHO_RIGHT
    if not by_chance and not weak:
        return "passed", f"captions fit their own clips (rho {rho:.2f}, p {found['p_value']:.3f})"
    if alike:
        return "undecided", "the clips are too alike to tell whose caption is whose"
    if weak and by_chance:
        return "failed", (
            f"captions fit their own clips no better than others (rho {rho:.2f}, "
            f"{std:.2f} by chance; right ones reach {RHO_RIGHT:.2f} and more)"
        )
    if weak:
        return "undecided", (
            f"captions fit their own clips better than others, but little (rho {rho:.2f}; right "
            f"ones reach {RHO_RIGHT:.2f} and more): they say little, or part of them is mixed up"
        )
    return "undecided", (
        f"{found['num_pairs']} captions of {found['num_videos']} videos are too few, or say too "
        f"little, to tell (rho {rho:.2f}, {std:.2f} by chance)"
    )


def _permutation(cosines: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """How likely shuffled pairs fit as well as these, and the deviation of their mean cosine."""
    n = len(cosines)
    rows, own = np.arange(n), float(np.trace(cosines)) / n
    means = np.array([cosines[rows, rng.permutation(n)].mean() for _ in range(PERMUTATIONS)])
    return float((1 + (means >= own - 1e-12).sum()) / (1 + PERMUTATIONS)), float(means.std())


def _shift(cosines: np.ndarray, clips: np.ndarray, at: np.ndarray) -> int | None:
    """Rows by which captions would have to be moved to fit clearly better; None: none."""
    best: tuple[float, int | None] = (SHIFT_Z, None)
    n, apart = len(at), clips - clips.mean(0)
    apart /= np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-12)
    for shift in SHIFTS:
        rows = np.arange(max(0, -shift), min(n, n - shift))
        rows = rows[at[rows + shift] - at[rows] == shift]  # neighbours in the table too
        if len(rows) < MIN_PAIRS:
            continue
        # Neighbours that look alike may share a caption, and say little.
        differ = np.clip(1 - (apart[rows] * apart[rows + shift]).sum(1), 0, 1)
        gain = differ * (cosines[rows, rows + shift] - cosines[rows, rows])
        z = float(gain.sum() / max(np.sqrt((gain**2).sum()), 1e-12))
        best = max(best, (z, shift), key=lambda found: found[0])
    return best[1]


def _drawn(count: int, wanted: int, seed: int) -> np.ndarray:
    """Increasing indices of at most ``wanted`` of ``count`` rows, in runs of neighbours."""
    if count <= wanted:
        return np.arange(count)
    starts = np.arange(0, count, MAX_PER_VIDEO)
    order = np.random.default_rng(seed).permutation(len(starts))
    runs = [np.arange(s, min(s + MAX_PER_VIDEO, count)) for s in starts[order]]
    return np.sort(np.concatenate(runs[: -(-wanted // MAX_PER_VIDEO) + 1])[:wanted])


def _spread(vectors: np.ndarray) -> float:
    """Mean squared distance from the mean."""
    return float(((vectors - vectors.mean(0)) ** 2).sum(1).mean())


def duplicate_share(captions: Sequence[str], video_ids: Sequence[str]) -> float:
    """Share of clips whose caption, but for case and punctuation, also stands on another video."""
    videos: dict[str, set[str]] = {}
    plain = [NOT_WORDS.sub(" ", text.lower()).strip() for text in captions]
    for text, video_id in zip(plain, video_ids, strict=True):
        videos.setdefault(text, set()).add(video_id)
    return sum(len(videos[text]) > 1 for text in plain) / max(1, len(plain))
