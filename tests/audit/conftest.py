"""One small dataset with everything that the audit tells of, and its page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from curation.catalog.catalog import Catalog
from pipelines.audit.page import AuditReport, make_audit
from tests.audit.parts import curated, widen


@dataclass(frozen=True)
class Audited:
    """A dataset, the clips that were changed in it, and its page."""

    root: str
    clips: dict[str, str]
    report: AuditReport
    html: str

    @property
    def body(self) -> str:
        """The page without its scripts."""
        return re.sub(r"<script.*?</script>", "", self.html, flags=re.DOTALL)


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    catalog = curated(tmp_path_factory.mktemp("audited"))
    clips = widen(catalog)
    root = catalog.storage.url
    report = make_audit(root)
    return Audited(root, clips, report, Path(report.page).read_text())


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Three thousand clips of numbers, judged by the default rules."""
    from tests.audit.synthetic import make_judged

    return make_judged(tmp_path_factory.mktemp("synthetic"), 3000)
