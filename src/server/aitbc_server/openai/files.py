"""Files: `/v1/files`, which batches read and write."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from aitbc.v1 import batches_pb2
from aitbc_server.openai.call import Call
from aitbc_server.openai.calls import Calls
from aitbc_server.openai.errors import missing
from aitbc_server.openai.jobs import Client
from aitbc_server.openai.query import FilesQuery
from aitbc_server.openai.uploads import FileForm, disposition, read_form
from aitbc_server.rest.backend import Backend

_METHODS = batches_pb2.DESCRIPTOR.services_by_name["FileService"].methods_by_name
# Of the content, bytes that are sent on at once.
_PART_BYTES = 256 * 1024
_LISTED_PURPOSES = {
    "batch": batches_pb2.FILE_PURPOSE_BATCH,
    "batch_output": batches_pb2.FILE_PURPOSE_BATCH_OUTPUT,
}
_PURPOSE_NAMES = {number: name for name, number in _LISTED_PURPOSES.items()}
_ORDERS = {"asc": batches_pb2.LIST_ORDER_ASC, "desc": batches_pb2.LIST_ORDER_DESC}


class Files:
    """Answers the requests about files."""

    def __init__(self, backend: Backend) -> None:
        self._calls = Calls(backend)

    async def create(self, call: Call) -> None:
        """Takes a file."""
        client = call.client
        await self._calls.admit(_METHODS["CreateFile"], client)
        upload = _Upload(self._calls, client)
        try:
            form = await read_form(client.headers.get("content-type", ""), call.pieces(), upload)
            if not form.has_file:
                raise missing("file")
            expiry = call.checked(FileForm, form.members).expires_after
            file = await upload.finish(None if expiry is None else expiry.seconds)
        except Exception:
            await upload.drop()
            raise
        await call.answer(_file(file))

    async def list(self, call: Call) -> None:
        """Answers with files of the caller."""
        query: FilesQuery = call.query
        purpose = query.purpose
        if purpose and purpose not in _LISTED_PURPOSES:
            # There are none.
            await call.answer(_page([], has_more=False))
            return
        request = batches_pb2.ListFilesRequest(
            purpose=_LISTED_PURPOSES.get(purpose, 0),  # type: ignore[arg-type]  # 0: all
            limit=query.limit,
            after=query.after,
            order=_ORDERS[query.order],
        )
        listed = await self._calls.call(_METHODS["ListFiles"], request, call.client)
        await call.answer(_page([_file(file) for file in listed.files], has_more=listed.has_more))

    async def get(self, call: Call, file_id: str) -> None:
        """Answers with what is known of a file."""
        request = batches_pb2.GetFileRequest(file_id=file_id)
        await call.answer(_file(await self._calls.call(_METHODS["GetFile"], request, call.client)))

    async def delete(self, call: Call, file_id: str) -> None:
        """Deletes a file."""
        request = batches_pb2.DeleteFileRequest(file_id=file_id)
        await self._calls.call(_METHODS["DeleteFile"], request, call.client)
        await call.answer({"id": file_id, "object": "file", "deleted": True})

    async def content(self, call: Call, file_id: str) -> None:
        """Answers with the content of a file, under its name."""
        # It is one call, though the name is asked for first.
        await self._calls.admit(_METHODS["ReadFile"], call.client)
        named = batches_pb2.GetFileRequest(file_id=file_id)
        file = await self._calls.call(_METHODS["GetFile"], named, call.client)
        request = batches_pb2.ReadFileRequest(file_id=file_id)
        messages = await self._calls.open(_METHODS["ReadFile"], request, call.client)
        async with contextlib.aclosing(_contents(messages)) as pieces:
            await call.send_content(pieces, [disposition(file.filename)])


class _Upload:
    """A file that is coming, passed on in parts."""

    def __init__(self, calls: Calls, client: Client) -> None:
        self._calls = calls
        self._client = client
        self._file_id = ""
        self._offset = 0
        self._content = bytearray()

    async def begin(self, filename: str) -> None:
        """Begins the file."""
        request = batches_pb2.CreateFileRequest(
            filename=filename, purpose=batches_pb2.FILE_PURPOSE_BATCH
        )
        file = await self._calls.call(_METHODS["CreateFile"], request, self._client)
        self._file_id = file.file_id

    async def write(self, content: bytes) -> None:
        """Passes on what fills a part."""
        self._content += content
        most = self._part_bytes
        while len(self._content) >= most:
            await self._append(bytes(self._content[:most]))
            del self._content[:most]

    async def finish(self, expires_after_s: int | None) -> batches_pb2.File:
        """Passes on what is left, and ends the file."""
        if self._content:
            await self._append(bytes(self._content))
        request = batches_pb2.FinishFileRequest(
            file_id=self._file_id, bytes=self._offset, expires_after_seconds=expires_after_s
        )
        finish = _METHODS["FinishFile"]
        file: batches_pb2.File = await self._calls.call_patiently(finish, request, self._client)
        return file

    async def drop(self) -> None:
        """Deletes what came of it: it will never be whole."""
        if self._file_id:
            request = batches_pb2.DeleteFileRequest(file_id=self._file_id)
            # Otherwise it goes by itself after a while.
            with contextlib.suppress(Exception):
                await self._calls.call_patiently(_METHODS["DeleteFile"], request, self._client)

    @property
    def _part_bytes(self) -> int:
        caller = self._client.caller
        most = caller.limits.body_bytes if caller is not None else 0
        # The message has a little more than the part.
        return min(_PART_BYTES, max(1, most - 256)) if most else _PART_BYTES

    async def _append(self, part: bytes) -> None:
        request = batches_pb2.AppendFileRequest(
            file_id=self._file_id, offset=self._offset, content=part
        )
        await self._calls.call_patiently(_METHODS["AppendFile"], request, self._client)
        self._offset += len(part)


async def _contents(messages: Any) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(messages):
        async for message in messages:
            yield message.content


def _page(files: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    return {
        "object": "list",
        "data": files,
        "first_id": files[0]["id"] if files else None,
        "last_id": files[-1]["id"] if files else None,
        "has_more": has_more,
    }


def _file(file: batches_pb2.File) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": file.file_id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at.seconds,
        "filename": file.filename,
        "purpose": _PURPOSE_NAMES[file.purpose],
        "status": "processed" if file.finished else "uploaded",
        "status_details": None,
    }
    if file.HasField("expires_at"):
        told["expires_at"] = file.expires_at.seconds
    return told
