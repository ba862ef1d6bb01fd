// promptfoo: an evaluation of one prompt.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attempt, BASE_URL, KEY, MODEL, QUESTION } from "./cases.mjs";

await attempt("eval", async () => {
  const home = mkdtempSync(join(tmpdir(), "promptfoo-"));
  const config = {
    prompts: [QUESTION],
    providers: [
      {
        id: `openai:chat:${MODEL}`,
        config: { apiBaseUrl: BASE_URL, apiKey: KEY, temperature: 0, max_tokens: 40 },
      },
    ],
    tests: [{ assert: [{ type: "contains", value: "Tokyo" }] }],
  };
  writeFileSync(join(home, "config.json"), JSON.stringify(config));
  const command = join(process.env.COMPAT_NODE_BIN, "promptfoo");
  const done = spawnSync(
    command,
    ["eval", "-c", "config.json", "-o", "out.json", "--no-cache", "--no-table", "--no-write"],
    {
      cwd: home,
      env: {
        ...process.env,
        PROMPTFOO_CONFIG_DIR: home,
        PROMPTFOO_DISABLE_TELEMETRY: "1",
        PROMPTFOO_DISABLE_UPDATE: "1",
        PROMPTFOO_DISABLE_REMOTE_GENERATION: "1",
      },
      encoding: "utf8",
      timeout: 200_000,
    },
  );
  let told;
  try {
    told = JSON.parse(readFileSync(join(home, "out.json"), "utf8"));
  } catch {
    throw new Error((done.stderr || done.stdout).slice(-300));
  }
  const { successes, failures, errors } = told.results.stats;
  return `successes ${successes}, failures ${failures}, errors ${errors}`;
});
