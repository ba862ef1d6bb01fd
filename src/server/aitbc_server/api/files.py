"""FileService: files of clients, which come and go in parts."""

from __future__ import annotations

import re
from asyncio import Future
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from aitbc.v1 import batches_pb2
from aitbc_server.api.convert import timestamp
from aitbc_server.api.endpoint import Messages
from aitbc_server.api.pages import page_of
from aitbc_server.domain.caller import Caller
from aitbc_server.domain.clock import Clock
from aitbc_server.domain.errors import (
    FileInUse,
    FileNotFound,
    InvalidArgument,
    PayloadTooLarge,
    TooManyFiles,
    UploadOutOfPlace,
)
from aitbc_server.domain.files import Appended, Dropped, FilePurpose, FileRecord, file_id_of
from aitbc_server.domain.ids import IdSource
from aitbc_server.lifecycle import Lifecycle

# Of one part.
MOST_PART_BYTES = 1024 * 1024
_MOST_LISTED = 10_000
# How long a file may take to come.
_UPLOAD_US = 3600 * 1_000_000
# Names are told in headers and lists: one line each.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_PURPOSE_TO_PROTO = {
    purpose: batches_pb2.FilePurpose.Value(f"FILE_PURPOSE_{purpose.name}")
    for purpose in FilePurpose
}
_PURPOSE_FROM_PROTO = {number: purpose for purpose, number in _PURPOSE_TO_PROTO.items()}


class FileStore(Protocol):
    """What the service needs of storage. Each method raises StorageUnavailable."""

    def add(self, file: FileRecord, most: int) -> Future[bool]:
        """Stores a file without content; False when its owner has as many as `most`."""
        ...

    def append(self, file_id: str, start: int, content: bytes, most_bytes: int) -> Future[Appended]:
        """Adds to a file, whose owner's files may have so many bytes together."""
        ...

    def finish(self, file_id: str, size: int, expires_us: int | None) -> Future[bool]:
        """Ends a file; False when it does not have so many bytes, or has ended."""
        ...

    def drop(self, file_id: str) -> Future[Dropped]:
        """Deletes a file."""
        ...

    def file(self, file_id: str) -> Future[FileRecord | None]:
        """Returns a file, finished or not."""
        ...

    def files(
        self,
        owner: str,
        *,
        limit: int,
        purpose: FilePurpose | None = None,
        after: str | None = None,
        oldest_first: bool = False,
    ) -> Future[list[FileRecord]]:
        """Returns a page of an owner's finished files."""
        ...

    def content(self, file_id: str, start: int) -> Future[bytes]:
        """Returns some of the content from a place on; nothing at its end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBounds:
    """What files may be."""

    # Of one file.
    most_bytes: int
    # Of all files of one owner.
    most_bytes_each: int
    most_each: int
    # How long they are kept, unless their owner says so; None: for ever.
    keep_s: float | None


def expiry_us(now_us: int, seconds: float | None) -> int | None:
    """Returns when a file that is kept so long is deleted."""
    return None if seconds is None else now_us + int(seconds * 1_000_000)


class FileService:
    """Implements aitbc.v1.FileService."""

    descriptor = batches_pb2.DESCRIPTOR.services_by_name["FileService"]

    def __init__(
        self,
        store: FileStore,
        clock: Clock,
        ids: IdSource,
        lifecycle: Lifecycle,
        bounds: FileBounds,
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._lifecycle = lifecycle
        self._bounds = bounds

    async def create_file(
        self, request: batches_pb2.CreateFileRequest, caller: Caller
    ) -> batches_pb2.File:
        """Stores a file without content."""
        self._lifecycle.check_serving()
        if request.purpose != batches_pb2.FILE_PURPOSE_BATCH:
            raise InvalidArgument("purpose", "must be batch: nothing here reads files of others")
        if _CONTROL.search(request.filename):
            raise InvalidArgument("filename", "must not contain control characters")
        now_us = self._clock.wall_us()
        file = FileRecord(
            file_id=file_id_of(self._ids.ulid(now_us)),
            owner=caller.owner,
            filename=request.filename,
            purpose=FilePurpose.BATCH,
            created_us=now_us,
            # Unless it is finished.
            expires_us=now_us + _UPLOAD_US,
        )
        if not await self._store.add(file, self._bounds.most_each):
            raise TooManyFiles(f"you have {self._bounds.most_each} files already")
        return file_message(file)

    async def append_file(
        self, request: batches_pb2.AppendFileRequest, caller: Caller
    ) -> batches_pb2.File:
        """Stores more of the content."""
        self._lifecycle.check_serving()
        file = await self._own(request.file_id, caller)
        bounds, content = self._bounds, request.content
        if not 0 < len(content) <= MOST_PART_BYTES:
            raise InvalidArgument("content", f"must have 1 to {MOST_PART_BYTES} bytes")
        most_bytes = min(bounds.most_bytes, bounds.most_bytes_each)
        if request.offset + len(content) > most_bytes:
            raise PayloadTooLarge(most_bytes)
        appended = await self._store.append(
            file.file_id, request.offset, content, bounds.most_bytes_each
        )
        if appended is Appended.OVER:
            raise TooManyFiles(f"your files may have {bounds.most_bytes_each} bytes together")
        if appended is Appended.MISPLACED:
            raise _misplaced(file)
        return file_message(await self._own(request.file_id, caller))

    async def finish_file(
        self, request: batches_pb2.FinishFileRequest, caller: Caller
    ) -> batches_pb2.File:
        """Ends the content."""
        self._lifecycle.check_serving()
        file = await self._own(request.file_id, caller)
        keep_s = self._bounds.keep_s
        if request.HasField("expires_after_seconds"):
            keep_s = request.expires_after_seconds
        expires_us = expiry_us(file.created_us, keep_s)
        if not await self._store.finish(file.file_id, request.bytes, expires_us):
            file = await self._own(request.file_id, caller)
            if not file.is_finished or file.size != request.bytes:
                raise _misplaced(file)
        return file_message(await self._own(request.file_id, caller))

    async def get_file(
        self, request: batches_pb2.GetFileRequest, caller: Caller
    ) -> batches_pb2.File:
        """Returns a file."""
        return file_message(await self._own(request.file_id, caller))

    async def list_files(
        self, request: batches_pb2.ListFilesRequest, caller: Caller
    ) -> batches_pb2.ListFilesResponse:
        """Returns a page of the caller's files."""
        limit = request.limit if request.HasField("limit") else _MOST_LISTED
        if request.after:
            await self._own(request.after, caller)
        found = await self._store.files(
            caller.owner,
            limit=limit + 1,
            purpose=_PURPOSE_FROM_PROTO.get(request.purpose),
            after=request.after or None,
            oldest_first=request.order == batches_pb2.LIST_ORDER_ASC,
        )
        page = page_of(found, limit, file_message)
        return batches_pb2.ListFilesResponse(files=page.items, has_more=page.last is not None)

    async def read_file(self, request: batches_pb2.ReadFileRequest, caller: Caller) -> Messages:
        """Streams the content."""
        file = await self._own(request.file_id, caller)
        if not file.is_finished:
            raise FileNotFound
        return self._parts(file, request.offset)

    async def delete_file(
        self, request: batches_pb2.DeleteFileRequest, caller: Caller
    ) -> batches_pb2.DeleteFileResponse:
        """Deletes a file."""
        self._lifecycle.check_serving()
        file = await self._own(request.file_id, caller)
        dropped = await self._store.drop(file.file_id)
        if dropped is Dropped.IN_USE:
            raise FileInUse
        if dropped is Dropped.UNKNOWN:
            raise FileNotFound
        return batches_pb2.DeleteFileResponse()

    async def _parts(
        self, file: FileRecord, start: int
    ) -> AsyncGenerator[batches_pb2.ReadFileResponse, None]:
        while start < file.size:
            content = await self._store.content(file.file_id, start)
            if not content:
                # Deleted while it is read.
                raise FileNotFound
            start += len(content)
            yield batches_pb2.ReadFileResponse(content=content)

    async def _own(self, file_id: str, caller: Caller) -> FileRecord:
        file = await self._store.file(file_id)
        if file is None or not caller.owns(file.owner):
            raise FileNotFound
        return file


def _misplaced(file: FileRecord) -> UploadOutOfPlace:
    state = "is finished" if file.is_finished else f"has {file.size} bytes"
    return UploadOutOfPlace(f"the file {state}")


def file_message(file: FileRecord) -> batches_pb2.File:
    """Returns a file as its owner sees it."""
    return batches_pb2.File(
        file_id=file.file_id,
        filename=file.filename,
        purpose=_PURPOSE_TO_PROTO[file.purpose],
        bytes=file.size,
        created_at=timestamp(file.created_us),
        expires_at=None if file.expires_us is None else timestamp(file.expires_us),
        finished=file.is_finished,
    )
