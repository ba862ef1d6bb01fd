import type { KeyObject } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import { AitbcError } from "../errors.js";
import type { Job as JobMessage } from "../gen/aitbc/v1/jobs_pb.js";
import type { GpuInfo, ModelInfoSchema } from "../gen/aitbc/v1/work_pb.js";
import { sleep } from "../retry.js";
import { Agent } from "./agent.js";
import type { Answer } from "./answer.js";
import { Backoff } from "./backoff.js";
import { Session } from "./session.js";

/** For telling the coordinator of leases that are handed back. */
const HAND_BACK_MS = 10_000;

/** What an engine is asked. */
export type Job = JobMessage & {
  /** When the job fails unless final. Absent: never. */
  deadline?: Date;
};

/**
 * Says the answer to a job and returns, or throws why there is none: an EngineFailure, or any other error, whose text
 * nobody but the miner's log sees. It is called for several jobs at once, at most `slots`. `answer.signal` is aborted
 * when the answer is not wanted any more.
 */
export type Engine = (job: Job, answer: Answer) => void | Promise<void>;

/** Who the miner is and what it serves. */
export interface MinerOptions {
  /** The miner's, kept over restarts. */
  id: string;
  models: string[];
  /** To the coordinator: `grpcTransport` of `aitbc/node`. */
  transport: Transport;
  /** How many jobs it takes at once. 1 by default. */
  slots?: number;
  /** Ed25519 key that signs the results. Without it they are not signed. */
  key?: KeyObject;
  /** The key that the miner registered before, where it has another one now. */
  previousKey?: KeyObject;
  /** What its models do beside generating, and how long a prompt may be. */
  modelInfos?: MessageInitShape<typeof ModelInfoSchema>[];
  /** What it runs on. */
  gpu?: GpuInfo;
  /** Name and version of its program. */
  version?: string;
  /** How long jobs may run on after the signal. To their end by default. */
  drainTimeoutMs?: number;
  /** Is told what an operator should know: nothing of a job's texts. */
  log?: (message: string) => void;
}

/** Another process opened a session under the miner's id. */
export class Superseded extends Error {
  override readonly name = "Superseded";
}

/** Jobs were still running when `drainTimeoutMs` was over. */
export class HandedBack extends Error {
  override readonly name = "HandedBack";
}

/** A miner. */
export class Miner {
  constructor(readonly options: MinerOptions) {}

  /**
   * Works until the signal; then it takes nothing new, finishes what it runs, and returns. It connects again whenever
   * the stream is lost. Throws when going on makes no sense: Superseded, HandedBack, or the AitbcError that says what
   * is wrong with the miner.
   */
  async run(engine: Engine, signal: AbortSignal): Promise<void> {
    const agent = new Agent(this.options, engine);
    const goodbye = new AbortController();
    const draining = this.#drain(agent, signal, goodbye.signal).finally(() => goodbye.abort());
    try {
      await this.#holdSessions(agent, goodbye.signal);
    } finally {
      agent.abandon();
      goodbye.abort();
    }
    const unfinished = await draining;
    if (unfinished > 0) throw new HandedBack(`${unfinished} unfinished jobs were handed back`);
  }

  /** Returns when the signal came and nothing is held any more: how many jobs were handed back. */
  async #drain(agent: Agent, signal: AbortSignal, goodbye: AbortSignal): Promise<number> {
    await aborted(AbortSignal.any([signal, goodbye]));
    if (goodbye.aborted) return 0;
    this.#log("draining");
    agent.drain();
    const { drainTimeoutMs } = this.options;
    if (drainTimeoutMs === undefined) {
      await agent.idle;
      return 0;
    }
    await within(agent.idle, drainTimeoutMs);
    const unfinished = agent.handBack();
    if (unfinished > 0) await within(agent.idle, HAND_BACK_MS);
    return unfinished;
  }

  /** Opens one session after the other until goodbye. Throws when none will do. */
  async #holdSessions(agent: Agent, goodbye: AbortSignal): Promise<void> {
    let backoff = new Backoff();
    while (!goodbye.aborted) {
      const session = new Session(agent);
      const failure = await session.run(this.options.transport, goodbye);
      if (goodbye.aborted) return;
      if (failure.code === "SESSION_SUPERSEDED") {
        throw new Superseded("another process works under this miner id: give each its own", { cause: failure });
      }
      if (failure.code === "INVALID_ARGUMENT") throw failure;
      if (session.isWelcomed) backoff = new Backoff();
      const waitMs = Math.max(backoff.next(), failure.retryDelayMs ?? 0);
      this.#log(`session lost: ${failure.message} (${failure.code}); next in ${Math.round(waitMs)} ms`);
      await sleep(waitMs, goodbye);
    }
  }

  #log(message: string): void {
    this.options.log?.(message);
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}

async function within(done: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([done, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]);
  clearTimeout(timer);
}
