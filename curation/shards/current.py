"""Are the shards older than the verdicts, the cut or the split? Told by the catalog's own SQL."""

from __future__ import annotations

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.shards.index import INDEX, MEND, VERDICTS, Verdicts, batches, metadata_of

KEPT = "verdict = 'kept' AND media_path IS NOT NULL"
COLUMNS = ["clip_id", "split", "mp4_sha256"]


def verdicts_changed(catalog: Catalog) -> bool | None:
    """Whether other clips are kept (or in another split) than when the shards were written.

    Reads two columns of the verdicts and the footer of the index; None when there is no index, or
    one of an older version.
    """
    written = (metadata_of(catalog.storage) or {}).get(VERDICTS)
    if written is None:
        return None
    views = Views(catalog)
    sql = views.clips(["clip_id", "split", "verdict", "media_path"])
    rows = views.reader(f"SELECT clip_id, split FROM ({sql}) WHERE {KEPT}")
    return Verdicts.of_table(rows).text.encode() != written


def staleness(catalog: Catalog) -> list[str]:
    """What the shards hold that the catalog does not say any more, in words with the mend."""
    views, storage = Views(catalog), catalog.storage
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    rows = pa.RecordBatchReader.from_batches(
        schema, (b.select(COLUMNS).cast(schema) for b in batches(storage, INDEX, COLUMNS))
    )
    views.keep_rows("sharded", rows)
    clips = views.clips(["clip_id", "split", "verdict", "media_path", "media_sha256"])
    views.keep("kept", f"SELECT clip_id, split, media_sha256 FROM ({clips}) WHERE {KEPT}")

    def count(sql: str) -> int:
        return views.query(f"SELECT count(*) AS n FROM {sql}").column("n")[0].as_py()

    both = "kept k JOIN sharded s USING (clip_id) WHERE"
    found = [
        (count("kept ANTI JOIN sharded USING (clip_id)"), "kept", "in no shard"),
        (count("sharded ANTI JOIN kept USING (clip_id)"), "sharded", "no longer kept"),
        (count(f"{both} k.split IS DISTINCT FROM s.split"), "sharded", "of another split now"),
    ]
    told = [_are(*one) for one in found if one[0]]
    texts = [f"the shards are older than the verdicts: {', '.join(told)}: {MEND}"] if told else []
    if recut := count(f"{both} k.media_sha256 IS DISTINCT FROM s.mp4_sha256"):
        were = "clip was" if recut == 1 else "clips were"
        texts.append(f"{recut} sharded {were} cut anew: {MEND}")
    if twice := count("(SELECT clip_id FROM sharded GROUP BY clip_id HAVING count(*) > 1)"):
        texts.append(f"{INDEX}: {_are(twice, 'sharded', 'in it more than once')}: {MEND}")
    return texts


def _are(count: int, kind: str, what: str) -> str:
    return f"{count} {kind} {'clip is' if count == 1 else 'clips are'} {what}"
