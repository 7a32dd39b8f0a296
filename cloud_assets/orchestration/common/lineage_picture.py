"""A task's lineage as a picture, drawn from the definitions themselves."""

from html import escape

import dagster as dg

from cloud_assets.orchestration.lineage.lineage import lineage
from cloud_assets.tasks.task import Task

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 172, 44, 46, 16, 24
_STYLE = "font-family:system-ui,sans-serif;font-size:13px"


def lineage_svg(task: Task) -> str:
    """Draws a task's assets from left to right, each to the right of all that it is made from.

    Args:
        task: The task.

    Returns:
        An SVG document.
    """
    needs = {spec.key: sorted(dep.asset_key for dep in spec.deps) for asset in lineage(task) for spec in asset.specs}
    columns: dict[int, list[dg.AssetKey]] = {}
    for key in needs:
        columns.setdefault(_depth(key, needs), []).append(key)
    tallest = max(len(keys) for keys in columns.values())
    height = 2 * _MARGIN + tallest * (_HEIGHT + _GAP_Y) - _GAP_Y
    width = 2 * _MARGIN + len(columns) * (_WIDTH + _GAP_X) - _GAP_X
    places = {}
    for column, keys in columns.items():
        top = (height - len(keys) * (_HEIGHT + _GAP_Y) + _GAP_Y) / 2
        for row, key in enumerate(keys):
            places[key] = (_MARGIN + column * (_WIDTH + _GAP_X), top + row * (_HEIGHT + _GAP_Y))
    lines = [_arrow(places[upstream], places[key]) for key in needs for upstream in needs[key] if upstream in places]
    boxes = [_box(key, place) for key, place in places.items()]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" style="{_STYLE}">',
            f"<title>{escape(task.title)}: from raw scenes to the champion</title>",
            f'<rect width="{width:g}" height="{height:g}" fill="#f6f7f9"/>',
            *lines,
            *boxes,
            "</svg>",
            "",
        ]
    )


def _depth(key: dg.AssetKey, needs: dict[dg.AssetKey, list[dg.AssetKey]]) -> int:
    return 1 + max((_depth(upstream, needs) for upstream in needs[key] if upstream in needs), default=-1)


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x, y, to_x, to_y = start[0] + _WIDTH, start[1] + _HEIGHT / 2, end[0], end[1] + _HEIGHT / 2
    bend = (to_x - x) / 2
    curve = f"M{x:g},{y:g} C{x + bend:g},{y:g} {to_x - bend:g},{to_y:g} {to_x:g},{to_y:g}"
    return f'<path d="{curve}" fill="none" stroke="#b9c2cd" stroke-width="1.4"/>'


def _box(key: dg.AssetKey, place: tuple[float, float]) -> str:
    x, y = place
    *variant, name = key.path[1:]
    middle = f'x="{x + _WIDTH / 2:g}" text-anchor="middle"'
    frame = f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="7" fill="#ffffff" stroke="#0072b2"/>'
    text = f'<text {middle} y="{y + (36 if variant else 27):g}" fill="#1b2430">{escape(name)}</text>'
    small = (
        f'<text {middle} y="{y + 18:g}" fill="#5a6675" font-size="11">{escape(variant[0])}</text>' if variant else ""
    )
    return frame + small + text
