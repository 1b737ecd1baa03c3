"""Clips with too many neighbours to write down: compared when the choice is made.

Their pairs with each other are not among the edges (see ``compare.py``). Going down by quality,
only a clip that stays is compared with the crowd, and few stay where all look alike: of fifty
thousand copies one. So the choice is the one that all edges would have given.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.dedup.compare import SLACK, exact_cosines
from curation.dedup.lookup import positions
from curation.dedup.vector_file import VectorFile

AT_ONCE = 128
"""Most clips compared with the crowd in one product: the next ones by quality, if many stay."""
COLUMNS = 16_384
Near = tuple[np.ndarray, np.ndarray]


class Crowd:
    """The crowded clips among the candidates of a choice.

    Args:
        file: Vectors of crowded clips.
        crowded: The rows of ``semantic.CROWDED``.
        candidates: Ids of the candidates, best first.
        min_cosine: From which a pair is a duplicate.
    """

    def __init__(
        self, file: VectorFile, crowded: pa.Table, candidates: pa.Array, min_cosine: float
    ) -> None:
        self._min_cosine = min_cosine
        self._vectors = file.open()
        place = positions(candidates, file.clip_ids())
        row = positions(candidates, crowded.column("clip_id").combine_chunks())
        known = np.flatnonzero((place >= 0) & (row >= 0))
        # All arrays below are by position in the crowd, which is in order of quality.
        self.positions = known  # int64, increasing: which candidates they are
        self._places = place[known]
        lists = crowded.column("clusters").take(pa.array(row[known])).combine_chunks()
        width = len(lists[0]) if len(lists) else 1
        self._clusters = lists.flatten().to_numpy().reshape(-1, width)
        self._index = {int(p): i for i, p in enumerate(known)}
        self._others: dict[int, np.ndarray] = {}
        self._found: dict[int, dict[int, Near]] = {}
        self._at_once: dict[int, int] = {}

    def near(self, candidate: int, dropped: np.ndarray) -> Near:
        """Worse crowded candidates near one that stays; to be asked for from the best to the worst.

        Args:
            candidate: Position among the candidates; one of ``positions``.
            dropped: bool [candidates], those that will not be asked for.

        Returns:
            Their positions, int64, and their cosines, float64.
        """
        mine = self._index[candidate]
        home = int(self._clusters[mine, 0])
        if mine not in self._found.get(home, {}):
            self._found[home] = self._compare(home, mine, dropped)
        return self._found[home].pop(mine)

    def _compare(self, home: int, first: int, dropped: np.ndarray) -> dict[int, Near]:
        """Compare a clip, and the next of its cluster that may stay, with all they may be near."""
        others = self._around(home)
        mates = np.flatnonzero(self._clusters[first:, 0] == home) + first
        at_once = self._at_once.get(home, 1)
        self._at_once[home] = min(2 * at_once, AT_ONCE)
        block = mates[~dropped[self.positions[mates]]][:at_once]
        rows = self._vectors.rows(self._places[block])
        left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for start in range(0, len(others), COLUMNS):
            some = others[start : start + COLUMNS]
            columns = self._vectors.rows(self._places[some])
            i, j = np.nonzero(rows @ columns.T >= self._min_cosine - SLACK)
            later = some[j] > block[i]
            left.append(i[later])
            right.append(some[j[later]])
        i, j = np.concatenate(left), np.concatenate(right)
        a, b = self._places[block[i]], self._places[j]
        cosine = exact_cosines(self._vectors, a, self._vectors, b)
        self._vectors.release()
        near = cosine >= self._min_cosine
        order = np.argsort(i[near], kind="stable")
        positions, cosine = self.positions[j[near][order]], cosine[near][order]
        ends = np.cumsum(np.bincount(i[near], minlength=len(block)))[:-1]
        found = zip(np.split(positions, ends), np.split(cosine, ends), strict=True)
        return dict(zip(block.tolist(), found, strict=True))

    def _around(self, cluster: int) -> np.ndarray:
        """Crowded clips that those of a cluster are compared with: all they meet anywhere."""
        if cluster not in self._others:
            visited = np.unique(self._clusters[self._clusters[:, 0] == cluster])
            meet = np.isin(self._clusters, visited).any(axis=1)
            self._others[cluster] = np.flatnonzero(meet)
        return self._others[cluster]
