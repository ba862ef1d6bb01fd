"""Writes the description of what is signed and hashed, with an example worked out by the code."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

from scripts.vectors import SALT, vectors

from aitbc_server.ledger.merkle import leaf_hash
from aitbc_server.ledger.receipts import SIGNED_FIELDS

_FIELDS = {
    "receipt_id": "string: `rcpt-` and what follows `job-` in the job's id",
    "job_id": "string",
    "client": "string: address that pays",
    "miner_id": "string",
    "miner": "string: address that is paid, that of `miner:` and the miner's id",
    "model": "string",
    "units": "integer: tokens of prompt and result, or characters (code points) of the result",
    "unit_type": "string: `tokens`, or `characters` where the miner reported no tokens",
    "prompt_tokens": "integer, when the miner reported it",
    "completion_tokens": "integer, when the miner reported it",
    "price": "string: decimal number without exponent or trailing zeros",
    "currency": "string",
    "prompt_hash": "string: 64 hex digits, see *Salted hashes*",
    "result_hash": "string: 64 hex digits",
    "started_at": "string: a time, see below",
    "completed_at": "string: a time",
    "attempt": "integer from 1: which lease of the job it was",
    "coordinator": "string: name of the ledger, the first line of its checkpoints",
    "nonce": "string: 16 random bytes, 32 hex digits",
    "miner_signature": "object, when the miner has a key: see *Batch signatures*",
    "version": "integer: 2. Receipts of before have neither it nor the two hashes below",
    "request_hash": "string: 64 hex digits, see *Salted hashes*",
    "answer_hash": "string: 64 hex digits",
    "resumed": "object, when the miner went on from the text of others: `parts`, in their order, "
    "each with `miner_id` and `characters`, its length in code points",
}


def page() -> Iterator[str]:
    """Yields the lines of the page."""
    v = vectors()
    yield _INTRODUCTION
    yield "| field | is |"
    yield "| --- | --- |"
    for name in SIGNED_FIELDS:
        yield f"| `{name}` | {_FIELDS[name]} |"
    yield _RULES
    yield from _code("text", v.verifier_key)
    yield _EXAMPLE.format(
        coordinator=_b64(v.coordinator.public_key), miner=_b64(v.miner.public_key), salt=SALT.hex()
    )
    yield from _code("text", v.asked.decode(), *[one.decode() for one in v.answered])
    yield ""
    yield "**The miner's statements**, in the order of its message, each with the hash of its leaf:"
    for statement in v.statements:
        yield ""
        yield from _code("text", statement.decode(), leaf_hash(statement).hex())
    yield (
        "\nTheir Merkle root, and the miner's signature over `aitbc-statements/v1\\n` and the "
        "root:\n"
    )
    yield from _code("text", v.statement_root.hex(), _b64(v.statement_signature))
    yield "\n**The receipts** that were stored in one commit, each with the hash of its leaf:"
    for entry in v.entries:
        yield ""
        yield from _code("text", entry.body.decode(), entry.leaf_hash.hex())
    yield (
        "\nTheir Merkle root, and the coordinator's signature over `aitbc-receipts/v1\\n` and the "
        "root:\n"
    )
    yield from _code("text", v.receipts_root.hex(), _b64(v.receipts_signature))
    yield "\n**The block** that seals them, and its hash:\n"
    yield from _code("text", v.checkpoint.rstrip("\n"))
    yield ""
    yield from _code("text", v.block.hash.hex())


def _code(language: str, *lines: str) -> Iterator[str]:
    yield f"```{language}"
    yield from lines
    yield "```"


def _b64(data: bytes) -> str:
    return b64encode(data).decode()


_INTRODUCTION = """
# Formats of the ledger

What is signed and hashed, byte by byte, so that it can be checked in any language:
[examples/verify-receipt](../../examples/verify-receipt/verify.mjs) does it in 200 lines of
JavaScript. Why it is built this way is told in [Receipts and the
ledger](../explanation/receipts-and-ledger.md).

`||` joins bytes, `SHA256` is SHA-256, signatures are Ed25519 (RFC 8032). In JSON, hashes, salts
and nonces are lower-case hex digits; keys and signatures are Base64 with padding. Texts are
UTF-8.

## Canonical JSON

[RFC 8785](https://www.rfc-editor.org/rfc/rfc8785). Here it only meets objects with ASCII names,
lists, strings, and integers below 2^53: names sorted, no spaces, strings as `JSON.stringify`
writes them. A field that is absent, or a list that is empty, is left out.

## Receipts

A receipt's **body** is the canonical JSON of these fields. The REST API shows them at the top
level of a receipt, as they are signed; what it shows beside them (`signature`, `status`,
`leaf_index`, `leaf_hash`, `block_height`, `proof`, `disclosure`) is not part of the body.
"""

_RULES = """
A **time** is RFC 3339 in UTC with `Z`, and six digits of a fraction, or none when they would be
zeros: `2026-01-24T15:00:05Z`, `2026-01-24T15:00:01.000500Z`.

An **address** is Bech32 (BIP 173) with the prefix `ait` over the first 20 bytes of
`SHA256("aitbc-address/v1\\n" || subject)`; the subject of a miner is `miner:` and its id.

### Salted hashes

```text
prompt_hash  = SHA256(prompt_salt || prompt)
request_hash = SHA256(prompt_salt || prompt_hash || asked)
result_hash  = SHA256(result_salt || result)
answer_hash  = SHA256(result_salt || result_hash || answered)
```

Each salt is 16 random bytes, kept with the job. Its owner gets them as `disclosure`. The hashes
within hashes are their 32 bytes.

Of a job that was submitted as `messages` or `inputs`, the prompt is the canonical JSON of the
list, each item with the fields that were given; of one that was submitted as `prompt_token_ids`,
that of the list of their numbers, such as `[1,2]`.

**asked** is canonical JSON of what is asked of the model beside the prompt: those of the job's
fields `model`, `task`, `params`, `prompt_options`, `dimensions`, `use_activation`, `tools`,
`tool_choice`, `parallel_tool_calls`, `response_format` and `raw_prompt` that are set;
`conversation`: true when it has `messages`; and `tokens`: true when it has `prompt_token_ids`.
**answered** is canonical JSON of what the answer has beside its text: those of `finish_reason`,
`reasoning`, `tool_calls`, `outputs`, `stop_string` and `stop_token_id` that are set; and `logprobs`
and `token_ids`: integers, of how many tokens there are log probabilities and ids, unless they are
0.

The values have the form in which the REST API shows the job, with these rules:

- What is absent is left out, and so are empty texts, lists and objects and `false`. Numbers may
  be 0, and these may be `false`: `parallel_tool_calls`, `skip_special_tokens`,
  `spaces_between_special_tokens`, `add_generation_prompt`, `add_special_tokens` and a tool's
  `strict`. An item of `outputs` may be empty.
- An integer, such as `max_tokens` or one of `stop_token_ids`, is a string of its decimal
  digits, after `-` when it is negative.
- A number with a fraction (`temperature`, `top_p`, `min_p`, `presence_penalty`,
  `frequency_penalty`, `repetition_penalty`, the values of `logit_bias`, `score`) is a string of
  16 hex digits: its IEEE 754 double, big-endian. 0.7 is `3fe6666666666666`.
- A `vector` is one string of 8 hex digits for each of its numbers: their IEEE 754 singles,
  big-endian, one after the other.

What bears on when a job runs, such as `priority` and `timeout_seconds`, and what its client notes
are not part of it.

## Leaves and trees

[RFC 9162](https://www.rfc-editor.org/rfc/rfc9162), section 2.1:

```text
leaf = SHA256(0x00 || body)                 node = SHA256(0x01 || left || right)
```

The leaf hash of a receipt is also the hash of its transaction. Receipts are numbered from 0, in
the order in which they were stored: `leaf_index`. Inclusion proofs are those of section 2.1.3,
consistency proofs those of section 2.1.4.

## Batch signatures

Things that are signed at the same time get one signature, over the Merkle root of their leaves:

```text
signature = Ed25519(key, purpose || root)   root: 32 bytes
```

| who signs | purpose | leaves |
| --- | --- | --- |
| the coordinator | `aitbc-receipts/v1\\n` | the bodies of the receipts of one commit |
| a miner | `aitbc-statements/v1\\n` | its statements of the results in one message |

For one of them the signature is given as an object: `public_key`, `signature`, `index` (its
place, from 0), `size` (how many there were) and `path`, the inclusion proof of its leaf in that
small tree. For a thing that was signed alone `path` is empty, so absent, and the root is the
leaf.

### A miner's statement

The canonical JSON of `miner_id`, `job_id`, `lease_id`, `result_hash`, `version`: 2,
`answer_hash`, and, where the miner reports them, `prompt_tokens` and `completion_tokens`. A
statement of version 1 has neither `version` nor `answer_hash`. The version of a statement is
`version` in the object of its signature; absent is 1. The salt of both hashes is the miner's
choice and travels with the result. On the Work stream, `Updates.signature` covers the
completions of the message in their order, and `Updates.statement_version` says which version;
`Welcome.statement_version` says the newest that the coordinator takes. A miner that polls signs
version 1, whose answer is the text alone. It sends `receipt {result_salt,
signature}` with `POST /v1/jobs/{job_id}/complete`; it signs each statement alone. From a
receipt, the statement is put together again with `lease_id` = `lease-`, what follows `job-` in
the job's id, `-` and `attempt`.

## Blocks

A block is a [checkpoint](https://c2sp.org/tlog-checkpoint) in a [signed
note](https://c2sp.org/signed-note), with three extension lines:

```text
<name of the ledger>
<leaves of the ledger, those of this block included>
<Merkle root of all these leaves, Base64>
height <number of the block, from 0>
previous <hash of the block before, hex; 64 zeros for block 0>
time <the latest completed_at of all receipts so far>

— <name of the ledger> <Base64 of the key's hash (4 bytes) || signature (64 bytes)>
```

Every line ends with a newline. What is signed is everything up to the empty line, which is not
part of it. The hash of the block is the SHA-256 of the same text, so it does not depend on the
signature. The key's hash is the beginning of `SHA256(name || "\\n" || 0x01 || public key)`. A
block ends where a commit did: never inside a batch.

A witness adds a line of its own, a [cosignature](https://c2sp.org/tlog-cosignature) of version 1:

```text
— <name of the witness> <Base64 of key hash (4 bytes) || time (8 bytes) || signature (64 bytes)>
```

The time is big-endian, in seconds since 1970. What the witness signs is
`"cosignature/v1\\ntime " || time in decimal || "\\n" || text`; its key's hash has 0x04 in the
place of 0x01.

## Keys

`GET /.well-known/aitbc-keys.json` lists every key that signs or signed, the oldest first. Each
but the first has an `endorsement`: the signature of the key before over
`"aitbc-ledger-key/v1\\n" || public key`. `verifier_key` is the form that tools for signed notes
take. That of the example below:
"""

_EXAMPLE = """
## Over HTTP

| path | is |
| --- | --- |
| `/checkpoint` | the newest block, with the cosignatures that it has |
| `/tile/<L>/<N>[.p/<W>]` | hashes of the tree, by [tlog-tiles](https://c2sp.org/tlog-tiles) |
| `/tile/entries/<N>[.p/<W>]` | bodies of receipts, each after its length in two bytes, big-endian |
| `/ledger/signatures/<N>` | JSON: the coordinator's signatures of batches that begin in that tile |
| `/explorer/blocks` | JSON: the blocks |
| `/explorer/consistency` | JSON: the proof between two blocks |
| `/explorer/cosignatures` | JSON: the newest checkpoint that each witness cosigned |
| `/.well-known/aitbc-keys.json` | JSON: the keys |

A tile is there as soon as a block holds all of it, and never changes.

## Example

Worked out by the coordinator's own code; a test checks it with other code. The coordinator's
private key is 32 bytes 0x01, the miner's 32 bytes 0x02; their public keys:

```text
{coordinator}
{miner}
```

Two jobs with the prompt `What is the capital of France?` gave the results `Paris.` and
`R\u00f6ntgen`. All salts are `{salt}`. What both ask beside the
prompt, and what each answers beside its text:
"""
