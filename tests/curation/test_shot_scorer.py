"""The scorer of shot detection, which decides what the tables say."""

from __future__ import annotations

from typing import Any

import pytest

from curation.signals.transitions import Transition
from tests.bench.shots import GRADUAL, score

LABELS: dict[str, Any] = {
    "transitions": [
        {"kind": "cut", "start": 99, "end": 100},
        {"kind": "dissolve", "start": 200, "end": 220},
    ],
    "ignore": [{"start": 300, "end": 310}],
}


def cut(frame: int) -> Transition:
    return Transition(frame - 1, frame, "cut", 0.9)


def test_all_found() -> None:
    tally = score(LABELS, [cut(100), Transition(203, 215, "dissolve", 0.8)])
    assert tally.scores() == (1, 1, 1)


@pytest.mark.parametrize(("frame", "found"), [(97, 0), (98, 1), (102, 1), (103, 0)])
def test_tolerance_is_two_frames(frame: int, found: int) -> None:
    tally = score(LABELS, [cut(frame)])
    assert tally.hits["cut"] == found
    assert sum(tally.false_alarms.values()) == 1 - found


def test_one_prediction_per_transition() -> None:
    tally = score(LABELS, [cut(100), cut(101), cut(205), cut(210)])
    assert dict(tally.hits) == {"cut": 1, "dissolve": 1}
    assert dict(tally.false_alarms) == {"cut": 2}
    f1, precision, recall = tally.scores()
    assert (precision, recall) == (0.5, 1)
    assert f1 == pytest.approx(2 / 3)


def test_doubtful_stretches_do_not_count() -> None:
    tally = score(LABELS, [cut(300), cut(310), cut(311)])
    assert dict(tally.false_alarms) == {"cut": 1}


def test_scores_by_kind() -> None:
    tally = score(LABELS, [cut(100), Transition(400, 420, "wipe", 0.7)])
    assert tally.scores(("cut",))[0] == 1
    assert tally.scores(GRADUAL) == (0, 0, 0)
    assert tally.scores(("fade",))[0] != tally.scores(("fade",))[0]  # NaN: there is none
