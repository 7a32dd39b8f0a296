"""The HTML page of a scene's products."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cloud_assets.imagery.formats.scene_source import SceneSource
from cloud_assets.imagery.writing.pictures import legend_colours
from cloud_assets.scenes.product_record import SceneProducts


@dataclass(frozen=True)
class Exhibit:
    """A picture with its title and legend."""

    title: str
    png: bytes
    file: str | None = None
    """The product's own file, linked from the title."""
    note: str = ""
    """What dark and bright mean, where there are no codes."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Code -> meaning, for a legend."""
    colours: Mapping[int, tuple[int, int, int, int]] = field(default_factory=dict)


def scene_page(source: SceneSource, products: SceneProducts, exhibits: Sequence[Exhibit]) -> str:
    """The page.

    Returns:
        HTML; pictures are inside, products are linked.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("cloud_assets.scenes", "."), autoescape=True)
    pictures = [
        {
            "title": exhibit.title,
            "png": b64encode(exhibit.png).decode(),
            "file": exhibit.file,
            "legend": _legend(exhibit),
            "note": exhibit.note,
        }
        for exhibit in exhibits
    ]
    statistics = [
        (name.replace("_", " "), f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}")
        for name, value in products.statistics.items()
        if value == value
    ]
    template = environment.get_template("scene.html.jinja")
    return template.render(source=source, products=products, pictures=pictures, statistics=statistics)


def _legend(exhibit: Exhibit) -> list[tuple[str, str]]:
    colours = legend_colours(exhibit.colours)
    return [(name, colours[code]) for code, name in exhibit.names.items() if code in colours]
