"""The comments of the protos, which generated code leaves out and `make gen` keeps beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

_ERRORS = "Errors:"


class Comments:
    """Comments by the full name of what they stand above; a value's is below its enum's."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self._texts = {
            name: _flowed(location.leading_comments)
            for file in files
            for location in file.source_code_info.location
            if location.leading_comments and (name := _name(file, location.path))
        }

    def of(self, full_name: str) -> str:
        """Returns a comment, one line for each paragraph; empty where there is none."""
        return self._texts.get(full_name, "")

    def summary(self, full_name: str) -> str:
        """Returns the first sentence, without its full stop."""
        return self.of(full_name).partition("\n")[0].partition(". ")[0].rstrip(".")

    def description(self, full_name: str) -> str:
        """Returns the comment without what has a place of its own: errors, and "Required"."""
        text = self.of(full_name).removeprefix("Required. ")
        return "\n\n".join(part for part in text.split("\n\n") if not part.startswith(_ERRORS))

    def errors(self, full_name: str) -> str:
        """Returns the paragraph of a method that lists its errors."""
        parts = self.of(full_name).split("\n\n")
        return next((part for part in parts if part.startswith(_ERRORS)), "")


def packaged_comments() -> Comments:
    """Returns the comments of the API's own protos."""
    files = resources.files("aitbc.v1").iterdir()
    return Comments(
        file
        for path in files
        if path.name.endswith(".binpb")
        for file in FileDescriptorSet.FromString(path.read_bytes()).file
    )


def _name(file: FileDescriptorProto, path: Sequence[int]) -> str:
    """Returns the full name of the element at the path of a location; empty where it has none."""
    names, node = [file.package], file
    for number, index in zip(path[::2], path[1::2], strict=False):
        field = node.DESCRIPTOR.fields_by_number[number]
        if len(path) % 2 or not field.is_repeated or field.message_type is None:
            return ""
        node = getattr(node, field.name)[index]
        names.append(getattr(node, "name", ""))
    return ".".join(names)


def _flowed(comment: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in comment.strip().split("\n\n"))
