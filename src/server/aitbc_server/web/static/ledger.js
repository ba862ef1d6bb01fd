// Checks receipts with the browser's own cryptography. Nothing here asks the server for anything.

const utf8 = new TextEncoder();
const HASH = /^[0-9a-f]{64}$/;

// Fields that are signed, and whether every receipt has them.
const SIGNED = {
  receipt_id: true, job_id: true, client: true, miner_id: true, miner: true, model: true,
  units: true, unit_type: true, prompt_tokens: false, completion_tokens: false, price: true,
  currency: true, prompt_hash: true, result_hash: true, started_at: true, completed_at: true,
  attempt: true, coordinator: true, nonce: true, miner_signature: false,
  version: false, request_hash: false, answer_hash: false, resumed: false,
};

class Problem extends Error {}

// --- Bytes ------------------------------------------------------------------------------------

function concat(...parts) {
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function fromHex(text, what) {
  if (!HASH.test(text)) throw new Problem(`${what} is not 64 hex digits`);
  return Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));
}

function fromBase64(text, size, what) {
  let decoded = null;
  try {
    decoded = atob(text);
  } catch {
    // told below
  }
  // Base64 has spare bits: only one of the texts that decode to the same bytes is taken.
  if (decoded === null || decoded.length !== size || btoa(decoded) !== text) {
    throw new Problem(`${what} is not ${size} bytes of Base64`);
  }
  return Uint8Array.from(decoded, (character) => character.charCodeAt(0));
}

const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));

async function isSignedBy(publicKey, signature, message) {
  const key = await crypto.subtle.importKey("raw", publicKey, "Ed25519", false, ["verify"]);
  return crypto.subtle.verify("Ed25519", key, signature, message);
}

// --- Canonical JSON (RFC 8785) ------------------------------------------------------------------

function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const entries = Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`);
    return `{${entries.join(",")}}`;
  }
  if (typeof value === "string" || Number.isSafeInteger(value)) return JSON.stringify(value);
  throw new Problem("it holds a value that is neither a text nor an integer");
}

// --- Merkle trees (RFC 9162) --------------------------------------------------------------------

const leafHash = (bytes) => sha256(concat(Uint8Array.of(0), bytes));
const nodeHash = (left, right) => sha256(concat(Uint8Array.of(1), left, right));
const half = (number) => Math.floor(number / 2);

// Returns the root that a path leads to from a leaf, or null when it does not fit the tree.
async function rootByPath(leaf, index, size, path) {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) return null;
  let [at, last, root] = [index, size - 1, leaf];
  for (const sibling of path) {
    if (last === 0) return null;
    if (at % 2 === 1 || at === last) {
      root = await nodeHash(sibling, root);
      while (at % 2 === 0 && at > 0) [at, last] = [half(at), half(last)];
    } else {
      root = await nodeHash(root, sibling);
    }
    [at, last] = [half(at), half(last)];
  }
  return last === 0 ? root : null;
}

const hashes = (list) => (list ?? []).map((text) => fromHex(text, "a hash of the path"));

// Says whether a signature over the root of a batch holds for one leaf of it.
async function covers(signed, purpose, leaf) {
  const publicKey = fromBase64(signed.public_key, 32, "the public key");
  const signature = fromBase64(signed.signature, 64, "the signature");
  const root = await rootByPath(leaf, signed.index, signed.size, hashes(signed.path));
  return root !== null && isSignedBy(publicKey, signature, concat(utf8.encode(purpose), root));
}

// --- Signed notes (C2SP) ------------------------------------------------------------------------

function parseCheckpoint(note) {
  const split = String(note).lastIndexOf("\n\n");
  if (split < 0) throw new Problem("the checkpoint is no signed note");
  const text = note.slice(0, split + 1);
  const [origin, size, root, height] = text.split("\n");
  const signatures = note.slice(split + 2).trimEnd().split("\n").map((line) => {
    const [dash, name, encoded] = line.split(" ");
    if (dash !== "\u2014" || !encoded) throw new Problem("the checkpoint has a line that is no signature");
    const bytes = fromBase64(encoded, 68, "a signature of the checkpoint");
    return { name, keyHash: toHex(bytes.slice(0, 4)), signature: bytes.slice(4) };
  });
  return {
    text, origin, signatures,
    size: Number(size),
    root: toHex(fromBase64(root, 32, "the root in the checkpoint")),
    height: Number(height.replace("height ", "")),
  };
}

async function isNoteSignedBy(note, publicKey) {
  const named = concat(utf8.encode(`${note.origin}\n`), Uint8Array.of(1), publicKey);
  const keyHash = toHex((await sha256(named)).slice(0, 4));
  for (const one of note.signatures) {
    if (one.name === note.origin && one.keyHash === keyHash
        && await isSignedBy(publicKey, one.signature, utf8.encode(note.text))) return true;
  }
  return false;
}

// --- Checks -------------------------------------------------------------------------------------

function signedFields(receipt) {
  const fields = {};
  for (const [name, isRequired] of Object.entries(SIGNED)) {
    if (receipt[name] !== undefined) fields[name] = receipt[name];
    else if (isRequired) throw new Problem(`it has no ${name}`);
  }
  const version = fields.version ?? 1;
  if (version !== 1 && version !== 2) throw new Problem(`it is of version ${version}, which this page does not know`);
  for (const name of ["request_hash", "answer_hash"]) {
    if ((version === 2) !== (name in fields)) throw new Problem(`its ${name} is not that of its version`);
  }
  return fields;
}

async function statementLeaf(receipt) {
  const statement = {
    miner_id: receipt.miner_id,
    job_id: receipt.job_id,
    lease_id: `${String(receipt.job_id).replace(/^job-/, "lease-")}-${receipt.attempt}`,
    result_hash: receipt.result_hash,
  };
  for (const name of ["prompt_tokens", "completion_tokens"]) {
    if (receipt[name] !== undefined) statement[name] = receipt[name];
  }
  // Since version 2 it covers the whole answer.
  if (receipt.miner_signature.version === 2) Object.assign(statement, { version: 2, answer_hash: receipt.answer_hash });
  return leafHash(utf8.encode(canonical(statement)));
}

const passed = (why) => ({ outcome: "passed", why });
const failed = (why) => ({ outcome: "failed", why });
const skipped = (why) => ({ outcome: "skipped", why });

// What is checked, in order. Each gets the receipt, the hash of its leaf and the ledger's keys.
const CHECKS = {
  "Contents": async ({ receipt, leaf }) => {
    const hash = toHex(leaf);
    if (receipt.leaf_hash !== undefined && receipt.leaf_hash !== hash) {
      return failed(`its contents hash to ${hash}, but it says ${receipt.leaf_hash}`);
    }
    return passed(`its contents hash to ${hash}`);
  },
  "Signature of the coordinator": async ({ receipt, leaf, keys }) => {
    if (!receipt.signature) return failed("it has no signature");
    if (!keys.includes(receipt.signature.public_key)) {
      return failed(`its key ${receipt.signature.public_key} is none that this coordinator publishes`);
    }
    if (!await covers(receipt.signature, "aitbc-receipts/v1\n", leaf)) {
      return failed("the signature is not one of these contents");
    }
    return passed(`made with the key ${receipt.signature.public_key}`);
  },
  "Signature of the miner": async ({ receipt }) => {
    if (!receipt.miner_signature) return skipped("the miner has no key");
    if (!await covers(receipt.miner_signature, "aitbc-statements/v1\n", await statementLeaf(receipt))) {
      return failed("the signature is not one of this work");
    }
    return passed(`made with the key ${receipt.miner_signature.public_key}`);
  },
  "Place in the ledger": async ({ receipt, leaf }) => {
    const { proof } = receipt;
    if (!proof) return skipped("it has no proof: its block is not sealed yet, which takes a few seconds");
    const root = await rootByPath(leaf, proof.leaf_index, proof.tree_size, hashes(proof.path));
    if (root === null || toHex(root) !== proof.root_hash) {
      return failed("the proof does not lead from these contents to the Merkle root of its block");
    }
    if (proof.leaf_hash !== toHex(leaf)) return failed("the proof is of another entry");
    if (proof.receipt_id !== receipt.receipt_id) return failed(`the proof is of ${proof.receipt_id}`);
    if (receipt.status !== undefined && receipt.status !== "sealed") {
      return failed(`it says that it is ${receipt.status}, and has a proof that it is sealed`);
    }
    if (receipt.leaf_index !== undefined && receipt.leaf_index !== proof.leaf_index) {
      return failed(`it says that it is entry ${receipt.leaf_index}, and its proof ${proof.leaf_index}`);
    }
    return passed(`leaf ${proof.leaf_index} of ${proof.tree_size}, below the root ${proof.root_hash}`);
  },
  "Signature of the block": async ({ receipt, keys }) => {
    const { proof } = receipt;
    if (!proof) return skipped("it has no proof");
    const note = parseCheckpoint(proof.checkpoint);
    if (note.origin !== receipt.coordinator) return failed(`the block is of the ledger ${note.origin}`);
    if (note.root !== proof.root_hash || note.size !== proof.tree_size) {
      return failed("the block’s checkpoint names another Merkle root than the proof");
    }
    const hash = toHex(await sha256(utf8.encode(note.text)));
    if (proof.block_hash !== hash) return failed(`the checkpoint is of the block ${hash}`);
    for (const height of [proof.block_height, receipt.block_height]) {
      if (height !== undefined && height !== note.height) {
        return failed(`the checkpoint is of block ${note.height}, not ${height}`);
      }
    }
    for (const key of keys) {
      if (await isNoteSignedBy(note, fromBase64(key, 32, "a published key"))) {
        return passed(`block ${note.height} is signed with the key ${key}`);
      }
    }
    return failed("the block’s checkpoint is signed by none of the coordinator’s keys");
  },
};

// Yields {what, outcome, why} for each check of a receipt as the REST API shows it. `keys` are the
// public keys of its ledger, in Base64.
export async function* check(receipt, keys) {
  let leaf;
  try {
    leaf = await leafHash(utf8.encode(canonical(signedFields(receipt))));
  } catch (error) {
    yield { what: "Contents", ...failed(reason(error)) };
    return;
  }
  for (const [what, run] of Object.entries(CHECKS)) {
    try {
      yield { what, ...await run({ receipt, leaf, keys }) };
    } catch (error) {
      yield { what, ...failed(reason(error)) };
    }
  }
}

function reason(error) {
  if (error instanceof Problem) return error.message;
  if (error.name === "NotSupportedError") return "this browser cannot check Ed25519 signatures";
  return "it is not written as a receipt is";
}
