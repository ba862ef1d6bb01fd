// Codex CLI: one question, through the Responses API that it always uses.
import { spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attempt, BASE_URL, MODEL, QUESTION } from "./cases.mjs";

await attempt("exec", async () => {
  const home = mkdtempSync(join(tmpdir(), "codex-"));
  const settings = {
    model_provider: '"ours"',
    "model_providers.ours.name": '"ours"',
    "model_providers.ours.base_url": `"${BASE_URL}"`,
    "model_providers.ours.wire_api": '"responses"',
    "model_providers.ours.request_max_retries": "0",
    "model_providers.ours.stream_max_retries": "0",
  };
  const options = Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`]);
  const command = join(process.env.COMPAT_NODE_BIN, "codex");
  const done = spawnSync(
    command,
    ["exec", "--skip-git-repo-check", "--json", "-m", MODEL, ...options, QUESTION],
    { cwd: home, env: { ...process.env, CODEX_HOME: home }, encoding: "utf8", timeout: 280_000 },
  );
  const events = done.stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));
  const failed = events.find((event) => event.type === "turn.failed" || event.type === "error");
  if (failed) throw new Error(JSON.stringify(failed));
  if (done.status !== 0) throw new Error(done.stderr.slice(-300));
  return events.at(-1).type;
});
