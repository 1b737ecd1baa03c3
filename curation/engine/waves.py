"""What follows on a unit: the parts of a long video, and what becomes of them.

    video ─▶ its parts ─▶ the video again, its rows put together ─▶ its clips, so many at a time

Units run in waves, each of them one execution of the engine: a unit that finds its video long ends
there, its parts are units of the next wave, the wave after that goes on with the video, and the
last one with its clips. Short videos are all done in the first wave.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

from curation.engine.unit import Unit, UnitResult
from curation.errors import RETRYABLE


@dataclass(kw_only=True)
class WaveCounts:
    """What was divided in a run.

    Attributes:
        videos: Videos that were divided.
        parts: Parts of them that were worked on.
        reused: Parts that an earlier, killed run had done.
        shares: Pieces of work that the clips of long videos were shared out in.
        passed_whole: Videos whose parts did not fit together: they were passed over whole.
    """

    videos: int = 0
    parts: int = 0
    reused: int = 0
    shares: int = 0
    passed_whole: int = 0

    def as_dict(self) -> dict[str, int]:
        """Plain values for the report."""
        return asdict(self)


@dataclass(kw_only=True)
class _Divided:
    """A video whose parts are in work."""

    rest: Unit
    files: dict[int, str] = field(default_factory=dict)
    failure: tuple[str, str] | None = None
    mismatch: str = ""
    num_parts: int

    def next(self) -> Unit:
        """How the video goes on."""
        if self.failure is not None:
            return replace(self.rest, failure=self.failure)
        if self.mismatch:
            return replace(self.rest, whole=True)
        return replace(self.rest, done_parts=tuple(self.files[i] for i in sorted(self.files)))


class Waves:
    """Turns the results of a wave into the units of the next one.

    Attributes:
        counts: What was divided so far.
        retried: Videos that failed for the moment: what is done of their parts is worth keeping.
    """

    def __init__(self) -> None:
        self.counts = WaveCounts()
        self.retried: set[str] = set()
        self._seen: set[str] = set()
        self._open: dict[str, _Divided] = {}
        self._shared: dict[str, int] = {}
        self._errors: dict[str, tuple[str, str]] = {}
        self._next: list[Unit] = []

    def anew(self) -> Waves:
        """For another pass over the same videos: what is counted and noted stays."""
        other = Waves()
        other.counts, other.retried = self.counts, self.retried
        return other

    def new(self, result: UnitResult) -> bool:
        """False for a second result of a unit: Ray ran it twice. Its rows are dropped at commit."""
        key = result.unit.key
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def take(self, result: UnitResult) -> bool:
        """Take a result; True when the unit's video is through.

        Of the errors of a video whose clips were shared out, the first stands in its last result.
        """
        unit = result.unit
        if unit.part is not None:
            self._take_part(result)
            return False
        if unit.clips is not None:
            return self._take_share(result)
        self.counts.passed_whole += bool(result.mismatch or unit.whole)
        if result.error in RETRYABLE and unit.video_id:
            self.retried.add(unit.video_id)
        if result.division:
            self._divide(result)
        if result.shares:
            todo = unit.todo[unit.todo.index(result.stage) :]
            self._next += [
                replace(unit, todo=todo, clips=span, whole=False, done_parts=())
                for span in result.shares
            ]
            self._shared[unit.source_id] = len(result.shares)
            self.counts.shares += len(result.shares)
        return not result.divided

    def units(self) -> list[Unit]:
        """The next wave; empty when all is done."""
        units, self._next = self._next, []
        return units

    def _divide(self, result: UnitResult) -> None:
        unit = result.unit
        todo = unit.todo[unit.todo.index(result.stage) :]
        rest = replace(unit, todo=todo, whole=False, done_parts=())
        self._open[unit.source_id] = _Divided(rest=rest, num_parts=len(result.division))
        self._next += [replace(rest, todo=todo[:1], part=part) for part in result.division]
        self.counts.videos += 1

    def _take_share(self, result: UnitResult) -> bool:
        source_id = result.unit.source_id
        if result.error:
            self._errors.setdefault(source_id, (result.error, result.message))
        self._shared[source_id] -= 1
        if self._shared[source_id]:
            return False
        result.error, result.message = self._errors.pop(source_id, (None, ""))
        return True

    def _take_part(self, result: UnitResult) -> None:
        divided, part = self._open[result.unit.source_id], result.unit.part
        assert part is not None
        if result.error:
            divided.failure = divided.failure or (result.error, result.message)
        divided.mismatch = divided.mismatch or result.mismatch
        divided.files[part.index] = result.parts[-1] if result.parts else ""
        self.counts.reused += result.reused
        self.counts.parts += bool(result.counts)
        if len(divided.files) == divided.num_parts:
            self._next.append(divided.next())
            del self._open[result.unit.source_id]
