"""Which models made the dataset, by the names in its rows."""

from __future__ import annotations

from typing import Any, cast

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.models.weights import KNOWN
from pipelines.audit.basis import open_basis
from pipelines.audit.origins import find_models
from tests.audit.synthetic import make_judged


def test_models_are_named_by_rows_with_licence_and_checksum(tmp_path: Any) -> None:  # noqa: ANN401
    catalog: Catalog = make_judged(tmp_path, 20)
    captions = catalog.dataset("captions").to_table()
    names = ["embedded-1:efficientnet-lite0+fastest-det"] * 12 + ["Some-VLM/7B:q4+"] * 8
    place = captions.schema.get_field_index("caption_model")
    captions = captions.set_column(place, captions.schema.field(place), pa.array(names))
    catalog.replace("captions", captions)
    found = {m.key: m for m in find_models(open_basis(catalog, keep=False))}
    net = found["efficientnet-lite0"]
    assert (net.rows, net.licence) == (12, KNOWN["efficientnet-lite0"].licence)
    assert net.sha256 == cast(str, KNOWN["efficientnet-lite0"].sha256)[:12]
    assert found["fastest-det"].rows == 12
    other = found["Some-VLM/7B:q4+"]
    assert (other.rows, other.licence, other.sha256) == (8, "", "")
