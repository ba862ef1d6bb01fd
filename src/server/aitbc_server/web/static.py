"""The files that pages refer to, below a path that changes with their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files

from aitbc_server.rest.asgi import Response

_TYPES = {
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
    "woff2": b"font/woff2",
}
# A year, the longest that caches are asked to believe.
_FOR_EVER = b"public, max-age=31536000, immutable"


class StaticFiles:
    """All files of the package's `static` folder, in memory."""

    def __init__(self) -> None:
        folder = files(__package__) / "static"
        self._files = {file.name: file.read_bytes() for file in folder.iterdir()}
        self._etags = {name: _etag(content) for name, content in self._files.items()}
        digest = hashlib.sha256()
        for name in sorted(self._files):
            digest.update(self._etags[name])
        # One version for all, so that a stylesheet finds its fonts beside it.
        self.version = digest.hexdigest()[:16]

    def response(self, version: str, name: str, headers: Mapping[bytes, bytes]) -> Response | None:
        """Returns a file; None when there is none of this name.

        A page from before an upgrade asks for an older version: it gets the file as it is now, and
        is told not to keep it.
        """
        content = self._files.get(name)
        if content is None:
            return None
        etag = self._etags[name]
        caching = _FOR_EVER if version == self.version else b"no-cache"
        about = ((b"etag", etag), (b"cache-control", caching))
        if headers.get(b"if-none-match") == etag:
            return Response(304, about)
        kind = _TYPES[name.rpartition(".")[2]]
        length = b"%d" % len(content)
        described = ((b"content-type", kind), (b"content-length", length), *about)
        return Response(200, (*described, (b"x-content-type-options", b"nosniff")), content)


def _etag(content: bytes) -> bytes:
    return b'"%s"' % hashlib.sha256(content).hexdigest()[:32].encode()
