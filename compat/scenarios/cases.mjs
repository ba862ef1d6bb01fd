// What the clients' scripts share: see cases.py.
export const URL_ = process.env.COMPAT_URL;
export const BASE_URL = `${URL_}/v1`;
export const MODEL = process.env.COMPAT_MODEL;
export const KEY = "sk-unused";
export const QUESTION = "What is the capital of Japan?";

const LONGEST = 400;

/** Runs a case at once. What it returns is what the two servers are compared by. */
export async function attempt(name, run) {
  let line;
  try {
    line = { case: name, ok: true, told: await run() };
  } catch (error) {
    line = { case: name, ok: false, told: `${error.name}: ${error.message}`.replace(/\s+/g, " ") };
  }
  const told = typeof line.told === "string" ? line.told : JSON.stringify(line.told);
  console.log("\n" + JSON.stringify({ ...line, told: told.slice(0, LONGEST) }));
}
