const FIRST_MS = 200;
/** Until it is long gone, a coordinator is taken to be restarting. */
const SOON_MS = 1_000;
/** Below how long a lease lasts: a coordinator that comes back finds its miners before theirs end. */
const LONGEST_MS = 10_000;

/**
 * Waits longer the longer it has waited, a random part of that: miners that lost the same coordinator at the same
 * moment must not return at the same moment.
 */
export class Backoff {
  #longest = FIRST_MS;
  #waited = 0;

  /** Returns the milliseconds to wait now. */
  next(): number {
    const wait = Math.random() * this.#longest;
    this.#waited += wait;
    const soon = Math.min(2 * this.#longest, SOON_MS);
    this.#longest = Math.min(Math.max(soon, this.#waited / 4), LONGEST_MS);
    return wait;
  }
}
