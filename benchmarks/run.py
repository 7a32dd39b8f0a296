"""All benchmarks by one command: tables of speed and memory, as Markdown and JSON, with the machine that made them.

    python benchmarks/run.py [--quick] [--only PART …] [--data FOLDER] [--models NAME=FOLDER …] [--busy]

Fills ``docs/benchmarks.md`` and writes ``docs/results/<part>.json``, a part after the other; the scripts that it calls
say what each measures. ``--quick`` takes small settings and some minutes: its page and its files go to the work folder
and change nothing else. Peers take part where they are installed (pip install 'cloud-assets[peers]'). FOLDER holds
38-cloud/ and oncloudn/ for the frontier (default: CLOUD_ASSETS_DATA); without it that part is skipped and said so.
Medians are of rounds in which all methods take turns. ``--busy`` has processor time in place of the clock where a
part can tell it, for machines that have other work. Of three parts there are two tables: of processors that compute in
bfloat16 (``frontier_bfloat16``) and of those that do not; the part that this machine cannot make says so.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import results

from cloud_assets.storage import atomic_file

PAGE = results.ROOT / "docs" / "benchmarks.md"
_BY_PRECISION = {"scenes": "scene_throughput", "frontier": "frontier", "training": "training_speed"}
PARTS = {
    **_BY_PRECISION,
    "jpeg2000": "jpeg2000_reading",
    "jpeg2000_all_bands": "jpeg2000_all_bands",
    "patches": "patch_reading",
    "cutting": "patch_cutting",
    "data": "data_scaling",
    "starting": "starting",
    "jobs": "job_overhead",
    **{f"{name}_bfloat16": f"{script}_bfloat16" for name, script in _BY_PRECISION.items()},
}
"""Part -> part of results.py."""
_TELL_PROCESSOR_TIME = ("frontier", "training_speed")


def main() -> int:
    """The command; the exit status is 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--data", type=Path, default=os.environ.get("CLOUD_ASSETS_DATA"))
    parser.add_argument("--models", nargs="+", default=[], help="For the frontier: name=reference[,back-end].")
    parser.add_argument("--back-ends", nargs="+", default=[], help="For the frontier: back ends of each model.")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("data/results"), help="For whatever the parts keep.")
    options = parser.parse_args()
    work, data = options.work.absolute(), options.data and Path(options.data).absolute()
    told = {}
    for part in options.only:
        extra = further(part, options.models, options.back_ends, busy=options.busy)
        told[part] = results.run(PARTS[part], data, work, quick=options.quick, extra=extra)
        print(f"{part}: {told[part]}", flush=True)
    written = work / "quick" / PAGE.name if options.quick else PAGE
    fill(PAGE, written, work / "quick" if options.quick else results.NUMBERS)
    print(f"wrote {written}")
    return int(any(said.startswith("failed") for said in told.values()))


def further(part: str, models: list[str], back_ends: list[str], *, busy: bool) -> str:
    """Arguments of a part besides its own."""
    words = ["--busy"] if busy and PARTS[part].startswith(_TELL_PROCESSOR_TIME) else []
    if PARTS[part].startswith("frontier"):
        for option, given in (("--models", models), ("--back-ends", back_ends)):
            words += [option, *given] if given else []
    return " ".join(words)


def fill(page: Path, out: Path, folder: Path) -> None:
    """Writes the page with the tables of the files in a folder."""
    text = results.BLOCK.sub(partial(results.filled, folder=folder), page.read_text(encoding="utf-8"))
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
