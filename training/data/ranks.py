"""Ranks that must agree: each reads the index for itself, and a packing may end in between.

Only where rank and world size come from ``torch.distributed``; who names them says which processes
belong together, and passes the state of one to the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import torch.distributed as dist

from curation.errors import CatalogError, ClipmillError

T = TypeVar("T")


def together() -> bool:
    """True when there are several ranks that can talk."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def of_first(make: Callable[[], T]) -> T:
    """What a function gives on rank 0, on every rank; what it raises there too."""
    box: list[object] = [None]
    if dist.get_rank() == 0:
        box = [_tried(make)]
    dist.broadcast_object_list(box, src=0)
    if isinstance(box[0], ClipmillError):
        raise box[0]
    return cast(T, box[0])


def agreed(make: Callable[[], T], mark: Callable[[T], str]) -> T:
    """What a function gives, if it gives the same on every rank.

    Args:
        make: To be called on every rank.
        mark: Tells one result from another.

    Raises:
        ClipmillError: Of this rank; or, of another kind, because another rank failed or differs.
    """
    own = _tried(make)
    text = f"failed: {own}" if isinstance(own, ClipmillError) else mark(own)
    texts: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(texts, text)
    if isinstance(own, ClipmillError):
        raise own
    for rank, other in enumerate(texts):
        if other != text:
            raise CatalogError(
                f"ranks do not see the same data: rank {rank} has {other}, this one {text}",
                where=f"rank {dist.get_rank()}",
                mend="let every rank read the same dataset root and settings, and nobody pack "
                "shards while a training starts",
            )
    return own


def _tried(make: Callable[[], T]) -> T | ClipmillError:
    try:
        return make()
    except ClipmillError as exc:
        return exc
