"""Groups of clips that were found to be alike, and the pairs in them that were not yet compared.

The choice of which clips stay sees pairs, not groups: a clip goes when it is a duplicate of one
that stays. So of a group every two have to be compared, whichever of them the search proposed. In
groups of more than ``WHOLE`` clips each is compared with the best connected ones only.
"""

from __future__ import annotations

import numpy as np

WHOLE = 50
HUBS = 8


def missing_pairs(linked: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Pairs of clips of one group that were not compared.

    Args:
        linked: int32 [n, 2], pairs that are alike.
        seen: int32 [m, 2], pairs that were compared, sorted; the smaller rank first.

    Returns:
        int32 [k, 2], sorted; the smaller rank first.
    """
    if not len(linked):
        return np.empty((0, 2), np.int32)
    clips, at = np.unique(linked, return_inverse=True)
    at = at.reshape(linked.shape)
    group = _groups(at, len(clips))
    degree = np.bincount(at.ravel(), minlength=len(clips))
    wanted = []
    order = np.argsort(group, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(members) < 3:
            continue
        best = members[np.argsort(-degree[members], kind="stable")]
        hubs = members if len(members) <= WHOLE else best[:HUBS]
        pairs = np.stack(np.meshgrid(clips[hubs], clips[members]), axis=-1).reshape(-1, 2)
        wanted.append(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1))
    if not wanted:
        return np.empty((0, 2), np.int32)
    found = np.unique(np.concatenate(wanted), axis=0)
    size = int(max(found.max(), seen.max() if len(seen) else 0)) + 1
    known = seen[:, 0].astype(np.int64) * size + seen[:, 1]
    new = ~np.isin(found[:, 0].astype(np.int64) * size + found[:, 1], known)
    return found[new].astype(np.int32)


def _groups(pairs: np.ndarray, count: int) -> np.ndarray:
    """Number of the group of each clip: union-find with halved paths."""
    parent = list(range(count))

    def root(clip: int) -> int:
        while parent[clip] != clip:
            parent[clip] = parent[parent[clip]]
            clip = parent[clip]
        return clip

    for a, b in pairs.tolist():
        one, other = root(a), root(b)
        parent[max(one, other)] = min(one, other)
    return np.array([root(clip) for clip in range(count)])
