"""Makes the figures, tables and gallery pages of the documentation anew, and says how long each took.

    python benchmarks/results.py [--data FOLDER] [--only NAME …] [--quick] [--list] [--pages]

Each part runs one benchmark and keeps what it printed, with command, data, seed, machine, commit and time taken, as
``docs/results/<name>.json``. Pages (docs, README.md) hold blocks between ``<!-- results: <name> -->`` and
``<!-- end of results -->``, which are filled from these files; ``--pages`` only fills them. Gallery pages and pictures
are written by their own scripts. FOLDER holds the data sets (default: CLOUD_ASSETS_DATA); what lacks its data is
skipped. ``--quick`` tries every command with small settings: its figures stay in the work folder and change no page.
All parts take half a day on two cores: name some.
"""

import argparse
import functools
import hashlib
import json
import os
import platform
import re
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from cloud_assets.inference.device import choose_device, choose_precision
from cloud_assets.storage import atomic_file
from cloud_assets.tasks import ALL_TASKS

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = ROOT / "docs" / "results"
"""Where the files of the parts lie."""
BLOCK = re.compile(r"<!-- results: (?P<name>\w+) -->\n.*?<!-- end of results -->", re.DOTALL)
_SEPARATOR = " | "
PARTS_BLOCK = "parts"
"""Name of the block that lists all parts."""
_DATA = "{data}"
_DEMO = "{work}/home/demo/cloudsen12_segmentation"  # results of the demo
_SCENE = "scenes/LC80130312015295LGN00_red_green_blue_nir_120m.tif"


@dataclass(frozen=True)
class Part:
    """One benchmark and how it is called.

    ``{data}`` and ``{work}`` stand for the folders of data and of work.
    """

    arguments: str  # of the script, which has the name of the part unless ``script`` is another
    quick: str  # the same in small, a minute or so
    minutes: float  # on two slow cores, about
    needs: tuple[str, ...] = ()  # files and folders below the data
    script: str = ""
    seed: str = "0"
    task: str = ""  # whose job is run first, or the demo, whose results the script reads
    precision: Literal["", "32", "bf16"] = ""  # only of processors whose own arithmetic this is


def job(task: str, *, quick: bool) -> list[str]:
    """The job of a task, as arguments of Python."""
    size = "from_simulation" if task == "demo" else "quick" if quick else "half_hour"
    config = ROOT / "cloud_assets" / "run_configs" / f"{task}.{size}.yaml"
    return ["-m", "dagster", "job", "execute", "-m", "cloud_assets.definitions", "-j", task, "-c", str(config)]


def _gallery() -> Iterator[tuple[str, Part]]:
    """A part a task: its job, then its page."""
    for task in ALL_TASKS:
        home, pages = "--home {work}/home/tasks --out", ROOT / "docs" / "gallery"
        part = Part(f"{home} {pages}", f"{home} {{work}}/quick/gallery", 30, script="gallery", task=task.name)
        yield f"gallery_{task.name}", part


_WAYS = "simulation simulation-fast simulation-large"  # to use the model that comes with the package
_BY_PRECISION: Mapping[str, Part] = {
    "frontier": Part(
        f"--data {{data}} --picture {ROOT / 'docs' / 'images' / 'frontier.png'}",
        "--data {data} --side 512 --rounds 1 --picture {work}/quick/frontier.png",
        20,
        ("38-cloud", "oncloudn"),
    ),
    "scene_throughput": Part(
        "--side 10980 --rounds 1 --models simulation simulation-large",
        "--side 768 --small-side 512 --rounds 1 --seconds 2 --back-end torch",
        30,
    ),
    "training_speed": Part("", "--network unet --steps 2 --rounds 1", 6),
}
"""Of these there is a table of a processor with bfloat16 and one of a processor without."""


def _with_bfloat16() -> Iterator[tuple[str, Part]]:
    for name, part in _BY_PRECISION.items():
        arguments = part.arguments.replace(".png", "_bfloat16.png")
        yield f"{name}_bfloat16", replace(part, arguments=arguments, script=name, precision="bf16")


PARTS: Mapping[str, Part] = {
    "real_masks": Part(f"{{data}} {_WAYS}", "{data} simulation", 9, ("38-cloud", "oncloudn", "sen12ms")),
    "operating_points": Part(f"{{data}} {_WAYS}", "{data} simulation", 4, ("38-cloud", "oncloudn")),
    "missing_bands": Part(f"{{data}} {_WAYS}", "{data} simulation", 6, ("38-cloud", "oncloudn")),
    "real_patches": Part(f"{{data}} {_WAYS}", "{data} simulation", 3, ("38-cloud",)),
    "picture_stretches": Part(
        "--data {data}",
        "--data {data} --steps 4 --seeds 0 --folds 4",
        15,
        ("cloud-anomaly",),
        seed="0 1 2",
    ),
    "saturated_clouds": Part("--scenes 12", "--scenes 2 --side 128", 2),
    "sun_angle": Part("--scenes 4", "--scenes 1 --size 128", 4),
    "composite_truth": Part("--out {work}/composite_truth", "--size 128 --dates 3 --out {work}/composite_truth", 5),
    "shadow_geometry": Part("", "--scenes 2 --side 256", 10, seed="2012"),
    "detection_by_depth": Part(
        f"--figure {ROOT / 'docs' / 'images' / 'detection_by_depth.png'}",
        "--scenes 1 --side 64 --figure {work}/quick/detection_by_depth.png",
        25,
        seed="2410",
    ),
    "drift_detection": Part("", "--regions 30 --batches 8 --batch 3", 8),
    "jpeg2000_reading": Part("", "--rows 600 --columns 700 --rounds 1", 4),
    "jpeg2000_all_bands": Part(
        "--all-bands --rounds 2", "--all-bands --rows 600 --columns 700 --rounds 1", 8, script="jpeg2000_reading"
    ),
    "patch_reading": Part("--patches 300", "--patches 40", 1),
    "patch_cutting": Part("", "--patches 20 --rounds 1", 1),
    "augmentation_cost": Part("--patches 24 --rounds 2", "--patches 8 --rounds 1", 5),
    "autoencoder_cost": Part("--threads 1", "--size 64 --batch 2 --threads 1", 6),
    "data_scaling": Part("", "--counts 100 300", 15),
    "starting": Part("", "--rounds 1", 2, seed="none"),
    "job_overhead": Part("--rounds 3 --steps 20", "--rounds 0 --steps 1", 12),
    "scaling_model": Part(f"--figure {ROOT / 'docs' / 'images' / 'scaling.png'}", "", 1, seed="none"),
    "scene_picture": Part(
        f"{{data}}/{_SCENE} --instrument landsat8_l1 --out {ROOT / 'docs' / 'images' / 'scene_and_mask.png'}",
        f"{{data}}/{_SCENE} --instrument landsat8_l1 --out {{work}}/quick/scene_and_mask.png",
        1,
        (_SCENE,),
        seed="none",
    ),
    "radar_places": Part("{data}", "{data} --steps 4 --sample-steps 4", 120, ("sen12ms",)),
    "radar_bands": Part(
        "{data} --bands rgb,nir_swir_rededge --rows 'pix2pix; cyclegan' --workspace radar_bands",
        "{data} --bands rgb --rows pix2pix --steps 4 --sample-steps 4 --workspace radar_bands",
        15,
        ("sen12ms",),
        script="radar_places",
    ),
    "coverage_ways": Part("{data}", "{data} --patches 40 --steps 4 --members 1", 30, ("38-cloud",)),
    "one_pair": Part("{data} --steps 500", "{data} --steps 10", 15, ("sen12ms",)),
    "translation_switches": Part("--steps 100", "--steps 4 --only ndvi", 30),
    "ablation": Part(
        "{data} --seeds 0 1 2 --epochs 5",
        "{data} --seeds 0 --rows 0 --epochs 1 --steps 4",
        60,
        ("38-cloud",),
        seed="0 1 2",
    ),
    "wrong_labels": Part(
        f"{_DEMO}/champion/model {_DEMO}/labeled_patches",
        f"{_DEMO}/champion/model {_DEMO}/labeled_patches --repeats 1",
        8,
        task="demo",
    ),
    "simulation_only": Part(
        "{data} --patches 2000 --epochs 4 --steps 135 --batch 32 --crop 128 --threads 1",
        "{data} --patches 64 --epochs 1 --steps 2 --batch 4 --crop 64 --threads 1",
        35,
        ("38-cloud",),
    ),
    **{name: replace(part, precision="32") for name, part in _BY_PRECISION.items()},
    **dict(_with_bfloat16()),
    **dict(_gallery()),
}
"""All parts, by name."""


@dataclass(frozen=True)
class Record:
    """What a part printed, and all that is needed to make it again."""

    name: str
    command: str
    data: Mapping[str, str] = field(default_factory=dict)
    seed: str = "0"
    machine: str = ""
    commit: str = ""
    date: str = ""
    seconds: float = 0.0  # by the clock
    processor_seconds: float = 0.0
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    lines: Sequence[str] = ()  # what is printed beside the table

    def table(self) -> str:
        """The table in Markdown, or what was printed where there is none."""
        if not self.columns:
            return "\n".join(["```text", *self.lines, "```"])
        rows = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def origin(self) -> str:
        """One sentence: by which command, on what, with what."""
        data = "".join(f", {name} ({what})" for name, what in self.data.items())
        seed = "" if self.seed == "none" else f", seed {self.seed}"
        return f"*`{self.command}`{data}{seed}; {self.took()} on {self.machine}, {self.date}, commit {self.commit}.*"

    def took(self) -> str:
        """How long it took by the clock, and of a processor, where the machine had other work."""
        clock, processor = (
            f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
            for seconds in (self.seconds, self.processor_seconds)
        )
        return f"{clock} ({processor} of processor)"


def best_of_readme(record: Record) -> str:
    """The README's table: cloud IoU alone, the chips together."""
    place = {column.partition(":")[0].partition(" (")[0]: number for number, column in enumerate(record.columns)}
    sets = {"31 patches": ["38-cloud"], "2 chips": ["oncloudn chip_1", "oncloudn chip_4"]}
    sets["5 test patches"] = ["38-cloud, test split"]
    clear = next(number for number, column in enumerate(record.columns) if column.startswith("Sentinel-2, clear"))
    lines = [f"| cloud IoU | {' | '.join(sets)} | called cloud on clear Sentinel-2 |", "| --- " * 5 + "|"]
    for row in record.rows:
        found = [[float(row[place[name]].split(",")[0]) for name in names] for names in sets.values()]
        cells = [*(f"{sum(values) / len(values):.3f}" for values in found), f"{float(row[clear]):.1%}"]
        model, comma, point = row[0].partition(", ")
        name = f"`{model}`{comma}{point}" if comma else model
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


VIEWS: Mapping[str, tuple[str, Callable[[Record], str]]] = {"real_masks_iou": ("real_masks", best_of_readme)}
"""Blocks that show a part otherwise than as it was printed: name of the part, and how."""


def main() -> int:
    """The command; the exit status is 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("CLOUD_ASSETS_DATA"))
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="small settings; changes no page")
    parser.add_argument("--list", action="store_true", help="the parts, and about how long they take")
    parser.add_argument("--pages", action="store_true", help="only fill the pages from the files that there are")
    parser.add_argument("--work", type=Path, default=Path("data/results"), help="for whatever the parts keep")
    options = parser.parse_args()
    work = options.work.absolute()
    if options.list:
        print(*(f"{name:32}{part.minutes:>6g} min" for name, part in PARTS.items()), sep="\n")
        return 0
    told: dict[str, str] = {}
    for name in [] if options.pages else options.only:
        started = time.monotonic()
        told[name] = run(name, options.data and options.data.absolute(), work, quick=options.quick)
        told[name] += f", {time.monotonic() - started:.0f} s"
        print(f"{name}: {told[name]}", flush=True)
    changed = [] if options.quick else fill_pages()
    ended = [f"{name:32}{said}" for name, said in told.items()]
    print("", *ended, *(f"filled {page}" for page in changed), sep="\n")
    return int(any(said.startswith("failed") for said in told.values()))


def run(name: str, data: Path | None, work: Path, *, quick: bool, extra: str = "") -> str:
    """Runs a part and keeps what it printed; what became of it, in words. ``extra`` are further arguments."""
    part = PARTS[name]
    script = ROOT / "benchmarks" / f"{part.script or name}.py"
    arguments = f"{part.quick if quick else part.arguments} {extra}".strip()
    missing = [need for need in part.needs if data is None or not (data / need).exists()]
    if not script.is_file():
        return f"skipped: there is no {script.relative_to(ROOT)}"
    if missing:
        return f"skipped: {', '.join(missing)} is not in {'the data (--data)' if data is None else data}"
    if part.precision and part.precision != (own := choose_precision("auto", choose_device("cpu"))):
        return f"skipped: made by processors that compute in {part.precision}, not in {own}"
    (work / "quick").mkdir(parents=True, exist_ok=True)
    places = {_DATA: data, "{work}": work}
    given = shlex.split(arguments)
    for word, place in places.items():
        given = [one.replace(word, str(place)) for one in given]
    commands = [job(part.task, quick=quick)] if part.task else []
    commands.append([str(script), *given])
    started, used, printed = time.monotonic(), _processor_seconds(), ""
    for command in commands:
        print(f"{name}: python {' '.join(command)}", flush=True)
        done = subprocess.run(
            [sys.executable, *command],
            cwd=work,
            env=_environment(part.task, data, work),
            capture_output=True,
            text=True,
        )
        printed = done.stdout
        (work / f"{name}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        has_results = command is commands[0] and "NoChampion:" in done.stdout + done.stderr  # none was good enough
        if done.returncode and not (part.task and has_results):
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            return f"failed: {last} ({work / f'{name}.log'})"
    shown = arguments.replace(_DATA, "DATA").replace("{work}/", "").replace(f"{ROOT}/", "")
    for place, word in ((data, "DATA"), (work, "WORK"), (ROOT, ".")):
        printed = printed.replace(str(place), word) if place is not None else printed
    columns, rows, lines = parsed(printed)
    record = Record(
        name,
        f"python {script.relative_to(ROOT)} {shown}".strip(),
        {need: described(data / need) for need in part.needs if data is not None},
        part.seed,
        machine(),
        commit(script),
        time.strftime("%Y-%m-%d"),
        round(time.monotonic() - started, 1),
        round(_processor_seconds() - used, 1),
        columns,
        rows,
        lines,
    )
    path = (work / "quick" if quick else NUMBERS) / f"{name}.json"
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return f"made {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}"


def _processor_seconds() -> float:
    """Of the benchmarks that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _environment(name: str, data: Path | None, work: Path) -> dict[str, str]:
    """Results go to the work folder; a task whose data set is not there works on the embedded sample."""
    folders = {task.name: task.dataset.folder for task in ALL_TASKS}
    home = work / "home" / ("tasks" if name in folders else name)  # cover classes are compared with the masks' champion
    environment = {**os.environ, "CLOUD_ASSETS_HOME": str(home), "PYTHONPATH": str(ROOT)}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{work / 'mlflow' / 'mlflow.db'}"
    environment.pop("CLOUD_ASSETS_DATA", None)
    if name in folders and data is not None and (data / folders[name]).is_dir():
        environment["CLOUD_ASSETS_DATA"] = str(data)
    return environment


def parsed(printed: str) -> tuple[list[str], list[list[str]], list[str]]:
    """Columns and rows of the table in what a benchmark printed, cells parted by `` | ``; and the other lines."""
    columns: list[str] = []
    rows: list[list[str]] = []
    lines: list[str] = []
    for line in printed.rstrip().splitlines():
        cells = [cell.strip() for cell in line.split(_SEPARATOR)]
        if len(cells) > 2 and not columns:
            columns = cells
        elif columns and len(cells) == len(columns):
            rows.append(cells)
        elif line.strip() or not columns:
            lines.append(line.rstrip())
    return columns, rows, lines


def fill_pages(check: bool = False) -> list[str]:
    """Fills the blocks of all pages; the pages that change, or would."""
    changed = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        before = page.read_text(encoding="utf-8")
        after = BLOCK.sub(filled, before)
        if after != before:
            changed.append(str(page.relative_to(ROOT)))
            if not check:
                with atomic_file(page) as temporary:
                    temporary.write_text(after, encoding="utf-8")
    return changed


def filled(block: re.Match[str], folder: Path | None = None) -> str:
    """A block anew from the files in a folder; one whose part was never made stays as it is."""
    name = block["name"]
    if name == PARTS_BLOCK:
        return f"<!-- results: {name} -->\n\n{parts_table()}\n\n<!-- end of results -->"
    part, shown = VIEWS.get(name, (name, Record.table))
    record = kept(part, folder)
    if record is None:
        return block[0]
    return f"<!-- results: {name} -->\n\n{shown(record)}\n\n{record.origin()}\n\n<!-- end of results -->"


def kept(name: str, folder: Path | None = None) -> Record | None:
    """What a part printed when it was last made; None if it never was."""
    path = (folder or NUMBERS) / f"{name}.json"
    return Record(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def parts_table() -> str:
    """All parts: what they are called by, and when they were last made."""
    lines = ["| `--only` | command | last made |", "| --- | --- | --- |"]
    for name, part in PARTS.items():
        record = kept(name)
        command = f"python benchmarks/{part.script or name}.py" if record is None else record.command
        made = f"not by this command; about {part.minutes:g} min on two cores"
        if record is not None:
            made = f"{record.date}, commit {record.commit}, {record.took()}"
        lines.append(f"| {name} | `{command}` | {made} |")
    return "\n".join(lines)


def described(path: Path) -> str:
    """How many files, and a hash of their names and sizes."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    listed = "\n".join(f"{file.relative_to(path.parent)} {file.stat().st_size}" for file in files)
    many = f"{len(files)} file{'' if len(files) == 1 else 's'}"
    return f"{many}, {hashlib.blake2b(listed.encode(), digest_size=4).hexdigest()}"


@functools.cache
def machine() -> str:
    """Processor and cores that may be used."""
    names = [platform.processor() or platform.machine()]
    cpus = Path("/proc/cpuinfo")
    if cpus.is_file():
        names = re.findall(r"^model name\s*: (.+)$", cpus.read_text(encoding="utf-8"), re.MULTILINE) or names
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS")
    return f"{cores} core{'' if cores == 1 else 's'} of {' '.join(names[0].split())}" + (
        f" ({threads} thread{'' if threads == '1' else 's'})" if threads else ""
    )


def commit(script: Path) -> str:
    """The last commit that changed the package or a benchmark, with a plus where they were changed since."""

    def git(*words: str) -> str:
        code = ("--", "cloud_assets", str(script))
        return subprocess.run(["git", *words, *code], cwd=ROOT, capture_output=True, text=True, check=False).stdout

    return git("log", "-1", "--format=%h").strip() + ("+" if git("status", "--porcelain") else "")


if __name__ == "__main__":
    raise SystemExit(main())
