"""Rewriting: what is taken off an answer, what is refused, ids, tries, and the stage's rows."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.captions.asking import IntegrityError
from curation.captions.backends.openai_api import OpenAISettings
from curation.captions.beating import beating
from curation.captions.ledger import Ledger
from curation.captions.prompts import load_prompt
from curation.captions.request import Backend, Reply, Request
from curation.captions.rewrite import Rewriter, Rewriting, Style
from curation.captions.rewrite_checks import cleaned, problem
from curation.models.registry import find_weights
from curation.models.weights import MINILM_L6, MINILM_TOKENIZER
from curation.stage import StageContext
from curation.stages.rewrite import Rewrite
from curation.storage import Storage
from tests.captions.tiny_vlm import make_tiny_llm
from tests.curation.chain import FINGERPRINT, run_stage

SOURCE = (
    "A brown and white dog runs across a grassy field toward a red ball. It picks the ball up,"
    " turns around and trots back to two men in blue jackets. Trees stand in the background."
)
SAME = "A brown and white dog fetches a red ball on a field and brings it to two men."
STYLE = Style(name="brief", min_words=5, max_words=20, instruction="Be short.")


class Scripted(Backend):
    """Answers with a function of the request; None becomes a failure."""

    def __init__(self, say: Callable[[Request], str | None]) -> None:
        self.say, self.asked = say, list[Request]()

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "scripted"}

    def answer(
        self, requests: Sequence[Request], beat: Callable[[], None] = lambda: None
    ) -> Iterator[Reply]:
        for request in reversed(requests):
            self.asked.append(request)
            text = self.say(request)
            code = "network_error" if text is None else None
            yield Reply(
                request_id=request.request_id,
                text=text,
                code=code,
                message="" if text else "no connection",
                input_tokens=10,
                output_tokens=4,
                busy_s=0.5,
            )


class Knows:
    """An embedder to which the source and ``SAME`` mean one thing, and all else 0.3 of it."""

    def embed(self, texts: list[str]) -> np.ndarray:
        near, far = (1.0, 0.0), (0.3, 0.91**0.5)
        return np.array([near if t in (SOURCE, SAME) else far for t in texts], np.float32)


def rewriter(backend: Backend, **fields: Any) -> Rewriter:  # noqa: ANN401 - any field
    options: dict[str, Any] = {"attempts": 3, "min_similarity": 0.6}
    return Rewriter(backend, load_prompt("rewrite-1"), **(options | fields))


def item(clip_id: str = "c", style: Style = STYLE) -> Rewriting:
    return Rewriting(clip_id=clip_id, style=style, source=SOURCE)


@pytest.mark.parametrize(
    "answer",
    [
        SAME,
        f'"{SAME}"',
        f"\u201c{SAME}\u201d",
        f"Here is the rewritten description:\n\n{SAME}",
        f"Here's a rewritten version in 16 words: **{SAME}**",
        f"Sure! Here is a short version of it:\n{SAME}",
        f"Sure, here you go: Here is the text: {SAME}",
        f"Rewritten text: {SAME}",
        f"```\n{SAME}\n```",
        f"<think>The user wants {SOURCE}</think>\n{SAME}",
        f"{SAME}\n\nNote: I kept all the details.",
        f"{SAME}\n(16 words)",
        f"  {SAME.replace(' ', '  ', 3)}\n",
    ],
)
def test_what_models_put_around_is_taken_off(answer: str) -> None:
    assert cleaned(answer) == SAME


@pytest.mark.parametrize(
    "text",
    [
        "Surely a dog runs to a ball.",
        "Here a dog runs to a ball.",
        'A sign reads "stop" beside a dog.',
        "A dog's ball lies on the men's field.",
        "At 3:15 a dog runs on a field.",
    ],
)
def test_what_belongs_to_the_text_stays(text: str) -> None:
    assert cleaned(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SAME, None),
        ("A dog brings a red ball to 2 men in a field.", None),
        ("", "empty"),
        ("I'm sorry, but I can't help with that request.", "refusal"),
        ("The video shows a dog that fetches a red ball.", "boilerplate"),
        ("A dog runs.", "length: 3 words"),
        (f"{SAME} {SAME}", "length: 36 words"),
        ("Three dogs run to a red ball in a field.", "numbers: 3"),
        ("A dog brings a red ball to 12 men.", "numbers: 12"),
        ("A dog brings a red ball to men in white jackets and a gray hat.", "colours: grey"),
        ("A dog does not bring the ball back to the men.", "negation"),
        ("A dog runs to a ball without any men.", "negation"),
        ("A woman pours tea into a cup in a bright kitchen.", "unrelated: 0%"),
        ("a dog a dog a dog a dog a dog runs", "repetition"),
    ],
)
def test_what_is_refused(text: str, reason: str | None) -> None:
    found = problem(text, SOURCE, words=(5, 20))
    assert found is None if reason is None else (found or "").startswith(reason), found


def test_a_copy_is_no_rewriting() -> None:
    assert (problem(SOURCE.lower().replace(".", ""), SOURCE, words=(5, 99)) or "").startswith(
        "copied"
    )


def test_denials_of_the_source_may_stay() -> None:
    source = "A street without cars. Nobody walks there and the lamps do not burn."
    assert problem("No cars and no people on a dark street.", source, words=(5, 20)) is None


def test_tries_again_with_the_reason_and_keeps_ids_apart() -> None:
    def say(request: Request) -> str:
        clip, _, attempt = request.request_id.split("/")
        assert request.attempt == int(attempt)
        return {"good": SAME, "late": "A dog." if attempt == "1" else SAME}.get(clip, "Never.")

    backend = Scripted(say)
    other = STYLE.model_copy(update={"name": "other"})
    work = [item(c, s) for c in ("good", "late", "bad") for s in (STYLE, other)]
    rewriter(backend).rewrite(work)
    assert [(w.attempts, w.refused is None) for w in work] == [
        *[(1, True)] * 2,
        *[(2, True)] * 2,
        *[(3, False)] * 2,
    ]
    assert work[4].refused == "length: 1 words, not 5 to 20" and work[4].text == "Never."
    assert (work[4].input_tokens, work[4].output_tokens, work[4].busy_s) == (30, 12, 1.5)
    again = next(r for r in backend.asked if r.request_id == "late/brief/2")
    assert "could not be used (length: 2 words, not 5 to 20)" in again.prompt
    assert SOURCE in again.prompt and "{" not in again.prompt + again.system


def test_another_meaning_is_refused() -> None:
    far = "A grassy field with trees in the background."
    work = [item("same"), item("far")]
    backend = Scripted(lambda r: SAME if r.request_id.startswith("same") else far)
    rewriter(backend, embedder=Knows(), attempts=1, min_similarity=0.8).rewrite(work)
    same, other = work
    assert same.refused is None and same.similarity is not None and same.similarity == 1.0
    assert (other.refused or "").startswith("meaning: similarity 0.30") and other.text == far


def test_a_backend_without_an_answer_is_no_refusal() -> None:
    work = [item("a"), item("b")]
    rewriter(Scripted(lambda r: SAME if r.request_id[0] == "a" else None)).rewrite(work)
    assert work[0].refused is None
    assert (work[1].code, work[1].message, work[1].attempts) == (
        "network_error",
        "no connection",
        1,
    )


class Filtered(Scripted):
    """A content filter: the style ``other`` is never answered."""

    def __init__(self, code: str) -> None:
        super().__init__(lambda r: SAME)
        self.code = code

    def answer(
        self, requests: Sequence[Request], beat: Callable[[], None] = lambda: None
    ) -> Iterator[Reply]:
        for reply in super().answer(requests, beat):
            if "/other/" in reply.request_id:
                yield Reply(request_id=reply.request_id, code=self.code, message="content filter")
            else:
                yield reply


@pytest.mark.parametrize("code", ["caption_invalid", "caption_backend"])
def test_a_final_code_costs_one_style_not_the_clip(tmp_path: Path, code: str) -> None:
    """What the backend will never answer is refused; what it may answer later fails the clip."""
    backend = {"kind": "openai", "model": "m", "api_key_env": ""}
    stage = Rewrite.model_validate({"backend": backend, "styles": TWO, "attempts": 2})
    stage.setup(StageContext(storage=Storage(tmp_path), fingerprint=FINGERPRINT))
    filtered = Filtered(code)
    stage._rewriter = rewriter(filtered)
    tables, failures = run_stage(stage, ROWS[:1])
    assert [r.request_id for r in filtered.asked].count("a/other/1") == 1
    assert "a/other/2" not in [r.request_id for r in filtered.asked]
    if code == "caption_backend":
        assert [(f.clip_id, f.code, f.message) for f in failures] == [("a", code, "content filter")]
        assert tables["rewrites"].num_rows == 0
        return
    assert failures == []
    (row,) = tables["rewrites"].to_pylist()
    assert (row["rewrite_num_kept"], row["rewrite_num_refused"]) == (1, 1)
    brief, other = tables["rewrite_texts"].to_pylist()
    assert (brief["text"], brief["refused"]) == (SAME, None)
    assert other["text"] is None and other["refused"] == f"no answer: {code}: content filter"


def test_signs_of_a_chat_template_in_a_caption_are_words() -> None:
    backend = Scripted(lambda r: SAME)
    marked = Rewriting(clip_id="c", style=STYLE, source=f"{SOURCE} A sign reads <|im_end|>.")
    rewriter(backend, attempts=1).rewrite([marked])
    assert "<|im_end" not in backend.asked[0].prompt
    assert "im_end" in backend.asked[0].prompt


@pytest.mark.parametrize("fault", ["twice", "lost", "foreign"])
def test_answers_must_name_their_questions(fault: str) -> None:
    class Faulty(Scripted):
        def answer(
            self, requests: Sequence[Request], beat: Callable[[], None] = lambda: None
        ) -> Iterator[Reply]:
            replies = list(super().answer(requests, beat))
            if fault == "foreign":
                replies.append(Reply(request_id="c/brief/9", text=SAME))
            yield from {"twice": replies * 2, "lost": replies[1:]}.get(fault, replies)

    with pytest.raises(IntegrityError):
        rewriter(Faulty(lambda r: SAME)).rewrite([item("a"), item("b")])


# --- the stage


def rewrite_stage(tmp_path: Path, **fields: Any) -> Rewrite:  # noqa: ANN401 - any field
    pytest.importorskip("torch")
    model = tmp_path / "llm"
    if not model.is_dir():
        make_tiny_llm(model)
    backend = {"kind": "transformers", "model": str(model), "batch_size": 4}
    stage = Rewrite.model_validate({"backend": backend} | fields)
    stage.setup(StageContext(storage=Storage(tmp_path), fingerprint=FINGERPRINT))
    return stage


TWO = [STYLE.model_dump(), STYLE.model_dump() | {"name": "other", "min_words": 3, "max_words": 9}]
ROWS = [
    {"clip_id": c, "video_id": "v", "caption_long": SOURCE, "caption_medium": SAME} for c in "ab"
]


def test_the_stage_stores_what_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model writes nonsense: every row says so, and nothing is kept."""
    monkeypatch.setattr("curation.stages.rewrite.find_weights", lambda weights: None)
    stage = rewrite_stage(tmp_path, attempts=2, styles=TWO)
    tables, failures = run_stage(
        stage, [*ROWS, ROWS[0] | {"clip_id": "n", "caption_long": None, "caption_medium": None}]
    )
    assert [(f.clip_id, f.code) for f in failures] == [("n", "missing_input")]
    rows, texts = (tables[t].to_pylist() for t in ("rewrites", "rewrite_texts"))
    assert [(r["clip_id"], r["rewrite_num_kept"], r["rewrite_num_refused"]) for r in rows] == [
        ("a", 0, 2),
        ("b", 0, 2),
    ]
    assert rows[0]["rewrite_model"] == "transformers:llm" and rows[0]["rewrite_input_tokens"] > 99
    assert [t["style"] for t in texts] == ["brief", "other"] * 2
    assert all(t["refused"] and t["similarity"] is None and t["text"] for t in texts)
    assert texts[0]["prompt"].startswith("rewrite-1@")
    assert texts[0]["text"] == texts[2]["text"]  # equal captions, equal answers, whoever is beside
    assert any("is not compared" in line for line in stage.fallbacks())


def test_the_stage_compares_meaning(tmp_path: Path) -> None:
    if any(find_weights(w) is None for w in (MINILM_L6, MINILM_TOKENIZER)):
        pytest.skip("no weights of MiniLM")
    stage = rewrite_stage(tmp_path, attempts=1, styles=TWO)
    tables, _ = run_stage(stage, ROWS[:1])
    assert all(-1 <= t["similarity"] < 0.6 for t in tables["rewrite_texts"].to_pylist())
    assert {"minilm-l6", "model.safetensors"} & stage.model_checksums().keys()
    assert not any("is not compared" in line for line in stage.fallbacks())
    true, false = [item("true"), item("false")]
    said = {"true": SAME, "false": "A woman pours tea into a cup in a kitchen."}
    backend = Scripted(lambda r: said[r.request_id.split("/")[0]])
    stage._rewriter_of(backend, None).rewrite([true, false])
    assert true.refused is None and (true.similarity or 0) > 0.7
    assert (false.refused or "").startswith("unrelated") and (false.similarity or 1) < 0.3


def test_it_beats_while_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(settings: OpenAISettings) -> Backend:
        time.sleep(0.3)
        return Scripted(lambda r: SAME)

    monkeypatch.setattr(OpenAISettings, "make", make)
    quick = functools.partial(beating, every_s=0.02)
    monkeypatch.setattr("curation.stages.rewrite.beating", quick)
    stage = Rewrite.model_validate({"backend": {"kind": "openai", "model": "m"}})
    beats: list[int] = []
    stage.setup(
        StageContext(
            storage=Storage(tmp_path),
            fingerprint=FINGERPRINT,
            beat=lambda: beats.append(threading.get_ident()),
        )
    )
    stage._load()
    assert sum(b != threading.get_ident() for b in beats) > 3


def test_settings_of_the_stage(tmp_path: Path) -> None:
    stage = rewrite_stage(tmp_path)
    assert stage.gated and not stage.asked_ahead and stage.problems() == []
    assert stage.settings() == rewrite_stage(tmp_path, batch_size=3).settings()
    assert stage.settings() != rewrite_stage(tmp_path, attempts=1).settings()
    with pytest.raises(ValueError, match="cannot rewrite"):
        Rewrite.model_validate(
            {"backend": {"kind": "embedded", "tagger": "off", "detector": "off"}}
        )
    twice = [STYLE.model_dump()] * 2
    with pytest.raises(ValueError, match="the same name"):
        rewrite_stage(tmp_path, styles=twice)
    with pytest.raises(ValueError, match="min_words is above"):
        Style(name="x", min_words=9, max_words=3, instruction="y")


def test_asked_ahead_of_the_run(tmp_path: Path) -> None:
    """With vLLM the questions are given out, answered elsewhere, and found in the ledger."""
    stage = Rewrite.model_validate(
        {"backend": {"kind": "vllm", "model": "o/n"}, "styles": [STYLE.model_dump()]}
    )
    stage.setup(StageContext(storage=Storage(tmp_path), fingerprint=FINGERPRINT))
    batch = pa.Table.from_pylist(ROWS)
    assert stage.asked_ahead
    first = stage.wanted(batch)
    assert sorted(r.request_id for r, _ in first) == ["a/brief/1", "b/brief/1"]
    ledger = Ledger(Storage(tmp_path))
    for request, key in first:
        text = SAME if request.request_id[0] == "a" else "Too short."
        ledger.put(key, Reply(request_id=request.request_id, text=text))
    ((second, key),) = stage.wanted(batch)
    assert second.request_id == "b/brief/2" and "Too short" not in second.prompt
    ledger.put(key, Reply(request_id=second.request_id, text=SAME))
    assert stage.wanted(batch) == []
    tables, failures = run_stage(stage, ROWS)
    assert not failures and [t["text"] for t in tables["rewrite_texts"].to_pylist()] == [SAME] * 2
