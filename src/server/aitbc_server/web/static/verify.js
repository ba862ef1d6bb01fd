// The panel that verifies a receipt in the browser.

import { check } from "./ledger.js";

const MARKS = { passed: "✓", failed: "✗", skipped: "–" };
const NAMES = { passed: "passed", failed: "failed", skipped: "not checked" };

const panel = document.querySelector("#verify");
const list = panel.querySelector(".checks");
const verdict = panel.querySelector(".verdict");
const button = panel.querySelector("button");
const source = document.querySelector("#receipt-json");

const textOf = (element) => element.value ?? element.textContent;

function show({ what, outcome, why }) {
  const item = document.createElement("li");
  item.className = `check ${outcome}`;
  const mark = document.createElement("span");
  mark.className = "mark";
  mark.setAttribute("aria-hidden", "true");
  mark.textContent = MARKS[outcome];
  const told = document.createElement("div");
  const title = document.createElement("p");
  title.className = "what";
  title.textContent = `${what}: ${NAMES[outcome]}`;
  const reason = document.createElement("p");
  reason.className = "why";
  reason.textContent = why;
  told.append(title, reason);
  item.append(mark, told);
  list.append(item);
}

function conclude(kind, text) {
  verdict.className = `verdict ${kind}`;
  verdict.textContent = text;
}

async function ledgerKeys() {
  const response = await fetch(panel.dataset.keys);
  if (!response.ok) throw new Error(`the coordinator’s keys could not be had (${response.status})`);
  return (await response.json()).keys.map((key) => key.public_key);
}

function parsed(text) {
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    // told below
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new Error("this is not a receipt as JSON");
  }
  return value;
}

async function verify() {
  list.replaceChildren();
  conclude("", "");
  if (!globalThis.crypto?.subtle) {
    throw new Error("this browser offers cryptography to pages over HTTPS only: open this page over HTTPS, or use the command below");
  }
  const receipt = parsed(textOf(source));
  const outcomes = [];
  for await (const one of check(receipt, await ledgerKeys())) {
    show(one);
    outcomes.push(one.outcome);
  }
  if (outcomes.includes("failed")) conclude("failed", "This receipt is not genuine, or was changed.");
  else if (receipt.proof) conclude("passed", "This receipt is genuine and in the ledger.");
  else conclude("failed", "This receipt is signed, but has no proof that it is in the ledger.");
}

button.addEventListener("click", async () => {
  button.disabled = true;
  try {
    await verify();
  } catch (error) {
    conclude("failed", `Nothing was verified: ${error.message}.`);
  }
  button.disabled = false;
});
button.hidden = false;
