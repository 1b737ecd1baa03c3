"""From what was counted to the file: templates, scripts, pictures, and a limit on its size."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader
from markupsafe import Markup

from pipelines.audit.script_data import json_for_script
from pipelines.report.page import page_environment

MAX_PAGE_BYTES = 20_000_000


def render_within(
    context: dict[str, Any], pictures: Mapping[str, str], listed: Sequence[str]
) -> bytes:
    """The page; with fewer pictures when it would be too large."""
    wanted = [c for c in listed if c in pictures]
    while True:
        context["data"]["pictures"] = {c: pictures[c] for c in wanted}
        html = _render(context)
        if len(html) <= MAX_PAGE_BYTES or not wanted:
            return html
        wanted = wanted[: len(wanted) // 2]


def _render(context: Mapping[str, Any]) -> bytes:
    from plotly.offline import get_plotlyjs

    template = audit_environment().get_template("page.html")
    text = template.render(
        **context,
        data_json=json_for_script(context["data"]),
        plotly=get_plotlyjs().replace("</script", "<\\/script"),
    )
    return text.encode("utf-8", "replace")


def without_bounds(chart: Markup) -> Markup:
    """A chart without the full stop that ends its list of thresholds: it has none."""
    return Markup(re.sub(r"<p>\s*\.\s*", "<p>", str(chart)))


def audit_environment() -> Environment:
    """Templates of this folder; below ``report/`` those of the run's page, with its filters."""
    environment = page_environment()
    environment.filters["without_bounds"] = without_bounds
    report = environment.loader
    assert report is not None
    environment.loader = ChoiceLoader(
        [
            PackageLoader("pipelines.audit", "templates"),
            PrefixLoader({"report": report}),
        ]
    )
    return environment
