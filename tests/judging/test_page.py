"""The examples of the room's page are settings that work."""

from __future__ import annotations

import re

import pytest
import yaml

from curation.judging.rights import Rights
from curation.judging.rules import Rules
from curation.judging.sample import Sampling
from curation.judging.splits import Splits
from pipelines.config import load_config
from tests.conftest import REPO

SECTIONS = {"judge": Rules, "rights": Rights, "sample": Sampling, "splits": Splits}
PAGE = (REPO / "curation" / "judging" / "README.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_every_section_has_an_example() -> None:
    assert {name for text in EXAMPLES for name in yaml.safe_load(text)} == set(SECTIONS)


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_say_what_they_seem_to(text: str) -> None:
    for name, fields in yaml.safe_load(text).items():
        made = SECTIONS[name].model_validate(fields)
        told = made.model_dump(mode="json", exclude_unset=True)
        assert set(told) == set(fields)


def test_rules_of_the_examples_fit_the_columns() -> None:
    known = {name: column.type for name, column in load_config("full").plan().columns().items()}
    for text in EXAMPLES:
        if rules := yaml.safe_load(text).get("judge"):
            rules.get("rules", {}).pop("aesthetic_mean", None)  # its stage is off in the preset
            Rules.model_validate(rules).check(known)
