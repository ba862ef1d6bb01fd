"""What the document says of files and batches beside what their classes do."""

from __future__ import annotations

from aitbc_server.rest.openapi.schemas import Schema

# What is uploaded.
FORM: Schema = {
    "type": "object",
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "JSON Lines: a request on each.",
        },
        "purpose": {"type": "string", "enum": ["batch"]},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
    },
    "required": ["file", "purpose"],
    "dependentRequired": {
        "expires_after[anchor]": ["expires_after[seconds]"],
        "expires_after[seconds]": ["expires_after[anchor]"],
    },
}
BATCH_EXAMPLE: Schema = {
    "input_file_id": "file-01k9zq4b5mr6t8vwxyz0123456",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
}
