import { toBinary } from "@bufbuild/protobuf";
import { type Update, UpdateSchema } from "../gen/aitbc/v1/work_pb.js";
import type { Lease } from "./lease.js";

/** Longest time that a delta waits for company: below what a reader notices. */
const FLUSH_INTERVAL_MS = 30;
/** About what one message has of news. The next one follows at once. */
const MESSAGE_BYTES = 2 ** 19;
/** What a coordinator takes that does not say. */
export const DEFAULT_MESSAGE_BYTES = 4 * 2 ** 20;
/** Beside the updates, in their message; and around each of them. */
const OVERHEAD_BYTES = 1024;
const UPDATE_BYTES = 32;

interface Sized {
  update: Update;
  bytes: number;
}

/**
 * Decides when news of which leases go out, so that one message has news of many. Endings and first words go at
 * once, with all that waits; the rest waits.
 */
export class Outbox {
  readonly #dirty = new Set<Lease>();
  #isDue = false;
  #flushedAt = -Infinity;
  /** What did not fit into the message before. */
  #carried: Sized[] = [];
  /** Largest message that the coordinator takes. */
  mostBytes = DEFAULT_MESSAGE_BYTES;

  /** @param endTooLarge - ends a lease whose news fit into no message */
  constructor(readonly endTooLarge: (lease: Lease) => void) {}

  put(lease: Lease, isUrgent: boolean): void {
    this.#dirty.add(lease);
    this.#isDue ||= isUrgent;
  }

  discard(lease: Lease): void {
    this.#dirty.delete(lease);
    this.#carried = this.#carried.filter(({ update }) => update.leaseId !== lease.leaseId);
  }

  /** Forgets what waits for the next message: it is told again from where it is asked for. */
  forgetCarried(): void {
    this.#carried = [];
  }

  /** Returns the updates of the next message, or none and for how long that will be so unless news come. */
  take(now: number): { updates: Update[]; waitMs: number } {
    if (this.#dirty.size === 0 && this.#carried.length === 0) return { updates: [], waitMs: Infinity };
    const waitMs = this.#flushedAt + FLUSH_INTERVAL_MS - now;
    if (!this.#isDue && this.#carried.length === 0 && waitMs > 0) return { updates: [], waitMs };
    let size = sum(this.#carried);
    for (const lease of this.#dirty) {
      if (size >= MESSAGE_BYTES) break;
      const updates = this.#updatesOf(lease);
      this.#dirty.delete(lease);
      this.#carried.push(...updates);
      size += sum(updates);
    }
    this.#flushedAt = now;
    this.#isDue = this.#dirty.size > 0;
    return { updates: this.#fitting(), waitMs: 0 };
  }

  /** Takes as many of the carried updates as one message holds, one at least. */
  #fitting(): Update[] {
    let [size, count] = [0, 0];
    for (const { bytes } of this.#carried) {
      size += bytes + UPDATE_BYTES;
      if (count > 0 && size > this.mostBytes - OVERHEAD_BYTES) break;
      count++;
    }
    return this.#carried.splice(0, count).map(({ update }) => update);
  }

  #updatesOf(lease: Lease): Sized[] {
    const { updates, undo } = lease.takeUpdates();
    const sized = updates.map(sizeOf);
    if (sized.every(({ bytes }) => bytes <= this.mostBytes - OVERHEAD_BYTES)) return sized;
    // None of them was sent: their numbers are free.
    undo();
    this.endTooLarge(lease);
    return lease.takeUpdates().updates.map(sizeOf);
  }
}

function sizeOf(update: Update): Sized {
  return { update, bytes: toBinary(UpdateSchema, update).length };
}

function sum(updates: Sized[]): number {
  return updates.reduce((total, { bytes }) => total + bytes, 0);
}
