"""Turns pages into HTML."""

from __future__ import annotations

import time

from jinja2 import Environment, PackageLoader, StrictUndefined

from aitbc_server import __version__
from aitbc_server.web import charts, formats
from aitbc_server.web.page import Page

# Path from the root and name of what the head of every page links to.
_NAVIGATION = (
    ("./", "Overview"),
    ("explorer/blocks", "Blocks"),
    ("explorer/transactions", "Transactions"),
    ("explorer/receipts", "Receipts"),
    ("explorer/miners", "Miners"),
)


class Templates:
    """The templates of the package, compiled once."""

    def __init__(self, static_version: str) -> None:
        self._static_version = static_version
        self._environment = Environment(
            loader=PackageLoader(__package__),
            autoescape=True,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self._environment.filters.update(
            number=formats.number,
            compact=formats.compact,
            duration=formats.duration,
            absolute=formats.absolute,
            clock=formats.clock,
            machine_readable=formats.machine_readable,
            short=formats.short,
            value_name=formats.value_name,
            value_names=formats.value_names,
        )
        self._environment.globals.update(
            nav=_NAVIGATION, version=__version__, ago=formats.ago, share=charts.share
        )

    def render(self, page: Page, path: str) -> bytes:
        """Returns the HTML of a page at a path, with links that are relative to it.

        So they work below whatever path a proxy serves the coordinator at.
        """
        root = "../" * (path.count("/") - 1) or "./"
        section = "/".join(path.split("/")[1:3]) or "./"
        values = {
            "root": root,
            "static": f"{root}explorer/static/{self._static_version}",
            "query": "",
            "here": "./" + path.rpartition("/")[2],
            "section": section,
            "is_index": path.strip("/") == section.strip("./"),
            "now_s": time.time(),
            **page.values,
        }
        return self._environment.get_template(page.template).render(values).encode()
