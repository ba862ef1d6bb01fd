import { create } from "@bufbuild/protobuf";
import { type Completion, CompletionSchema } from "../gen/aitbc/v1/work_pb.js";
import type { Lease } from "./lease.js";

/** What an engine says, as it says it. */
export class Answer {
  /**
   * What an answer has beside its text: the usage, the finish reason (`stop` by default), calls, outputs,
   * probabilities. `result` and `reasoning` are what was said; so are the completion tokens, unless they are set.
   */
  readonly completion: Completion = create(CompletionSchema, { usage: {} });
  readonly #lease: Lease;
  readonly #say: (text: string, reasoning: string, tokens: number) => void;
  readonly #text = new Halves();
  readonly #reasoning = new Halves();

  constructor(lease: Lease, say: (text: string, reasoning: string, tokens: number) => void) {
    this.#lease = lease;
    this.#say = say;
  }

  /** Aborted when the answer is not wanted any more. */
  get signal(): AbortSignal {
    return this.#lease.signal;
  }

  /** Adds to the text, which stands for so many tokens. */
  say(text: string, tokens = 0): void {
    this.#say(this.#text.take(text), "", tokens);
  }

  /** Adds to what the model thinks before it answers. */
  think(text: string, tokens = 0): void {
    this.#say("", this.#reasoning.take(text), tokens);
  }

  /**
   * Takes over the beginning of the answer that an attempt before delivered, and returns it: the engine goes on
   * after it. Without a call the answer begins anew. Undefined where there is none, or where the engine has
   * spoken already.
   */
  resume(): { text: string; tokens: number } | undefined {
    const { resume } = this.#lease;
    return resume && this.#lease.goOn() ? { text: resume.text, tokens: resume.tokens } : undefined;
  }

  /** Says what is left. */
  finish(): void {
    this.#say(this.#text.rest(), this.#reasoning.rest(), 0);
  }
}

/** Keeps the first half of a character until the second one comes. */
class Halves {
  #half = "";

  take(text: string): string {
    const whole = this.#half + text;
    const isCut = /[\uD800-\uDBFF]$/.test(whole);
    this.#half = isCut ? whole.slice(-1) : "";
    return (isCut ? whole.slice(0, -1) : whole).toWellFormed();
  }

  rest(): string {
    return this.#half.toWellFormed();
  }
}
