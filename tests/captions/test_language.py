"""Language of captions: what is surely another one, and what cannot be told."""

from __future__ import annotations

import pytest

from curation.captions.language import language_of, wrong_language

ENGLISH = [
    "A person in a blue jacket rides a bicycle along a wet road.",
    "The camera pans right over a car park.",
    "Sushi, tempura and ramen on a table in Kyoto.",
    "A chihuahua and a dachshund sniff a tortilla.",
    "Two men play capoeira in Rio de Janeiro.",
    "Close-up of espresso latte macchiato",
    "Macro shot: dewdrops on petals, bokeh background",
    "A LARGE SIGN READS OPEN IN RED LETTERS",
]
OTHERS = {
    "Ein Hund läuft über die nasse Wiese.": "de",
    "Un perro corre por la hierba verde del parque.": "es",
    "Un chien court dans l'herbe verte.": "fr",
    "Een hond rent over het groene gras.": "nl",
    "Собака бежит по зелёной траве.": "ru",
    "一只狗在绿色的草地上奔跑。": "zh",
    "犬が草の上を走っている": "ja",
}


@pytest.mark.parametrize("text", ENGLISH)
def test_english_with_foreign_words(text: str) -> None:
    assert wrong_language(language_of(text), "en") is None


@pytest.mark.parametrize("text", OTHERS)
def test_other_languages(text: str) -> None:
    found = language_of(text)
    assert wrong_language(found, "en") == "not_english"
    assert found.code in (OTHERS[text], None)
    assert wrong_language(found, OTHERS[text]) is None


@pytest.mark.parametrize("text", ["", "A dog runs.", "Ein Hund.", "12:30", "犬"])
def test_too_short_to_tell(text: str) -> None:
    found = language_of(text)
    assert found.code is None
    assert wrong_language(found, "en") is None


def test_named_with_enough_text() -> None:
    text = " ".join(ENGLISH[:3])
    assert language_of(text).code == "en"
    assert wrong_language(language_of(text), "de") == "not_de"
    assert wrong_language(language_of(text), "tlh") is None  # unknown to the package
