"""Steps that are skipped: for what, how they are counted, and when it is enough."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from curation.errors import BudgetError
from training.guards import Guards, GuardSettings

NAN, INF = math.nan, math.inf


def spikes(**given: float) -> Guards:
    return Guards(GuardSettings.model_validate({"spike_factor": 4, "spike_after": 10, **given}))


@pytest.mark.parametrize(("loss", "norm"), [(NAN, 1.0), (INF, 1.0), (1.0, NAN), (1.0, INF)])
def test_not_finite(loss: float, norm: float) -> None:
    guards = Guards(GuardSettings())
    assert guards.verdict(1.0, 1.0) == "ok"
    assert guards.verdict(loss, norm) == "non_finite"
    assert guards.verdict(1.0, 1.0) == "ok"
    assert guards.counts == {"ok": 2, "non_finite": 1, "spike": 0}
    assert guards.skipped == 1 and guards.mean_norm == pytest.approx(1.0)


def test_spikes_are_off_unless_asked_for() -> None:
    guards = Guards(GuardSettings(spike_after=1))
    assert [guards.verdict(1.0, norm) for norm in (1.0, 1e9)] == ["ok", "ok"]


def test_a_spike_is_above_its_mean_and_does_not_enter_it() -> None:
    guards = spikes()
    for _ in range(10):
        assert guards.verdict(1.0, 2.0) == "ok"
    assert guards.verdict(1.0, 7.9) == "ok"
    mean = guards.mean_norm
    assert mean is not None and 2 < mean < 3
    assert guards.verdict(1.0, 4 * mean + 0.1) == "spike"
    assert guards.mean_norm == mean
    assert guards.verdict(1.0, 4 * mean - 0.1) == "ok"


def test_it_does_not_judge_before_it_has_seen_enough() -> None:
    guards = spikes()
    assert [guards.verdict(1.0, norm) for norm in [1.0] * 9 + [100.0]] == ["ok"] * 10
    mean = guards.mean_norm
    assert mean is not None
    assert guards.verdict(1.0, 5 * mean) == "spike"


def test_the_mean_is_that_of_the_last_steps() -> None:
    decay, norms = 0.9, [float(n * n % 7) for n in range(200)]
    guards = spikes(decay=decay, spike_factor=0)
    for norm in norms:
        guards.verdict(1.0, norm)
    ages = [decay**n for n in range(200)]
    wanted = sum(a * n for a, n in zip(ages, reversed(norms), strict=True)) / sum(ages)
    assert guards.mean_norm == pytest.approx(wanted, rel=1e-12)


def test_too_many_in_a_row_end_the_training() -> None:
    guards = Guards(GuardSettings(max_in_a_row=3), where="runs/one")
    for _ in range(5):  # never three in a row
        guards.verdict(NAN, 1.0)
        guards.verdict(NAN, 1.0)
        guards.verdict(1.0, 1.0)
    guards.verdict(NAN, 1.0)
    guards.verdict(NAN, 1.0)
    with pytest.raises(BudgetError, match=r"runs/one: 3 steps in a row.*not finite") as caught:
        guards.verdict(NAN, 1.0)
    assert "optimizer.lr" in caught.value.mend
    assert guards.counts["non_finite"] == 13


def test_a_gradient_that_stays_high_is_said_not_skipped_for_ever() -> None:
    guards = spikes(max_in_a_row=5)
    for _ in range(10):
        guards.verdict(1.0, 1.0)
    with pytest.raises(BudgetError, match="far above the mean") as caught:
        for _ in range(5):
            guards.verdict(1.0, 50.0)
    assert "spike_factor" in caught.value.mend


def test_gone_on_judges_the_same() -> None:
    def norms(start: int, end: int) -> list[float]:
        return [math.exp(math.sin(n * n)) * (40 if n % 9 == 0 else 1) for n in range(start, end)]

    whole, first, second = spikes(), spikes(), spikes()
    wanted = [whole.verdict(1.0, norm) for norm in norms(0, 80)]
    found = [first.verdict(1.0, norm) for norm in norms(0, 37)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    found += [second.verdict(1.0, norm) for norm in norms(37, 80)]
    assert found == wanted and "spike" in wanted[37:]
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize("wrong", [{"spike_factor": 0.5}, {"max_in_a_row": 0}, {"spikes": 3}])
def test_settings_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        GuardSettings.model_validate(wrong)
