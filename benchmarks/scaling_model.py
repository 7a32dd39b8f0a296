"""How many scenes an hour a cluster makes, at what cost, and what stops it from making more.

    python benchmarks/scaling_model.py [--figure docs/images/scaling.png] [--node-price 0.40 …]
    python benchmarks/scaling_model.py --measure postgresql+psycopg2://user:password@host/empty

A model, not a measurement of a cluster: the figures of one node were measured and stand below with their source; prices
and the bandwidth of the store are assumptions, and arguments. A node works on one run at a time, a run on a chunk of
scenes; reading and writing go on beside the network's work, as they do in ``scene_throughput.py``. Nodes are limited by
what they compute and by their own network; the cluster by the store's bandwidth, by what the data base takes of
Dagster's events, by its connections, and by how fast the daemon starts runs. The least of these is what is reached.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import scene_throughput

NODES = (1, 10, 100)
_HOUR = 3600.0
_EVENTS = 300


def _argument(default: float, source: str) -> Any:
    return field(default=default, metadata={"source": source})


@dataclass(frozen=True)
class Figures:
    """What the model takes; each with where it comes from."""

    megapixels: float = _argument(120.6, "a Sentinel-2 tile, 10980 x 10980 pixels")
    core_seconds_a_megapixel: float = _argument(
        1.38, "measured: 83 s on 2 cores without bfloat16, `simulation`, docs/benchmarks.md (0.45 with it)"
    )
    cores: float = _argument(8, "assumed: cores of a node")
    core_efficiency: float = _argument(0.85, "assumed: 8 cores do so much of four times what 2 cores do")
    start_seconds: float = _argument(12, "measured: 9 to 12 s from Dagster's queue to the first step of a Ray job")
    load_seconds: float = _argument(8, "measured: imports and one load of the models, before the first scene of a run")
    scenes_a_run: float = _argument(50, "assumed: scenes of one run, as chosen in a backfill")
    megabytes_read: float = _argument(
        650, "measured: 7.25 MB a megapixel with overviews, of which 3/4 are read; noisy ground, deflated"
    )
    megabytes_written: float = _argument(
        16, "measured: 0.10 MB a megapixel, mask and probability, and 2.8 MB page and quick-look"
    )
    node_gigabits: float = _argument(10, "assumed: network of a node")
    store_gigabits: float = _argument(10, "assumed: one server as object store; the great providers have no such limit")
    events_a_scene: float = _argument(2, "from the code: a materialisation and a line of the log")
    events_a_second: float = _argument(
        200, "assumed: half of what a writer with a core of its own would reach (424, measured)"
    )
    connections: float = _argument(100, "setting: max_connections of PostgreSQL")
    connections_a_run: float = _argument(2, "from the code: one an operation of its stores, which keep none open")
    starts_a_second: float = _argument(1, "assumed: the daemon submits one run after the other; Ray took 0.2 s of it")
    node_price: float = _argument(0.40, "assumed: a node of 8 cores and 32 GB, an hour")
    base_price: float = _argument(0.60, "assumed: head, webserver, daemon, MLflow, PostgreSQL, together, an hour")


@dataclass(frozen=True)
class Estimate:
    """Scenes an hour of so many nodes, by what would stop each."""

    nodes: int
    limits: dict[str, float]
    price: float

    @property
    def scenes(self) -> float:
        """Scenes an hour."""
        return min(self.limits.values())

    @property
    def stops(self) -> str:
        """What stops it."""
        return min(self.limits, key=lambda name: self.limits[name])

    @property
    def cost(self) -> float:
        """Of 1,000 scenes."""
        return 1000 * self.price / self.scenes


def estimate(nodes: int, figures: Figures) -> Estimate:
    """The model."""
    moved = 8e-3 * (figures.megabytes_read + figures.megabytes_written)  # gigabits a scene
    computing = figures.megapixels * figures.core_seconds_a_megapixel / (figures.cores * figures.core_efficiency)
    overhead = (figures.start_seconds + figures.load_seconds) / figures.scenes_a_run
    seconds = overhead + max(computing, moved / figures.node_gigabits)
    runs = figures.connections / figures.connections_a_run
    limits = {
        "nodes": nodes * _HOUR / seconds,
        "object store": _HOUR * figures.store_gigabits / moved,
        "event log": _HOUR * figures.events_a_second / figures.events_a_scene,
        "connections": runs * _HOUR / seconds,
        "starts of runs": _HOUR * figures.starts_a_second * figures.scenes_a_run,
    }
    return Estimate(nodes, limits, figures.base_price + nodes * figures.node_price)


def table(estimates: Sequence[Estimate], remark: str = "") -> str:
    """Rows whose cells are parted by `` | ``; the remark follows the number of nodes."""
    return "\n".join(
        f"{one.nodes}{remark} | {one.scenes:,.0f} | {one.limits['nodes']:,.0f} | {one.cost:.2f} | {one.stops}"
        for one in estimates
    )


def unlimited(figures: Figures) -> Figures:
    """The same with a store of several servers and pooled connections."""
    return replace(figures, store_gigabits=1e9, connections=1e9)


def draw(figures: Figures, path: Path) -> None:
    """Scenes an hour and cost by the number of nodes, with a store of one server and without that limit."""
    import numpy as np

    from cloud_assets.reports.figures import BASELINE_COLOUR, drawing, png

    nodes = np.unique(np.geomspace(1, 200, 80).astype(int))
    known = {
        "as assumed": figures,
        "with a store without that limit": replace(figures, store_gigabits=1e9),
        "and with pooled connections": unlimited(figures),
    }
    with drawing(9.6, 4.2, 1, 2) as (figure, (left, right)):
        for (name, these), width in zip(known.items(), (5, 3, 1.5), strict=True):
            found = [estimate(int(count), these) for count in nodes]
            left.plot(nodes, [one.scenes for one in found], label=name, linewidth=width)
            right.plot(nodes, [one.cost for one in found], label=name, linewidth=width)
        limits = {name: scenes for name, scenes in estimate(1, figures).limits.items() if name != "nodes"}
        for name, scenes in limits.items():
            left.axhline(scenes, color=BASELINE_COLOUR, linewidth=1, linestyle="--")
            is_crowded = any(1 < other / scenes < 1.5 for other in limits.values())
            place, align = (scenes / 1.05, "top") if is_crowded else (scenes * 1.05, "bottom")
            left.text(1.1, place, name, fontsize=8, color="#5c6670", va=align)
        cores = f"nodes of {figures.cores:g} cores"
        left.set(xscale="log", yscale="log", xlabel=cores, ylabel="scenes an hour", title="Throughput")
        right.set(xscale="log", xlabel=cores, ylabel="cost of 1,000 scenes", title="Cost")
        for axis in (left.xaxis, left.yaxis, right.xaxis):
            axis.set_major_formatter("{x:,.0f}")
        right.set_ylim(bottom=0)
        left.legend(loc="lower right")
        right.legend()
        path.write_bytes(png(figure))


def measure(address: str, side: int) -> None:
    """Prints what the model takes from this machine: sizes of a scene and its products, speed of the event log.

    Args:
        address: An empty data base of PostgreSQL.
        side: Pixels of the scene's side.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        options = argparse.Namespace(
            folder=folder, side=side, small_side=side, back_end="auto", window=None, overlap=None,
            products="mask,probability",
        )  # fmt: skip
        scene_throughput._make(options)
        megapixels = scene_throughput._end_to_end(options, side)["megapixels"]
        print(f"{(folder / f'{side}.tif').stat().st_size / 1e6 / megapixels:.2f} MB a megapixel, with overviews")
        sizes = {path.name: path.stat().st_size / 1e6 for path in (folder / "products" / str(side)).iterdir()}
        rasters = sum(size for name, size in sizes.items() if name.endswith(".tif"))
        print(f"{rasters / megapixels:.2f} MB of products a megapixel, {sum(sizes.values()) - rasters:.1f} MB beside")
    clock, cpu = _events_a_second(address)
    print(f"{clock:.0f} events a second, {cpu:.0f} by the writer's CPU time")


def _events_a_second(address: str) -> tuple[float, float]:
    """How many events of Dagster one writer puts into PostgreSQL, each in a transaction and a connection of its own."""
    import dagster as dg
    from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
    from dagster._core.events.log import EventLogEntry
    from dagster_postgres.event_log import PostgresEventLogStorage

    storage = PostgresEventLogStorage(address)
    data = EngineEventData({"page": dg.MetadataValue.text("x" * 2000)})
    event = DagsterEvent(DagsterEventType.ENGINE_EVENT.value, "scene_products", event_specific_data=data)
    entry = EventLogEntry(None, 20, "", "0" * 32, time.time(), job_name="scene_products", dagster_event=event)
    started, cpu = time.perf_counter(), time.process_time()
    for _ in range(_EVENTS):
        storage.store_event(entry)
    return _EVENTS / (time.perf_counter() - started), _EVENTS / (time.process_time() - cpu)


def main() -> None:
    """Prints the table, what it was made of, and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=list(NODES))
    parser.add_argument("--figure", type=Path, help="PNG file to draw.")
    parser.add_argument("--measure", metavar="ADDRESS", help="Measures on this machine, with an empty PostgreSQL.")
    parser.add_argument("--side", type=int, default=1024, help="Pixels of the side of the scene that is measured.")
    for one in fields(Figures):
        name = f"--{one.name.replace('_', '-')}"
        parser.add_argument(name, type=float, default=one.default, help=f"{one.metadata['source']} ({one.default:g})")
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.side)
        return
    figures = Figures(**{one.name: getattr(options, one.name) for one in fields(Figures)})
    print("nodes | scenes an hour | by compute alone | cost of 1,000 scenes | what stops it")
    print(table([estimate(nodes, figures) for nodes in options.nodes]))
    print(table([estimate(options.nodes[-1], unlimited(figures))], ", store of several servers, pooled connections"))
    print()
    for one in fields(Figures):
        print(f"{one.name:26}{getattr(figures, one.name):>9g}  {one.metadata['source']}")
    if options.figure:
        draw(figures, options.figure)


if __name__ == "__main__":
    main()
