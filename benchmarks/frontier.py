"""Cloud masks: how good on real labels against how fast on a whole scene and with how much memory, with the peers.

    python benchmarks/frontier.py --data FOLDER [--models name=reference ...] [--back-ends auto ...]

``name=reference`` is a model as `cloud-assets predict --model` takes it (a folder, ``simulation``, …); each is measured
with each back end, or with its own where it is given: ``name=reference,back-end``. The back end ``int8`` is here alone:
ONNX Runtime with the network in 8-bit integers, ranges from FOLDER's pictures, taken as it is, since it does not agree
with PyTorch as closely as the product asks of back ends. So is ``bf16`` (``--models "bfloat16=simulation,bf16"``):
PyTorch computing in bfloat16, slowly where the processor has no instructions for it. Quality is the mean cloud IoU over
FOLDER's labelled pictures (operating_points.py says which and what they weigh; our operating points and the threshold
on brightness were chosen on them). Time is that of a synthetic scene end to end, from the file to the mask's file, the
second of its size, as of many; what the first one takes stands beside it. Each method has a process of its own, all of
them once a round, the median of the rounds; with --busy processor time over the cores instead of the clock. Memory is
the peak over what the process held with its model loaded, and in all.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from measuring import apart, measured
from operating_points import BANDS, DECIDING, Pictures, real_sets
from peers import PEERS, installed, mask_file
from real_masks import Rule, rules, scores
from scene_throughput import write_scene

from cloud_assets.errors import BackEndUnavailable
from cloud_assets.inference.bundle import ModelBundle
from cloud_assets.inference.device import Parallelism
from cloud_assets.lifecycle.model_references import load_model, referenced_bundle
from cloud_assets.scenes.planning import SceneOptions
from cloud_assets.scenes.prediction import Model, predict_array, predict_scene

SHIPPED = (
    *(f"{name}={name}" for name in ("simulation", "simulation-fast", "simulation-large")),
    "simulation, float32=simulation,onnxruntime",  # where ``simulation`` itself runs in bfloat16
    "simulation, 8 bits=simulation,int8",
)
_OTHER_NAMES = {"brightness": "threshold on brightness"}
_WARM_UP = 256
_INT8, _BF16 = "int8", "bf16"


def main() -> None:
    """Scores, measures, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder with 38-cloud/ and oncloudn/; without it speed alone.")
    parser.add_argument("--models", nargs="+", default=SHIPPED, metavar="NAME=REFERENCE[,BACK_END]")
    parser.add_argument("--back-ends", nargs="+", default=["auto"])
    parser.add_argument("--peers", nargs="*", default=installed(), help="Default: all that are installed.")
    parser.add_argument("--side", type=int, default=2048, help="Pixels of the scene's side.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="Processor time instead of the clock.")
    parser.add_argument("--workspace", type=Path, default=Path("real_patches"))
    parser.add_argument("--picture", type=Path, help="Where the picture goes.")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(_measure(*options.measure)))
        return
    methods = chosen(options.models, options.back_ends) | {name: (name, "") for name in options.peers}
    methods = with_8_bit_networks(methods, options.data, options.workspace)
    times = timed(methods, options.side, options.rounds)
    quality = scored(methods, options.data, options.workspace) if options.data else {}
    rows = table(methods, times, quality, busy=options.busy)
    for row in (list(rows[0]), *([str(cell) for cell in row.values()] for row in rows)):
        print(*row, sep=" | ")
    if options.picture is not None:
        draw(rows, options.picture)


def chosen(models: Sequence[str], back_ends: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name -> reference and back end."""
    found = {}
    for text in models:
        name, _, reference = text.rpartition("=")
        place, _, own = reference.partition(",")
        for back_end in (own,) if own else back_ends:
            shown = name or place
            found[shown if own or back_end == "auto" else f"{shown}, {back_end}"] = (place, back_end)
    return found


def with_8_bit_networks(
    methods: Mapping[str, tuple[str, str]], data: Path | None, workspace: Path
) -> dict[str, tuple[str, str]]:
    """The methods, with the file of an 8-bit network as the back end of those that ask for one.

    Without data, or the libraries that make such a network, they are left out.
    """
    found = {}
    for name, (reference, back_end) in methods.items():
        if back_end != _INT8:
            found[name] = (reference, back_end)
        elif data is not None:
            file = workspace.absolute() / f"{name.replace(' ', '_')}.int8.onnx"
            try:
                file.write_bytes(in_8_bits(referenced_bundle(reference), dict(real_sets(data, workspace))))
            except BackEndUnavailable as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
            else:
                found[name] = (reference, str(file))
    return found


def in_8_bits(bundle: ModelBundle, sets: Mapping[str, Pictures]) -> bytes:
    """A model's network as an ONNX file in 8-bit integers, its ranges those of all pictures."""
    from cloud_assets.inference.onnx_export import to_int8, to_onnx

    card, pixels = bundle.card, []
    for pictures in sets.values():
        for dn, _, instrument in pictures:
            pixels.append(card.preprocessing.for_instrument(instrument)(dn, card.network.coarsening)[0])
    side = min(min(one.shape[1:]) for one in pixels) // card.network.size_multiple * card.network.size_multiple
    example = np.zeros((1, card.in_channels, side, side + card.network.size_multiple), np.float32)
    content = to_onnx(bundle.network(), example, 18, any_size=True)
    return to_int8(content, np.stack([one[:, :side, :side] for one in pixels]))


def _running(back_end: str) -> tuple[str, AbstractContextManager[object]]:
    """The product's name of a back end, and a context in which an 8-bit network or bfloat16 takes its place."""
    # PyTorch comes with them: not at the top, or the peers' memory would hold it too.
    from cloud_assets.inference import back_ends, device

    if back_end == _BF16:
        context = ExitStack()
        for module in (back_ends, device):
            context.enter_context(patch.object(module, "choose_precision", lambda *_: _BF16))
        return "torch", context
    if not back_end.endswith(".onnx"):
        return back_end, nullcontext()
    from cloud_assets.inference.onnx_export import OnnxNetwork

    def network(_: ModelBundle, parallelism: Parallelism) -> OnnxNetwork:
        made = OnnxNetwork(Path(back_end).read_bytes(), parallelism.threads)
        made.name = "onnxruntime int8 on cpu"
        return made

    as_it_is = {"onnx_back_end": network, "_verified": lambda made, *_: made}
    return "onnxruntime", patch.multiple(back_ends, **as_it_is)


def timed(methods: Mapping[str, tuple[str, str]], side: int, rounds: int) -> dict[str, dict[str, Any]]:
    """What masking one scene takes by each method: medians."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in methods}
    with tempfile.TemporaryDirectory() as folder:
        for one in (side, _WARM_UP):
            write_scene(Path(folder) / f"{one}.tif", one)
        for _ in range(rounds):
            for name, (reference, back_end) in methods.items():
                line = apart(__file__, "--measure", reference, back_end, Path(folder) / f"{side}.tif")
                found[name].append(json.loads(line))
    numbers = ("seconds", "cpu", "peak", "total", "first_seconds", "first_cpu")
    return {
        name: {
            **taken[0],
            "megapixels": side**2 / 1e6,
            **{key: float(np.median([one[key] for one in taken])) for key in numbers},
        }
        for name, taken in found.items()
    }


def _measure(reference: str, back_end: str, scene: str) -> dict[str, Any]:
    """One method on one scene, after a small one: it is loaded then, its buffers are there."""
    path = Path(scene)
    small = path.parent / f"{_WARM_UP}.tif"
    if reference in PEERS:
        masking = PEERS[reference][0]()
        mask_file(masking, small, path.parent / "small_mask.tif")
        return {**_twice(lambda: mask_file(masking, path, path.parent / "mask.tif")), "ran": ""}
    name, context = _running(back_end)
    options = SceneOptions(back_end=name, products=("mask",), accept_other_level=True, overwrite=True)
    model = load_model(reference, device="cpu")
    known = {"bands": BANDS, "instrument": "sentinel2_l1c"}
    made = []
    with context:
        ready = model.for_scenes(options, path.stat().st_size)  # as many megapixels as make any conversion worth it
        predict_scene(ready, small, path.parent / "small", options, **known)
        taken = _twice(lambda: made.append(predict_scene(ready, path, path.parent / "products", options, **known)))
    return {**taken, "ran": made[0].back_end}


def _twice(work: Callable[[], object]) -> dict[str, float]:
    """What some work takes when it is done again, what it took first, and the memory of both."""
    first, again = measured(work), measured(work)
    memory = {"peak": first["peak"], "total": max(first["total"], again["total"])}
    return {**again, **memory, "first_seconds": first["seconds"], "first_cpu": first["cpu"]}


def scored(methods: Mapping[str, tuple[str, str]], data: Path, workspace: Path) -> dict[str, dict[str, float]]:
    """Cloud IoU of each method over each set of labelled pictures; of those that read other bands there is none."""
    sets = dict(real_sets(data, workspace))
    found = {_OTHER_NAMES.get(name.split()[0], name): rule for name, rule in rules([], sets["38-cloud"]).items()}
    for name, (reference, back_end) in methods.items():
        if reference not in PEERS:
            found[name] = partial(_mask, load_model(reference, device="cpu"), back_end)
    return {name: _scores(found[name], sets) for name in methods if name in found}


def _scores(rule: Rule, sets: Mapping[str, Pictures]) -> dict[str, float]:
    return {name: scores(rule, pictures)[0] for name, pictures in sets.items()}


def _mask(model: Model, back_end: str, dn: npt.NDArray[Any], instrument: str) -> npt.NDArray[np.uint8]:
    name, context = _running(back_end)
    options = SceneOptions(back_end=name, accept_other_level=True)
    with context:
        return predict_array(model, dn, BANDS, instrument=instrument, options=options)["mask"]


def table(
    methods: Mapping[str, tuple[str, str]],
    times: Mapping[str, Mapping[str, Any]],
    quality: Mapping[str, Mapping[str, float]],
    *,
    busy: bool,
) -> list[dict[str, str]]:
    """One row a method, the fastest first."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rows = []
    for name in methods:
        took, found = times[name], quality.get(name, {})
        pace, first = (
            (took[f"{which}cpu"] / cores if busy else took[f"{which}seconds"]) / took["megapixels"]
            for which in ("", "first_")
        )
        rows.append(
            {
                "method": name,
                "mean cloud IoU": f"{mean_iou(found):.3f}" if found else "–",
                **{f"IoU {part}": f"{found[part]:.3f}" if found else "–" for part in next(iter(quality.values()), {})},
                "seconds a megapixel": f"{pace:.3f}",
                "processor seconds a megapixel": f"{took['cpu'] / took['megapixels']:.3f}",
                "first scene, seconds a megapixel": f"{first:.3f}",
                "MB over the model": f"{took['peak']:.0f}",
                "MB in all": f"{took['total']:.0f}",
                "ran": took["ran"] or "as it comes",
            }
        )
    return sorted(rows, key=lambda row: float(row["seconds a megapixel"]))


def mean_iou(found: Mapping[str, float]) -> float:
    """The mean over the sets that decide."""
    return sum(weight * found[part] for part, weight in DECIDING.items())


def draw(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Time a megapixel (logarithmic) against IoU; what has none is a line; dots grow with memory."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    peers = set(PEERS)
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    places = [(float(row["seconds a megapixel"]), row["mean cloud IoU"], row) for row in rows]
    number = 0  # neighbours lie too close together for their names
    speed_alone = [row["method"] for _, iou, row in places if iou == "–"]
    for seconds, iou, row in places:
        colour = "tab:grey" if row["method"] in peers else "tab:blue"
        if iou == "–":
            axes.axvline(seconds, color=colour, linestyle=":")
            axes.annotate(
                f"{row['method']} (speed only)", (seconds, 0.02 + 0.26 * (speed_alone.index(row["method"]) % 2)),
                xycoords=("data", "axes fraction"), rotation=90,
                ha="right", va="bottom", fontsize=8, color=colour,
            )  # fmt: skip
            continue
        number += 1
        size = 60 + float(row["MB in all"]) / 8
        memory = float(row["MB in all"]) / 1000
        label = f"{number}  {row['method']}: {seconds:.2f} s, {memory:.1f} GB"
        axes.scatter(seconds, float(iou), s=size, color=colour, alpha=0.75, linewidths=0, label=label)
        axes.annotate(str(number), (seconds, float(iou)), fontsize=8, color="white", ha="center", va="center")
    best = [
        (seconds, float(iou))
        for seconds, iou, _ in places
        if iou != "–" and all(other == "–" or float(other) <= float(iou) for s, other, _ in places if s <= seconds)
    ]
    axes.step(*zip(*best, strict=True), where="post", color="tab:blue", alpha=0.4) if best else None
    axes.set(xscale="log", xlabel="seconds a megapixel, end to end (less is better)")
    axes.set(ylabel="mean cloud IoU, real labels (more is better)")
    axes.margins(0.1, 0.15)
    axes.legend(loc="lower center", fontsize=8, handlelength=0, handletextpad=0, markerscale=0)
    axes.grid(alpha=0.3, which="both")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
