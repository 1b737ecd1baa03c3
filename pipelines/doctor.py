"""Doctor: what this machine can do, found by trying, and what will fall back."""

from __future__ import annotations

import importlib.util
import io
import os
import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass
from typing import Any

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curation.models.registry import find_weights, how_to_get
from curation.models.weights import KNOWN
from curation.versions import library_versions

DECODERS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg2video", "mpeg4", "ffv1", "theora", "prores")
ENCODERS = ("libx264", "aac")


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        ok: True when it is as it should be.
        found: What was found.
        mend: What to do, or what happens instead.
        required: False when the system works without it.
    """

    name: str
    ok: bool
    found: str
    mend: str = ""
    required: bool = True


def examine() -> list[Check]:
    """Run all checks; a second or two."""
    return [*_machine(), *_codecs(), _encode(), *_engine(), *_models()]


def as_dict(checks: list[Check]) -> dict[str, Any]:
    """Findings for JSON."""
    ok = all(c.ok for c in checks if c.required)
    return {"ok": ok, "checks": [asdict(c) for c in checks], "versions": library_versions()}


def show(checks: list[Check], console: Console) -> None:
    """Print the findings."""
    table = Table()
    for name in ("", "check", "found", "otherwise"):
        table.add_column(name)
    for c in checks:
        mark = "[green]ok[/]" if c.ok else ("[red]no[/]" if c.required else "[yellow]--[/]")
        table.add_row(mark, escape(c.name), escape(c.found), escape("" if c.ok else c.mend))
    console.print(table)


def _machine() -> list[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory()
    scratch = tempfile.gettempdir()
    free = shutil.disk_usage(scratch).free
    python = platform.python_version_tuple()
    version_ok = (3, 11) <= (int(python[0]), int(python[1])) < (3, 14)
    return [
        Check("python", version_ok, platform.python_version(), "use Python 3.11 to 3.13"),
        Check("cores", True, f"{cores} usable"),
        Check(
            "memory",
            memory.available > 2 * 2**30,
            f"{memory.available / 2**30:.1f} GiB free of {memory.total / 2**30:.1f}",
            "a worker needs about 0.7 GiB: lower run.num_workers",
            required=False,
        ),
        Check(
            "scratch space",
            free > 2 * 2**30,
            f"{free / 2**30:.1f} GiB free in {scratch}",
            "remote videos are copied there one by one: set TMPDIR",
            required=False,
        ),
    ]


def _codecs() -> list[Check]:
    import av

    known = set(av.codecs_available)
    checks = []
    missing = [d for d in DECODERS if not _opens(d, "r")]
    checks.append(
        Check(
            "decoders",
            not missing,
            ", ".join(d for d in DECODERS if d not in missing),
            f"no decoder for {', '.join(missing)}: such files fail with unsupported_codec",
            required=False,
        )
    )
    for name in ENCODERS:
        checks.append(Check(f"encoder {name}", name in known, "in PyAV", "reinstall av"))
    return checks


def _opens(codec: str, mode: str) -> bool:
    import av.codec

    try:
        av.codec.Codec(codec, "r" if mode == "r" else "w")
    except Exception:  # UnknownCodecError moved between PyAV versions
        return False
    return True


def _encode() -> Check:
    """Encode and decode a few frames: names alone prove nothing."""
    import av
    import numpy as np

    try:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as out:
            stream = out.add_stream("libx264", rate=25)
            stream.width = stream.height = 64
            for value in (0, 128, 255):
                pixels = np.full((64, 64, 3), value, np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        buffer.seek(0)
        with av.open(buffer, "r") as back:
            count = sum(1 for _ in back.decode(video=0))
    except Exception as exc:  # whatever a broken build does
        return Check("probe encode", False, f"{type(exc).__name__}: {exc}", "reinstall av")
    return Check("probe encode", count == 3, f"{count} of 3 frames came back", "reinstall av")


def _engine() -> list[Check]:
    found = importlib.util.find_spec("ray") is not None
    versions = library_versions()
    return [
        Check(
            "ray",
            found,
            str(versions["ray"]),
            "falls back to nothing: use --engine inline",
            required=False,
        ),
        Check("lance", True, str(versions["pylance"])),
    ]


def _models() -> list[Check]:
    """GPU and model weights."""
    gpu = "none"
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            gpu = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    found = [Check("gpu", gpu != "none", gpu, "everything runs on the CPU", required=False)]
    for weights in KNOWN.values():
        path = find_weights(weights)
        state = "not here" if path is None else f"{path.name} ({weights.licence})"
        mend = f"for {weights.purpose}: {how_to_get(weights)}"
        found.append(Check(weights.name, path is not None, state, mend, required=False))
    return found
