import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Returns the Ed25519 key in a file, PKCS #8 in PEM as aitbc-miner has it. Where there is no file, it makes one that
 * only its owner can read.
 */
export function loadKey(file: string): KeyObject {
  const key = createPrivateKey(read(file) ?? make(file));
  if (key.asymmetricKeyType !== "ed25519") throw new TypeError(`${file}: holds a key that is not Ed25519`);
  return key;
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

function make(file: string): string {
  const { privateKey } = generateKeyPairSync("ed25519");
  const text = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  // Whole or not at all.
  const part = `${file}.${process.pid}.part`;
  writeFileSync(part, text, { mode: 0o600, flag: "wx", flush: true });
  renameSync(part, file);
  return text;
}
