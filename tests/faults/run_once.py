"""One ``curate`` in a process of its own, to be killed or limited from outside.

python -m tests.faults.run_once OUT INPUT '{"run": {"engine": "inline"}}'

Prints the run's report as JSON; exits 0 when it balances. ``REAL`` as a fourth argument takes the
default preset instead of the settings for tiny videos.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    out, given, sections = sys.argv[1:4]
    from tests.faults.helpers import run

    if sys.argv[4:] == ["REAL"]:
        from pipelines.config import load_config
        from pipelines.curate import curate

        base = load_config().model_dump(mode="json")
        base["run"] |= json.loads(sections)["run"]
        for stage in ("signals", "retest"):  # it would take most of the time, and says nothing
            base[stage]["transnet"] = "off"
        report = curate([given], out, load_config(base=base))
    else:
        report = run(Path(given), Path(out), **json.loads(sections))
    print(json.dumps(report.as_dict()))
    sys.exit(0 if report.balanced else 1)


if __name__ == "__main__":
    main()
