"""What a stage yields, checked before it is believed.

A row for an undeclared table, for a clip that was not asked for, or a second row for one clip
would surface much later as a total that does not add up; here it costs that clip one error row.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa

from curation.engine.parts import conform
from curation.errors import ErrorCode, MediaError
from curation.schema import STRING
from curation.stage import Failure, Output, Stage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckedOutputs:
    """Runs a stage on batches of one video.

    Attributes:
        stage: What to run.
        video_id: The video.
        fingerprint: The stage's fingerprint.
        schemas: Stored schema of every table.
    """

    stage: Stage
    video_id: str
    fingerprint: str
    schemas: dict[str, pa.Schema]

    def of(self, batch: pa.Table) -> Iterator[Output]:
        """A batch's outputs; when a batch of several clips fails, clip by clip."""
        if self.stage.grain == "video":
            yield from map(self.conform, self.stage.process(batch))
            return
        try:
            yield from self._of_clips(batch)
            return
        except Exception as exc:
            if batch.num_rows == 1:
                yield _failure(batch, exc)
                return
        for i in range(batch.num_rows):
            row = batch.slice(i, 1)
            try:
                yield from self._of_clips(row)
            except Exception as exc:
                yield _failure(row, exc)

    def _of_clips(self, batch: pa.Table) -> list[Output]:
        """All outputs of one batch of clips.

        Raises:
            ValueError: A row for a clip that is not of the batch, or a second one for a clip.
        """
        outputs = [self.conform(output) for output in self.stage.process(batch)]
        asked = set(batch.column("clip_id").to_pylist())
        seen: set[tuple[str, str]] = set()
        for output in outputs:
            if isinstance(output, Failure):
                table, ids = "", [output.clip_id]
            else:
                table, ids = output[0], output[1].column("clip_id").to_pylist()
            if not asked.issuperset(ids):
                raise ValueError(f"stage {self.stage.name!r} yields rows of clips it was not given")
            keys = {(table, clip) for clip in ids}
            if table not in self.stage.details and (len(keys) < len(ids) or seen & keys):
                raise ValueError(f"stage {self.stage.name!r} yields two rows for one clip")
            seen |= keys
        return outputs

    def conform(self, output: Output) -> Output:
        """An output in its table's stored schema.

        Raises:
            ValueError: A table or column that the stage does not declare.
        """
        if isinstance(output, Failure):
            return output
        table, rows = output
        if table not in self.stage.adds:
            raise ValueError(f"stage {self.stage.name!r} yields undeclared table {table!r}")
        keys = {"video_id": self.video_id, "fingerprint": self.fingerprint}
        for name, value in keys.items():
            if name not in rows.column_names:
                rows = rows.append_column(name, pa.array([value] * rows.num_rows, STRING))
        return table, conform(rows, self.schemas[table])


def short_trace(exc: Exception) -> str:
    """Exception and the innermost lines, short enough for a table cell."""
    where = traceback.extract_tb(exc.__traceback__)[-1:]
    place = "; ".join(f"{PurePosixPath(f.filename).name}:{f.lineno} in {f.name}" for f in where)
    return f"{type(exc).__name__}: {exc} ({place})"


def _failure(row: pa.Table, exc: Exception) -> Failure:
    """The failure of a single clip."""
    clip_id = row.column("clip_id")[0].as_py()
    if isinstance(exc, MediaError):
        return Failure(clip_id=clip_id, code=exc.code, message=exc.message)
    log.debug("unexpected failure", exc_info=exc)
    return Failure(clip_id=clip_id, code=ErrorCode.INTERNAL_ERROR, message=short_trace(exc))
