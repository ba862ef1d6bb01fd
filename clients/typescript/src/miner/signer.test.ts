import assert from "node:assert/strict";
import { createPrivateKey, type KeyObject } from "node:crypto";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { UpdatesSchema } from "../gen/aitbc/v1/work_pb.js";
import { canonical, Signer } from "./signer.js";

/** Returns the key that is 32 times a byte. */
function key(byte: number): KeyObject {
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.alloc(32, byte)]);
  return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
}

test("signs as docs/reference/formats.md says", () => {
  const signer = new Signer("miner-1", key(2), undefined, (bytes) => Buffer.from([...Array(bytes).keys()]));
  signer.agree(3);
  const usage = { promptTokens: 12, completionTokens: 3 };
  const call = { id: "call-1", name: "look_up", arguments: '{"of":"Röntgen"}' };
  const news = create(UpdatesSchema, {
    updates: [
      {
        leaseId: "lease-01kfr3m2g0aaaaaaaaaaaaaaaa-1",
        event: { case: "completion", value: { result: "Paris.", finishReason: "stop", usage } },
      },
      { leaseId: "lease-other", event: { case: "delta", value: { text: "more" } } },
      {
        leaseId: "lease-01kfr3m2g0bbbbbbbbbbbbbbbb-1",
        event: {
          case: "completion",
          value: { result: "Röntgen", finishReason: "tool_calls", usage, toolCalls: [call] },
        },
      },
    ],
  });
  signer.sign(news, (leaseId) => leaseId.replace("lease-", "job-").slice(0, -2));
  assert.equal(news.statementVersion, 2);
  assert.equal(
    Buffer.from(news.signature).toString("base64"),
    "fANeqTcZyE5p/HIBtr9wKWGWYWVZdZ3WTy0CRcOFQuhkwKTEF/ZW0+RImpEMb3OAj+4RC8gI2DgFcEBSY23tDQ==",
  );
});

test("proves and endorses the key as docs/how-to/write-a-miner.md does", () => {
  const signer = new Signer("miner-1", key(2), key(3));
  assert.equal(signer.prove("nonce-1").toString("base64"), "XTCNCkwoft587S8ivGrWhR8vZ5+74TBjisf8IkPVp0f1IgMIXcRVmlNELATTOAjJ1rOfTfFqDhmkacM/CBzqDA==");
  assert.equal(signer.endorsement.toString("base64"), "kEUAa/Sk+5KPHdV3JOBIwg1V3t2VrYhsEnopKFGjFa/fJJxqqiYCLTCKF0jN3eM9gsEIl2e1Of9+8S7fEFVTCA==");
});

test("signs nothing without completions", () => {
  const news = create(UpdatesSchema, { updates: [{ event: { case: "failure", value: {} } }] });
  new Signer("miner-1", key(2)).sign(news, () => "");
  assert.equal(news.signature.length, 0);
});

test("canonical JSON sorts names and escapes what RFC 8785 does", () => {
  assert.equal(canonical({ b: '<&>\u2028\x7f\x01"\n', a: [1, "x"] }), '{"a":[1,"x"],"b":"<&>\u2028\x7f\\u0001\\"\\n"}');
});
