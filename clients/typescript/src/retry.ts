import { AitbcError } from "./errors.js";

const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 5_000;

/** Makes a call again, while that may help, until the time (of `Date.now`) would be over. */
export async function retry<T>(call: () => Promise<T>, until: number, signal?: AbortSignal): Promise<T> {
  for (let longest = FIRST_WAIT_MS; ; longest = Math.min(2 * longest, LONGEST_WAIT_MS)) {
    try {
      return await call();
    } catch (error) {
      const failure = AitbcError.from(error, signal);
      const wait = Math.max((longest * (1 + Math.random())) / 2, failure.retryDelayMs ?? 0);
      if (!failure.mayPass || Date.now() + wait >= until) throw failure;
      await sleep(wait, signal);
    }
  }
}

/** Waits, until the signal at most. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done, { once: true });
  });
}
