"""The captioner believes nothing that it cannot check: ids, canaries, form, attempts, merging."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curation.captions.asking import IntegrityError
from curation.captions.captioner import Captioner, Clip, Outcome
from curation.captions.frames import as_jpeg, windows
from curation.captions.prompts import load_prompt
from curation.captions.request import Frame, Reply, Request
from tests.captions.scripted import COLOURS, Deed, ScriptedBackend, describe


def plain(colour: str, time_s: float) -> Frame:
    """A picture of one colour."""
    rgb = np.array(COLOURS[colour], np.uint8)
    return Frame(time_s, as_jpeg(np.broadcast_to(rgb[::-1], (48, 64, 3)).copy()))


def clip_of(colour: str, duration_s: float = 4.0, window_s: float | None = None) -> Clip:
    """A clip of one colour, a frame per second."""
    frames = [plain(colour, float(i)) for i in range(int(duration_s))]
    shown = tuple(windows(frames, duration_s, window_s))
    return Clip(clip_id=f"clip-{colour}", duration_s=duration_s, windows=shown, told=("Told.",))


CLIPS = [clip_of(c) for c in ("red", "green", "blue", "yellow")]


class Kept:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}

    def get(self, key: str) -> Reply | None:
        return self.replies.get(key)

    def put(self, key: str, reply: Reply) -> None:
        self.replies[key] = reply

    def remove(self, key: str) -> None:
        self.replies.pop(key, None)


def captions(
    backend: ScriptedBackend,
    clips: list[Clip] = CLIPS,
    *,
    attempts: int = 3,
    num_canaries: int = 2,
    ledger: Kept | None = None,
) -> list[Outcome]:
    """What a captioner makes of some clips."""
    captioner = Captioner(
        backend,
        load_prompt("caption-1"),
        attempts=attempts,
        num_canaries=num_canaries,
        ledger=ledger,
    )
    return list(captioner.caption(clips))


def test_each_clip_gets_its_own_caption() -> None:
    backend = ScriptedBackend()
    found = captions(backend)
    assert [o.clip_id for o in found] == [c.clip_id for c in CLIPS]
    for outcome in found:
        assert outcome.caption is not None and outcome.code is None
        assert outcome.caption.short == f"A {outcome.clip_id.removeprefix('clip-')} picture."
        assert (outcome.attempts, outcome.repaired, outcome.busy_s) == (1, False, 0.5)
        assert (outcome.input_tokens, outcome.output_tokens) == (7, 3)
    assert len(backend.asked) == len(CLIPS) + 2


def test_a_canary_asks_what_the_clips_are_asked() -> None:
    """A backend cannot tell it apart by its question, its size or its place."""
    backend = ScriptedBackend()
    captions(backend)
    ours = {c.clip_id for c in CLIPS}
    birds = [r for r in backend.asked if r.request_id.partition("/")[0] not in ours]
    real = [r for r in backend.asked if r not in birds]
    assert {r.system for r in birds} == {r.system for r in real}
    assert {str(r.schema) for r in birds} == {str(r.schema) for r in real}
    first, second = (" ".join(r.prompt.split()[:8]) for r in (birds[0], real[0]))
    assert first == second


@pytest.mark.parametrize("num_clips", [1, 2, 3, 4])
@pytest.mark.parametrize("deed", ["rotate", "drop", "twice", "stranger", "blind"])
def test_a_backend_that_mixes_things_up_is_found_out(deed: Deed, num_clips: int) -> None:
    with pytest.raises(IntegrityError):
        captions(ScriptedBackend(deed), CLIPS[:num_clips])


def test_a_swap_of_two_answers_is_found_when_a_canary_is_one_of_them() -> None:
    caught = 0
    for i in range(24):
        clips = [Clip(**{**c.__dict__, "clip_id": f"{c.clip_id}-{i}"}) for c in CLIPS]
        try:
            captions(ScriptedBackend("swap"), clips)
        except IntegrityError:
            caught += 1
    # 6 requests, 2 of them canaries: a given pair holds one with probability 9 of 15.
    assert 8 <= caught <= 21


def test_without_canaries_only_ids_are_looked_at() -> None:
    found = captions(ScriptedBackend("rotate"), num_canaries=0)
    assert all(o.caption is not None for o in found)


@pytest.mark.parametrize("deed", ["garbage", "refuse"])
def test_an_unusable_answer_is_asked_for_again_with_the_reason(deed: Deed) -> None:
    backend = ScriptedBackend(deed, times=2)
    found = captions(backend)
    assert all(o.caption is not None and o.attempts == 3 for o in found)
    assert all(o.input_tokens == 21 and o.busy_s == 1.5 for o in found)
    prompts = {r.attempt: r.prompt for r in backend.asked if r.request_id == "clip-red/0"}
    why = {"garbage": "no JSON object", "refuse": "refusal"}[deed]
    assert "could not be used" not in prompts[1] and why in prompts[2]
    assert prompts[3].count("could not be used") == 1  # it does not grow


@pytest.mark.parametrize("deed", ["garbage", "refuse"])
def test_what_stays_unusable_is_an_error_of_that_clip(deed: Deed) -> None:
    found = captions(ScriptedBackend(deed), attempts=2)
    assert {o.code for o in found} == {"caption_invalid"} and found[0].attempts == 2
    assert all("in 2 attempts" in o.message and o.caption is None for o in found)


def test_a_failing_backend_fails_the_clips_and_distrusts_nobody() -> None:
    found = captions(ScriptedBackend("fail"))
    assert {(o.code, o.message) for o in found} == {("caption_backend", "it is down")}


def test_windows_are_described_one_by_one_and_joined() -> None:
    backend = ScriptedBackend()
    (found,) = captions(backend, [clip_of("blue", 10.0, window_s=4.0)])
    assert found.caption is not None and found.caption.short == "Joined from 3 stretches."
    spans = [(e.start_s, e.end_s) for e in found.caption.events]
    assert spans == [(0.0, 3.333), (3.333, 6.667), (6.667, 10.0)]
    assert found.input_tokens == 28
    joining = [r for r in backend.asked if r.request_id.endswith("/merge")]
    assert len(joining) == 1 and "3.3-6.7 s: The picture is blue" in joining[0].prompt


def test_a_killed_run_pays_for_no_answer_twice() -> None:
    ledger = Kept()
    captions(ScriptedBackend(), ledger=ledger)
    again = ScriptedBackend()
    found = captions(again, ledger=ledger)
    assert again.asked == [] and all(o.caption is not None for o in found)
    ours = {c.clip_id for c in CLIPS}
    kept = dict(list(ledger.replies.items())[:4])
    ledger.replies = dict(kept)
    captions(again, ledger=ledger)
    # The canaries go anew with what is missing, to vouch for it.
    clips = sum(r.request_id.partition("/")[0] in ours for r in kept.values())
    assert clips < 4 and len(again.asked) == (4 - clips) + 2 and len(ledger.replies) == 6


def test_what_no_canary_vouched_for_before_the_kill_is_asked_for_again() -> None:
    """A bad server is killed before its canaries are back; a good one must not vouch for it."""
    ledger, wrong = Kept(), ScriptedBackend()
    captions(wrong, ledger=ledger)
    ours = {c.clip_id for c in CLIPS}
    lies = {k: r for k, r in ledger.replies.items() if r.request_id.partition("/")[0] in ours}
    ledger.replies = {k: replace(r, text=describe(wrong.asked[0])) for k, r in lies.items()}
    found = captions(ScriptedBackend(), ledger=ledger)
    assert [o.caption.short for o in found if o.caption] == [
        f"A {c.clip_id.removeprefix('clip-')} picture." for c in CLIPS
    ]


def test_a_canary_of_an_earlier_run_does_not_vouch_for_new_answers() -> None:
    ledger = Kept()
    captions(ScriptedBackend(), ledger=ledger)
    first_clip = next(k for k, r in ledger.replies.items() if r.request_id == "clip-red/0")
    del ledger.replies[first_clip]
    with pytest.raises(IntegrityError):
        captions(ScriptedBackend("blind"), ledger=ledger)
    assert ledger.replies == {}


def test_answers_of_a_distrusted_batch_are_forgotten() -> None:
    ledger = Kept()
    with pytest.raises(IntegrityError):
        captions(ScriptedBackend("rotate"), ledger=ledger)
    assert ledger.replies == {}


class GarbageToCanaries(ScriptedBackend):
    """Answers canaries with garbage so many times; clips always well."""

    def _text(self, request: Request) -> str:
        ours = request.request_id.partition("/")[0] in {c.clip_id for c in CLIPS}
        asked = sum(r.request_id == request.request_id for r in self.asked)
        return super()._text(request) if ours or asked > self.times else "well, well"


def test_garbage_about_a_canary_is_asked_for_again_but_not_for_ever() -> None:
    backend = GarbageToCanaries(times=2)
    found = captions(backend)
    assert all(o.caption is not None and o.attempts == 1 for o in found)
    assert len(backend.asked) == len(CLIPS) + 3 * 2
    with pytest.raises(IntegrityError, match="well, well"):
        captions(GarbageToCanaries(times=3))


class SilentToCanaries(ScriptedBackend):
    """Answers clips, and fails on whatever else it is asked."""

    def answer(self, requests, beat=lambda: None):  # noqa: ANN001, ANN201 - as its base
        ours = {c.clip_id for c in CLIPS}
        for reply in super().answer(requests, beat):
            known = reply.request_id.partition("/")[0] in ours
            lost = Reply(request_id=reply.request_id, code="caption_backend", message="500")
            yield reply if known else lost


def test_nothing_is_believed_that_no_canary_vouches_for() -> None:
    ledger = Kept()
    found = captions(SilentToCanaries(), ledger=ledger)
    assert {o.code for o in found} == {"caption_backend"} and "canaries" in found[0].message
    next_run = ScriptedBackend()
    found = captions(next_run, ledger=ledger)
    assert len(next_run.asked) == 6 and all(o.caption is not None for o in found)


def test_a_mix_up_that_the_backend_sees_itself_condemns_the_batch() -> None:
    class Honest(ScriptedBackend):
        def answer(self, requests, beat=lambda: None):  # noqa: ANN001, ANN202 - as its base
            *good, last = super().answer(requests, beat)
            yield from good
            yield replace(last, text=None, code="caption_gate", message="not my request")

    ledger = Kept()
    with pytest.raises(IntegrityError, match="not my request"):
        captions(Honest(), ledger=ledger)
    assert ledger.replies == {}


def test_a_prompt_with_a_rule_stays_whole_when_it_is_asked_again(tmp_path: Path) -> None:
    own = tmp_path / "own.md"
    own.write_text("# user\nLook.\n\n---\nAnswer in JSON.\n")
    backend = ScriptedBackend("garbage", times=1)
    list(Captioner(backend, load_prompt(str(own))).caption(CLIPS))
    again = next(r for r in backend.asked if r.attempt == 2 and r.request_id == "clip-red/0")
    assert again.prompt.startswith("Look.\n\n---\nAnswer in JSON.\n\n---\n")
