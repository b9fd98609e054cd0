"""Runs the measurements: `python -m benchmarks [topic ...] [--scale smoke|bench|full] [--out
folder]`.
"""

import argparse
import importlib
import time
from pathlib import Path

from benchmarks import report
from benchmarks.harness import FOLDER, TOPICS, Disturbance, Scale
from s2l_core.config import suggestion


def main() -> None:
    """Measures topic by topic; what is done is written, whatever happens to the next."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("topics", nargs="*", help="default: all of the scale")
    parser.add_argument("--scale", choices=TOPICS, default="bench")
    parser.add_argument("--out", type=Path, default=FOLDER)
    given = parser.parse_args()
    known = TOPICS["smoke"]  # which has all of them
    for topic in given.topics:
        if topic not in known:
            parser.error(f"there is no topic {topic!r}.{suggestion(topic, known)}")

    scale = Scale(given.scale, given.out)
    for topic in given.topics or TOPICS[scale.name]:
        module = importlib.import_module(f"benchmarks.{topic}")
        began, disturbance = time.monotonic(), Disturbance()
        rows = module.measure(scale)
        report.write(
            report.record(scale, topic, rows, disturbance.share(), time.monotonic() - began),
            scale.out,
        )
        print(
            f"\n{topic}: {time.monotonic() - began:.0f} s, {disturbance.share():.0%} of the machine"
            " taken by others"
        )
        for row in rows:
            beside = f"{row.against} {row.theirs:.3g}" if row.against else ""
            bar = f"bar {row.bar}: {row.met}" if row.bar else ""
            spread = f"{row.value:7.3g} [{row.low:.3g}, {row.high:.3g}]"
            print(f"  {row.case:50} {row.ours:9.3g} {row.unit:4} {beside:30} {spread} {bar}")


if __name__ == "__main__":
    main()
