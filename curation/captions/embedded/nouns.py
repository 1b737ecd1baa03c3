"""Everyday nouns for groups of classes: ImageNet's 1000 and COCO's 80, coarse on purpose.

A network that takes a spaniel for a setter is right about the dog. Classes that stand for things in
doubtful places (parts of clothing, tools, parts of buildings) are left out: in footage they are
named for want of something better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Noun:
    """A thing that can be named.

    Attributes:
        one: With its article.
        many: Two and more of it.
        classes: ImageNet classes, ``first-last`` or single, by comma; empty: none stands for it.
        kinds: COCO kinds.
    """

    one: str
    many: str
    classes: str = ""
    kinds: tuple[str, ...] = ()

    def indices(self) -> np.ndarray:
        """The ImageNet classes as numbers."""
        found: list[int] = []
        for part in filter(None, self.classes.split(",")):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
        return np.array(found, int)


PERSON = Noun("a person", "people", kinds=("person",))
NOUNS: tuple[Noun, ...] = (
    PERSON,
    Noun("a dog", "dogs", "151-268", ("dog",)),
    Noun("a cat", "cats", "281-285", ("cat",)),
    Noun("a lion, a tiger or another big cat", "big cats", "286-293"),
    Noun("a bird", "birds", "7-24,80-100,127-146", ("bird",)),
    Noun("a fish", "fish", "0-6,389-397"),
    Noun("a snake", "snakes", "52-68"),
    Noun("a lizard", "lizards", "38-48"),
    Noun("a turtle", "turtles", "33-37"),
    Noun("a frog", "frogs", "30-32"),
    Noun("a spider", "spiders", "72-77"),
    Noun("a butterfly", "butterflies", "321-326"),
    Noun("an insect", "insects", "300-320"),
    Noun("a monkey or an ape", "monkeys or apes", "365-384"),
    Noun("an elephant", "elephants", "101,385,386", ("elephant",)),
    Noun("a bear", "bears", "294-297", ("bear",)),
    Noun("a panda", "pandas", "388"),
    Noun("a zebra", "zebras", "340", ("zebra",)),
    Noun("a giraffe", "giraffes", "", ("giraffe",)),
    Noun("a horse", "horses", "339,603", ("horse",)),
    Noun("a cow", "cows", "345-347", ("cow",)),
    Noun("a sheep", "sheep", "348,349", ("sheep",)),
    Noun("a rabbit", "rabbits", "330-332"),
    Noun("a camel", "camels", "354"),
    Noun("a jellyfish", "jellyfish", "107"),
    Noun("a coral reef", "coral reefs", "973"),
    Noun("a flower", "flowers", "985,986"),
    Noun("a mushroom", "mushrooms", "991-997"),
    Noun("a car", "cars", "407,436,468,511,609,627,656,661,717,751,817", ("car",)),
    Noun("a truck", "trucks", "555,569,675,864,867", ("truck",)),
    Noun("a bus", "buses", "654,779,874", ("bus",)),
    Noun("a train", "trains", "466,547,565,705,820,829", ("train",)),
    Noun("a bicycle", "bicycles", "444,671", ("bicycle",)),
    Noun("a motorcycle", "motorcycles", "665,670", ("motorcycle",)),
    Noun("an aircraft", "aircraft", "404,895,908", ("airplane",)),
    Noun(
        "a boat or a ship",
        "boats or ships",
        "472,484,510,554,576,625,628,724,780,814,871,914",
        ("boat",),
    ),
    Noun("a bottle", "bottles", "440,720,737,898,899,907", ("bottle",)),
    Noun("a cup", "cups", "504,968", ("cup",)),
    Noun("a book", "books", "917,921", ("book",)),
    Noun("a computer", "computers", "508,527,620,681", ("laptop", "keyboard")),
    Noun("a television", "televisions", "664,782,851", ("tv",)),
    Noun("a clock", "clocks", "409,530,892", ("clock",)),
    Noun("a ball", "balls", "429,430,522,574,722,768,805,852,890", ("sports ball",)),
    Noun("a teddy bear", "teddy bears", "850", ("teddy bear",)),
    Noun("an umbrella", "umbrellas", "879", ("umbrella",)),
    Noun("a pizza", "pizzas", "963", ("pizza",)),
    Noun("a banana", "bananas", "954", ("banana",)),
    Noun("an orange", "oranges", "950", ("orange",)),
    Noun("an apple", "apples", "948", ("apple",)),
    Noun("a guitar", "guitars", "402,546"),
    Noun("a piano", "pianos", "579,881"),
    Noun("a bridge", "bridges", "821,839,888"),
    Noun("a lighthouse", "lighthouses", "437"),
    Noun("a fountain", "fountains", "562"),
    Noun("a traffic light", "traffic lights", "920", ("traffic light",)),
    Noun("a volcano", "volcanoes", "980"),
)
SETTINGS: dict[str, str] = {
    "a beach": "978",
    "the shore of a lake or of the sea": "975-977",
    "mountains": "970,979",
}
"""Places, by ImageNet classes."""
