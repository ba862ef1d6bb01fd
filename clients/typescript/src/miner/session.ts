import { createClient, type Transport } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { AitbcError } from "../errors.js";
import { MinerService } from "../gen/aitbc/v1/miners_pb.js";
import type { CoordinatorMessage, MinerMessage, Welcome } from "../gen/aitbc/v1/work_pb.js";
import type { Agent } from "./agent.js";

/** For a coordinator that has not said yet how often it speaks. */
const PATIENCE_MS = 30_000;
/** For the coordinator to end the stream after the miner's goodbye. */
const PARTING_MS = 2_000;
/** For it to say what to sign. */
const NONCE_MS = 5_000;

/** One stream to the coordinator, from Hello to its end. */
export class Session {
  /** Whether it got its Welcome. */
  isWelcomed = false;
  readonly #agent: Agent;
  readonly #cut = new AbortController();
  readonly #welcomed = deferred<void>();
  readonly #nonce = deferred<string>();
  #isClosing = false;
  #intervalMs = PATIENCE_MS;
  #patienceMs = PATIENCE_MS;
  #isSilent = false;
  #silence: NodeJS.Timeout | undefined;

  constructor(agent: Agent) {
    this.#agent = agent;
  }

  /** Works until the stream ends, and returns why. A goodbye makes it end. */
  async run(transport: Transport, goodbye: AbortSignal): Promise<AitbcError> {
    const part = () => {
      this.#close();
      setTimeout(() => this.#cut.abort(), PARTING_MS).unref();
    };
    goodbye.addEventListener("abort", part, { once: true });
    this.#heard();
    try {
      const messages = createClient(MinerService, transport).work(this.#outgoing(), {
        signal: this.#cut.signal,
        onHeader: (header) => this.#nonce.resolve(header.get("aitbc-nonce") ?? ""),
      });
      for await (const message of messages) this.#hear(message);
      return lost("the coordinator closed the stream");
    } catch (error) {
      if (this.#isSilent) return lost(`heard nothing for ${this.#patienceMs / 1000} s`);
      return AitbcError.from(error, goodbye);
    } finally {
      goodbye.removeEventListener("abort", part);
      clearTimeout(this.#silence);
      this.#close();
      this.#cut.abort();
    }
  }

  async *#outgoing(): AsyncGenerator<MinerMessage, void, undefined> {
    if (this.#agent.signer) {
      // An older coordinator says nothing before Hello.
      setTimeout(() => this.#nonce.resolve(""), NONCE_MS).unref();
      yield this.#agent.hello(await this.#nonce.promise);
    } else {
      yield this.#agent.hello("");
    }
    let spokeAt = performance.now();
    await this.#welcomed.promise;
    while (!this.#isClosing) {
      const { message, waitMs } = this.#agent.nextMessage(performance.now());
      const restMs = spokeAt + this.#intervalMs - performance.now();
      if (!message && restMs > 0) {
        await this.#agent.alarm.wait(Math.min(waitMs, restMs));
        continue;
      }
      yield message ?? this.#agent.heartbeat();
      spokeAt = performance.now();
    }
  }

  #hear(message: CoordinatorMessage): void {
    this.#heard();
    if (message.message.case === "welcome") this.#welcome(message.message.value);
    else this.#agent.hear(message);
  }

  #welcome(welcome: Welcome): void {
    const { heartbeatInterval, leaseDuration } = welcome;
    this.#intervalMs = (heartbeatInterval && durationMs(heartbeatInterval)) || PATIENCE_MS;
    this.#patienceMs = Math.max((leaseDuration && durationMs(leaseDuration)) ?? 0, 3 * this.#intervalMs);
    this.#heard();
    this.#agent.welcome(welcome);
    this.isWelcomed = true;
    this.#welcomed.resolve();
  }

  /** Ends the stream when nothing was heard for too long. */
  #heard(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.#isSilent = true;
      this.#cut.abort();
    }, this.#patienceMs);
  }

  /** Lets the stream end by itself, after what is being written. */
  #close(): void {
    this.#isClosing = true;
    this.#nonce.resolve("");
    this.#welcomed.resolve();
    this.#agent.alarm.ring();
  }
}

function lost(message: string): AitbcError {
  return new AitbcError(message, "UNAVAILABLE");
}

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((settle) => (resolve = settle));
  return { promise, resolve };
}
