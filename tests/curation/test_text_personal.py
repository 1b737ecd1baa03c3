"""What looks like personal data in a line of text."""

from __future__ import annotations

import pytest

from curation.signals.personal_text import personal_kinds


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Write to anna.berg@example.org today", ["email"]),
        ("a@b.de or c_d+e@mail.example.com", ["email", "email"]),
        ("www.example.org/about", ["url"]),
        ("https://example.org", ["url"]),
        ("visit riverfilms.com", ["url"]),
        ("Call +49 30 1234567", ["phone"]),
        ("(415) 555-0132", ["phone"]),
        ("Tel. 020 7946 0123", ["phone"]),
        ("+1 415 555 0132 / mail me: x@y.org", ["email", "phone"]),
        ("B-MW 1234", ["plate"]),
        ("AB12 CDE", ["plate"]),
        ("34 ABC 567", ["plate"]),
        ("XYZ-4821", ["plate"]),
    ],
)
def test_found(text: str, kinds: list[str]) -> None:
    assert sorted(personal_kinds(text)) == sorted(kinds)


@pytest.mark.parametrize(
    "text",
    [
        "I never said that I would come back.",
        "01:00:00:00",
        "12:45",
        "2024-06-30",
        "30.06.2024",
        "1 234 567 people",
        "$ 1,299.00",
        "NEWS 24",
        "CHAPTER 2",
        "1080p",
        "THE END",
        "",
        "e.g. this",
        "No.5",
    ],
)
def test_left_alone(text: str) -> None:
    assert personal_kinds(text) == []
