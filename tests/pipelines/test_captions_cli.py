"""Reading captions, looking at them, their cost, and their part of the report page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.errors import CatalogError, ConfigError
from pipelines.captions_cli import app
from pipelines.captions_sheet import sampled_frames, wrapped
from pipelines.report.captions import caption_stats, gate_rows
from pipelines.report.page import write_page
from pipelines.strip.canvas import NORMAL, text_width
from tests.faults.helpers import catalog_of, make_videos, query, run
from tests.pipelines.page_parts import Page
from tests.shards.caption_stages import EVIL, STAGES, without_captioning

PRICE = {"input_per_mtok": 1.0, "output_per_mtok": 10.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, with a hostile name and caption; 11 kept clips, 2 of them with faults."""
    folder = tmp_path_factory.mktemp("told")
    one, two = make_videos(folder / "in", 2)
    one = one.rename(one.with_name("<b>v0.mp4"))
    one.with_suffix(".txt").write_text(f"given {EVIL}")
    two.with_suffix(".srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nHello.\n")
    assert run([one, two], folder / "out", stages=STAGES, **without_captioning()).balanced
    return folder / "out"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of which nothing is said."""
    folder = tmp_path_factory.mktemp("untold")
    (video,) = make_videos(folder / "in", 1)
    assert run(video, folder / "out", **without_captioning()).balanced
    return folder / "out"


@pytest.fixture
def paid(root: Path, tmp_path: Path) -> Path:
    """The same, written by a model that counts tokens and has a price."""
    out = Path(shutil.copytree(root, tmp_path / "out"))
    table = catalog_of(out).dataset("captions")
    table.update(
        {
            "caption_backend": "'openai'",
            "caption_model": "'openai:m'",
            "caption_prompt": "'caption-1@0123456789ab'",
            "caption_input_tokens": "1000",
            "caption_output_tokens": "100",
        }
    )
    return out


def call(*arguments: str | Path) -> str:
    """What a command prints; its failure is raised."""
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def data(*arguments: str | Path) -> Any:  # noqa: ANN401 - JSON
    return json.loads(call(*arguments, "--json"))


def test_show_gives_texts_facts_faults_and_writer(root: Path) -> None:
    clips = data("show", root, "--limit", "100")
    assert len(clips) == query(root, "SELECT count(*) n FROM clips WHERE verdict='kept'")[0]["n"]
    assert [(c["file"], c["start_s"]) for c in clips] == sorted(
        (c["file"], c["start_s"]) for c in clips
    )
    first = clips[0]
    assert first["file"] == "<b>v0.mp4" and first["default"] == "given"
    assert [c["kind"] for c in first["captions"]][:3] == ["given", "short", "medium"]
    assert first["checks"]["flags"] == ["hedging"]
    assert first["about"] == {"camera": "still", "subjects": ["a texture"]}
    assert first["writer"]["model"] == "embedded:test" and first["writer"]["attempts"] == 2
    assert first["facts"]["luma_mean"] > 0 and first["told"][0].startswith("The clip lasts")
    text = call("show", root, "--limit", "1")
    for words in (
        "flag: hedging",
        "measured bright",
        "* given",
        "no vision-language model",
        "kept",
    ):
        assert words in " ".join(text.split())


def test_show_finds_a_clip_by_the_start_of_its_id_and_those_with_faults(root: Path) -> None:
    wanted = data("show", root)[3]["clip_id"]
    assert [c["clip_id"] for c in data("show", root, "--clip", wanted[:12])] == [wanted]
    faulty = data("show", root, "--flagged")
    assert len(faulty) == 2 and all(c["checks"]["flags"] for c in faulty)
    with pytest.raises(CatalogError, match="no clip has an id that begins so"):
        call("show", root, "--clip", "' OR true --")


@pytest.mark.parametrize("command", [["show"], ["stats"], ["sheet", "x.png"]])
def test_a_root_without_captions_says_how_to_get_them(
    plain: Path, tmp_path: Path, command: list[str]
) -> None:
    name, *rest = command
    with pytest.raises(CatalogError, match="has no captions") as caught:
        call(name, plain, *rest)
    assert "caption={}" in caught.value.mend
    with pytest.raises(CatalogError, match="no clipmill dataset here"):
        call(name, tmp_path, *rest)


def test_the_sheet_is_a_picture_with_frames_and_texts(root: Path, tmp_path: Path) -> None:
    told = data("sheet", root, tmp_path / "s.png", "--limit", "3")
    image = cv2.imread(str(tmp_path / "s.png"))
    assert image is not None and len(told["clip_ids"]) == 3
    assert float(np.std(image[90:180, 30:200])) > 10, "a frame"
    text = image[62:, 1120:]
    assert (text.min(axis=2) < 120).sum() > 500, "texts beside it"
    call("sheet", root, tmp_path / "f.png", "--flagged")
    faulty = cv2.imread(str(tmp_path / "f.png"))
    assert faulty is not None
    marked = (faulty[..., 2] > 150) & (faulty[..., 0] < 110) & (faulty[..., 1] < 90)
    assert marked[:, 1120:].sum() > 50, "faults in red"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.png", "s.png"]


def test_the_page_of_the_sheet_stands_alone_and_escapes(root: Path, tmp_path: Path) -> None:
    call("sheet", root, tmp_path / "s.html", "--limit", "100")
    page = Page((tmp_path / "s.html").read_text())
    assert page.named("script") == [] and EVIL in page.text and EVIL not in page.html
    assert "<b>v0.mp4" in page.text and "hedging" in page.text and "measured bright" in page.text
    sources = {(a["src"] or "")[:23] for a in page.named("img")}
    assert sources == {"data:image/jpeg;base64,"}
    assert "http" not in page.html.replace("http-equiv", "")
    assert "no vision-language model" in page.text


def test_frames_are_spread_over_the_clip_or_the_nearest(root: Path) -> None:
    views = Views(catalog_of(root))
    clip = query(root, "SELECT video_id, start_s, end_s FROM clips ORDER BY uri, start_s LIMIT 1")[
        0
    ]
    whole = sampled_frames(views, clip | {"start_s": 0.0, "end_s": 99.0}, 4)
    times = [f.time_s for f in whole]
    assert len(times) == 4 and times == sorted(times) and times[0] == 0.0
    (nearest,) = sampled_frames(views, clip | {"start_s": 50.0, "end_s": 51.0})
    assert nearest.time_s == times[-1]
    assert sampled_frames(views, clip | {"video_id": "none"}) == []


@pytest.mark.parametrize("name", ["s.gif", "no/s.png"])
def test_a_sheet_that_cannot_be_written_is_told(root: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        call("sheet", root, tmp_path / name)


def test_long_texts_are_wrapped_to_their_width() -> None:
    lines = wrapped("a few words and Donaudampfschifffahrtsgesellschaft" * 3, 150)
    assert all(text_width(line, NORMAL) <= 150 for line in lines)
    assert "".join(lines).replace(" ", "") == (
        "afewwordsandDonaudampfschifffahrtsgesellschaft" * 3
    ).replace(" ", "")
    assert wrapped("  ", 100) == []


def test_stats_count_what_is_in_the_rows(root: Path) -> None:
    stats = data("stats", root)
    rows = query(root, "SELECT * FROM captions")
    assert stats["num_captioned"] == stats["num_kept"] == len(rows)
    (writer,) = stats["writers"]
    assert writer["num_clips"] == len(rows) and writer["current"]
    assert writer["num_asked_again"] == 2 and writer["num_repaired"] == 2
    assert writer["num_counted"] == 0 and writer["money"] is None
    long = [len(r["caption_long"].split()) for r in rows if r["caption_long"].strip()]
    lengths = {row["kind"]: row for row in stats["lengths"]}
    assert lengths["long"]["num_clips"] == len(long)
    assert lengths["long"]["words_p50"] == np.quantile(long, 0.5)
    checks = stats["checks"]
    assert (checks["num_flagged"], checks["num_contradicted"]) == (2, 2)
    assert [(f["name"], f["num_clips"]) for f in checks["flags"]] == [("hedging", 2)]
    assert checks["flags"][0]["examples"][0]["text"].startswith("This is clip 0.")
    values = [r["caption_alignment"] for r in query(root, "SELECT * FROM caption_checks")]
    assert checks["alignment"]["p50"] == pytest.approx(np.quantile(values, 0.5), abs=1e-4)
    texts = [r["caption_medium"] for r in rows]
    twice = {t for t in texts if texts.count(t) > 1}
    assert stats["duplicates"]["num_texts"] == len(twice)
    assert stats["duplicates"]["num_clips"] == sum(texts.count(t) for t in twice)
    speech = {row["source"]: row for row in stats["speech"]}
    assert speech["sidecar"]["num_with_words"] > 0 and speech["none"]["num_cues"] == 0
    assert {row["style"] for row in stats["styles"]} == {"poem", "tags"}
    text = call("stats", root)
    assert "the embedded captioner; measured, no vision-language model" in " ".join(text.split())


def test_stats_know_the_price_of_what_was_counted(paid: Path) -> None:
    catalog = catalog_of(paid)
    config = {"caption": {"backend": {"kind": "openai", "price": PRICE}}}
    stats = caption_stats(catalog, Views(catalog), config)
    assert stats is not None
    (writer,) = stats["writers"]
    n = writer["num_clips"]
    assert (writer["num_counted"], writer["input_tokens"]) == (n, 1000 * n)
    assert writer["money"] == pytest.approx(n * (1000 * 1 + 100 * 10) / 1e6)
    assert writer["currency"] == "USD"
    catalog.dataset("captions").update({"fingerprint": "'old'"})
    earlier = caption_stats(catalog, Views(catalog), config)
    assert earlier is not None and earlier["num_captioned"] == 0
    (writer,) = earlier["writers"]
    assert not writer["current"] and writer["money"] is None and writer["input_tokens"] == 1000 * n


OPENAI = (
    "stages=[]",
    *("caption.backend.kind=openai", "caption.backend.model=m", "caption.batch_size=4"),
    "caption.backend.price={input_per_mtok: 1.0, output_per_mtok: 10.0}",
)


def test_an_estimate_counts_clips_requests_and_money(root: Path) -> None:
    found = data("estimate", root, *OPENAI, "caption={}", *OPENAI[1:])
    kept = query(root, "SELECT * FROM clips WHERE verdict = 'kept'")
    assert found["num_clips"] == found["num_kept"] == len(kept) and found["num_done"] == 0
    assert found["clip_s"] == pytest.approx(sum(c["end_s"] - c["start_s"] for c in kept), abs=1e-3)
    per_video = {c["video_id"]: 0 for c in kept}
    for c in kept:
        per_video[c["video_id"]] += 1
    batches = sum(-(-n // 4) for n in per_video.values())
    made = found["estimate"]
    assert made["requests"][0] == len(kept) + 2 * batches, "two canaries with every batch"
    assert made["requests"][1] > made["requests"][0]
    for end in (0, 1):
        money = (made["input_tokens"][end] * 1 + made["output_tokens"][end] * 10) / 1e6
        assert made["money"][end] == pytest.approx(money, abs=2e-4)
    text = call("estimate", root, *OPENAI[:1], "caption={}", *OPENAI[1:])
    assert re.search(r"money: [\d.]+ to [\d.]+ USD", text)
    unpriced = data("estimate", root, "stages=[]", "caption={}", *OPENAI[1:3])
    assert unpriced["estimate"]["money"] is None


def test_an_estimate_leaves_out_what_is_done_and_tells_what_was_measured(paid: Path) -> None:
    changes = ("stages=[]", "caption={}", *OPENAI[1:])
    fingerprint = data("estimate", paid, *changes)["fingerprint"]
    rows = query(paid, "SELECT clip_id FROM captions ORDER BY clip_id")
    from pipelines.captions_estimate import estimate_captions
    from pipelines.config import load_config
    from pipelines.redo import stored_config

    catalog = catalog_of(paid)
    base = stored_config(catalog) | {"caption": {"backend": {}}}
    config = load_config(None, list(changes), base=base)
    whole = config.plan().fingerprints()["caption"]
    assert whole.startswith(fingerprint)
    done = ", ".join(f"'{r['clip_id']}'" for r in rows[:4])
    catalog.dataset("captions").update({"fingerprint": f"'{whole}'"}, where=f"clip_id IN ({done})")
    found = estimate_captions(str(paid), config)
    assert found["num_done"] == 4 and found["num_clips"] == len(rows) - 4
    assert found["measured"]["num_clips"] == len(rows)
    assert found["measured"]["input_tokens"] == 1000
    left = found["num_clips"]
    assert found["expected"]["input_tokens"] == 1000 * left
    assert found["expected"]["money"] == pytest.approx(left * 2000 / 1e6)


def test_an_estimate_of_the_embedded_captioner_has_no_tokens(root: Path) -> None:
    found = data("estimate", root, "stages=[]", "caption={}")
    assert found["estimate"] is None and found["num_clips"] == found["num_kept"]
    assert "no money" in call("estimate", root, "stages=[]", "caption={}")
    with pytest.raises(ConfigError, match="no captioner"):
        call("estimate", root, "caption=null")
    dear = data(
        "estimate", root, "stages=[]", "caption={}", OPENAI[1], "caption.backend.model=gpt-4o-mini"
    )
    assert dear["notes"] and not data("estimate", root, "stages=[]", "caption={}")["notes"]


@pytest.fixture(scope="module")
def page(root: Path) -> Page:
    return Page(Path(write_page(catalog_of(root))).read_text())


def test_the_report_has_a_section_about_captions(page: Page) -> None:
    assert "captions" in [a["id"] for a in page.named("section")]
    for words in (
        "11 by embedded:test: the embedded captioner; measured, no vision-language model",
        "Length in words",
        "2 flagged and 2 contradicted of 11 checked",
        "hedging",
        "Alignment with the picture cosine, by tiny-clip",
        "not counted",
        "no price",
        "Speech",
        "Rewrites",
    ):
        assert words in page.text, words
    assert page.named("script") == [] and EVIL in page.text and EVIL not in page.html
    assert "Histogram of caption_alignment" in [a.get("aria-label") for a in page.named("svg")]


def test_the_contact_sheet_shows_the_text_of_the_shard(page: Page) -> None:
    told = [a for a in page.named("p") if a.get("class") == "told"]
    assert len(told) == len(page.named("article"))
    titles = [a["title"] or "" for a in told]
    assert any(t.startswith("given: given <script>") for t in titles)
    assert any(t.startswith("medium, by embedded:test: This is clip") for t in titles)


def test_the_gate_of_a_run_is_shown_whatever_it_holds(root: Path) -> None:
    catalog = catalog_of(root)
    gate = {"passed": False, "margin": 0.12345678, "why": [EVIL, "two"], "rank": {"mean": 3}}
    account = {
        "videos": {"total": 2, "done": 2, "failed": 0, "pending": 0, "duplicates": 0},
        "clips": {},
        "seconds": {},
        "balanced": True,
        "imbalances": [],
    }
    page = Page(Path(write_page(catalog, {"account": account, "gate": gate})).read_text())
    assert "Gate of the run" in page.text and "0.1235" in page.text and "rank: mean" in page.text
    assert EVIL in page.text and EVIL not in page.html
    assert gate_rows(None) == [] and gate_rows({"ok": True}) == [("ok", "True")]


def test_a_page_without_captions_has_no_such_section(plain: Path) -> None:
    page = Page(Path(write_page(Catalog.open(str(plain)))).read_text())
    assert "captions" not in [a["id"] for a in page.named("section")]
