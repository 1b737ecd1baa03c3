"""What became of every clip of a set, and what it weighs: read from its index, not remembered."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.shards.sibling_rows import SetRows
from curation.storage import Storage
from pipelines.encode.items import Times
from pipelines.encode.plan import EncodePlan
from training.data.latents import error_in, latent_bytes
from training.data.sample import Part, Parts

MOST_FAILURES = 10
"""Told one by one."""
ERROR_BYTES = 2048
"""A member that only tells of a failure is shorter."""


@dataclass(frozen=True)
class Failure:
    """A clip that could not be encoded.

    Attributes:
        clip_id: The clip.
        shard: Where it is.
        code: Of the failure.
        message: In words.
    """

    clip_id: str
    shard: str
    code: str
    message: str


@dataclass
class Account:
    """The clips of a set, and its storage.

    Attributes:
        total: Samples of the shards.
        encoded: With latents; without an autoencoder: with texts.
        without_bucket: With texts alone, or nothing, by the reason why they fit no bucket.
        failed: By code.
        failures: The first of them.
        windows: Encoded.
        clip_s: Length of the encoded clips, seconds.
        window_s: Time that the windows show, seconds.
        latent_bytes: Means and variances.
        text_bytes: All else in the members: states, lengths, headers.
        tar_bytes: The tars that hold them.
        mp4_bytes: Of the encoded clips.
        pixel_bytes: The encoded windows as uint8.
    """

    total: int = 0
    encoded: int = 0
    without_bucket: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    windows: int = 0
    clip_s: float = 0.0
    window_s: float = 0.0
    latent_bytes: int = 0
    text_bytes: int = 0
    tar_bytes: int = 0
    mp4_bytes: int = 0
    pixel_bytes: int = 0

    @property
    def balanced(self) -> bool:
        """True when every sample is encoded, without a bucket, or failed."""
        parts = self.encoded + sum(self.without_bucket.values()) + sum(self.failed.values())
        return parts == self.total

    @property
    def latent_bytes_per_s(self) -> float | None:
        """Of a second that the windows show."""
        return self.latent_bytes / self.window_s if self.window_s else None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {
            "balanced": self.balanced,
            "latent_bytes_per_s": self.latent_bytes_per_s,
        }


def take_account(storage: Storage, plan: EncodePlan, rows: SetRows) -> Account:
    """Count a finished set.

    Args:
        storage: The dataset root.
        plan: Of the set.
        rows: Its rows.

    Raises:
        DamagedError: Its index is damaged.
    """
    index, found = plan.index, Account(total=len(plan.index), without_bucket=plan.reasons())
    table = _in_order(rows.by_shard(), index["key_hash"])
    size = table.column("data_bytes").to_numpy()
    windows, taken = plan.num_windows(), np.ones(len(index), bool)
    latents = np.zeros(len(index), np.int64)
    if plan.assigned is not None:
        for number, bucket in enumerate(plan.assigned.buckets):
            here = plan.assigned.bucket == number
            latents[here] = latent_bytes(plan.described, bucket, windows[here])
        taken = plan.assigned.bucket >= 0
        suspects = taken & (size <= np.maximum(latents, ERROR_BYTES))
        failed = _failures(storage, table, np.flatnonzero(suspects), found)
        taken &= (size > latents) & ~failed
        for number, bucket in enumerate(plan.assigned.buckets):
            here = int(windows[taken & (plan.assigned.bucket == number)].sum())
            found.pixel_bytes += here * bucket.frames * bucket.height_px * bucket.width_px * 3
            found.window_s += here * bucket.frames / bucket.fps
    found.encoded = int(taken.sum())
    found.windows = int(windows[taken].sum())
    found.clip_s = float(index.durations_s()[taken].sum())
    found.latent_bytes = int(latents[taken].sum())
    found.text_bytes = int(size.sum()) - found.latent_bytes
    found.mp4_bytes = int(index["mp4_bytes"][taken].sum())
    found.tar_bytes = sum(row["sibling_bytes"] for row in _tars(table))
    return found


def failed_shards(storage: Storage, rows: SetRows) -> list[str]:
    """Shards in whose siblings a clip's failure stands, of a set that may be under way."""
    parts, found = Parts(storage.url), []
    for shard, table in rows.by_shard(["shard", "sibling", "data_offset", "data_bytes"]):
        small = table.filter(pc.field("data_bytes") <= ERROR_BYTES).to_pylist()
        members = (Part(r["sibling"], r["data_offset"], r["data_bytes"]) for r in small)
        if any(error_in(parts.read(member)) is not None for member in members):
            found.append(shard)
    parts.close()
    return found


def _tars(table: pa.Table) -> list[dict[str, Any]]:
    columns = table.select(["sibling", "sibling_bytes"])
    return columns.group_by(["sibling", "sibling_bytes"]).aggregate([]).to_pylist()


def _in_order(by_shard: Any, keys: NDArray[np.uint64]) -> pa.Table:  # noqa: ANN401 - an iterator
    """The rows of a set, in the order of some keys that are all there."""
    table = pa.concat_tables([rows for _, rows in by_shard])
    own = table.column("key_hash").to_numpy()
    turn = np.argsort(own, kind="stable")
    return table.take(pa.array(turn[np.searchsorted(own[turn], keys)]))


def _failures(
    storage: Storage, table: pa.Table, places: NDArray[np.int64], found: Account
) -> NDArray[np.bool_]:
    """Look into small members for failures, and count them in."""
    failed = np.zeros(table.num_rows, bool)
    counts: Counter[str] = Counter()
    parts = Parts(storage.url)
    for place in places.tolist():
        row = table.slice(place, 1).to_pylist()[0]
        data = parts.read(Part(row["sibling"], row["data_offset"], row["data_bytes"]))
        error = error_in(data)
        if error is None:
            continue
        failed[place] = True
        counts[error.code] += 1
        if len(found.failures) < MOST_FAILURES:
            found.failures.append(Failure(row["clip_id"], row["shard"], error.code, error.message))
    parts.close()
    found.failed = dict(sorted(counts.items()))
    return failed


@dataclass
class Report:
    """What a run of ``clipmill encode`` did.

    Attributes:
        root: Dataset root.
        fingerprint: Of the set.
        described: The set, as in ``set.json``.
        device: Where the encoders ran.
        engine: ``ray`` or ``inline``.
        workers: Most processes at once.
        dry_run: Nothing was encoded.
        complete: All was there already.
        shards: Of the dataset.
        pending: Shards that were to be encoded.
        clips: That this run encoded, failed ones included.
        frames: That this run's autoencoder took.
        texts: That its text encoder took.
        elapsed_s: From the first shard to the last.
        times: By stage.
        account: Of the whole set; None of a dry run.
        without_bucket: By reason, of a dry run too.
        total: Samples of the shards.
        next: Commands that go on from here.
    """

    root: str
    fingerprint: str
    described: dict[str, Any]
    device: str
    engine: str
    workers: int
    dry_run: bool = False
    complete: bool = False
    shards: int = 0
    pending: int = 0
    clips: int = 0
    frames: int = 0
    texts: int = 0
    elapsed_s: float = 0.0
    times: Times = field(default_factory=Times)
    account: Account | None = None
    without_bucket: dict[str, int] = field(default_factory=dict)
    total: int = 0
    next: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when everything is accounted for and something can be trained on."""
        if self.account is None:
            return sum(self.without_bucket.values()) < self.total
        return self.account.balanced and self.account.encoded > 0

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        found = asdict(self) | {"ok": self.ok}
        found["account"] = None if self.account is None else self.account.as_dict()
        found["frames_per_s"] = self.frames / self.elapsed_s if self.elapsed_s else None
        return found
