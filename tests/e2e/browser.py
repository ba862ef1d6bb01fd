"""A browser, and the site of another origin whose pages it shows."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from tests.e2e.node_client import SCRIPTS

_MODULES = "/node_modules"
_PROTOBUF, _CONNECT = "@bufbuild/protobuf", "@connectrpc/connect"
# Where the browser finds what modules import by name.
_IMPORTS = {
    _PROTOBUF: f"{_MODULES}/{_PROTOBUF}/dist/esm/index.js",
    **{
        f"{_PROTOBUF}/{part}": f"{_MODULES}/{_PROTOBUF}/dist/esm/{part}/index.js"
        for part in ("codegenv2", "wire", "wkt")
    },
    _CONNECT: f"{_MODULES}/{_CONNECT}/dist/esm/index.js",
    **{
        f"{_CONNECT}/{part}": f"{_MODULES}/{_CONNECT}/dist/esm/{part}/index.js"
        for part in ("protocol", "protocol-connect", "protocol-grpc-web")
    },
    f"{_CONNECT}-web": f"{_MODULES}/{_CONNECT}-web/dist/esm/index.js",
    "grpc-web": f"{_MODULES}/grpc-web/index.esm.js",
    "openai": f"{_MODULES}/openai/index.mjs",
}
_PAGE = f'<title>app</title><script type="importmap">{json.dumps({"imports": _IMPORTS})}</script>'


class _Site(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012 - as its class has it
        ".mjs": "text/javascript",
        ".js": "text/javascript",
        ".binpb": "application/octet-stream",
        "": "text/html",
    }

    def do_GET(self) -> None:
        if self.path == "/":
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(_PAGE.encode())
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


class _LaidSite(_Site):
    def __init__(self, *given: Any, laid: Path) -> None:
        self._laid = laid
        super().__init__(*given, directory=str(SCRIPTS))

    def translate_path(self, path: str) -> str:
        laid = self._laid / path.lstrip("/")
        return str(laid) if laid.is_file() else super().translate_path(path)


@contextmanager
def site(laid: Path) -> Iterator[str]:
    """Serves a page that can import what is laid there, and the scripts; gives its origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_LaidSite, laid=laid))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Gives a browser."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path is not None, "no browser: install chromium"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *arguments])
