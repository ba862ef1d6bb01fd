import { create } from "@bufbuild/protobuf";
import { type Completion, DeltaSchema, type Failure, type Resume, type Update, UpdateSchema } from "../gen/aitbc/v1/work_pb.js";

/** How much of an answer was told. */
interface Mark {
  text: number;
  reasoning: number;
  tokens: number;
}

const BEGIN: Mark = { text: 0, reasoning: 0, tokens: 0 };

/**
 * One job that the miner holds: what was said so far, and what of that the coordinator was told. It lives until
 * the coordinator has stored how it ended.
 *
 * Updates are numbered from 0 without gaps. A coordinator that restarted may have forgotten some, and asks for
 * them again by number; what is sent then may be cut otherwise.
 */
export class Lease {
  readonly #stop = new AbortController();
  /** What was told by the end of each delta: the way back to any of them. */
  #marks: Mark[] = [];
  #ending: { case: "completion"; value: Completion } | { case: "failure"; value: Failure } | undefined;
  #endingTold = false;
  text = "";
  reasoning = "";
  tokens = 0;

  constructor(
    readonly leaseId: string,
    readonly jobId: string,
    readonly resume?: Resume | undefined,
  ) {}

  /** Aborted when the answer is not wanted any more. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  get isEnded(): boolean {
    return this.#ending !== undefined;
  }

  /** Whether no update of it was ever made. */
  get isUntold(): boolean {
    return this.nextSequence === 0;
  }

  /** Number of the next update. */
  get nextSequence(): number {
    return this.#marks.length + Number(this.#endingTold);
  }

  /** Takes over what an attempt before said, as update 0, told already; returns whether it could. */
  goOn(): boolean {
    const { resume } = this;
    if (!resume?.text || resume.logprobs.length > 0 || this.text || this.reasoning || this.tokens) return false;
    this.text = resume.text;
    this.tokens = resume.tokens;
    this.#marks = [this.#mark()];
    return true;
  }

  stop(): void {
    this.#stop.abort();
  }

  complete(completion: Completion): void {
    this.#ending = { case: "completion", value: completion };
  }

  fail(failure: Failure): void {
    this.#ending = { case: "failure", value: failure };
  }

  /** Returns what was not told yet, and counts it as told; and what takes that back. */
  takeUpdates(): { updates: Update[]; undo: () => void } {
    const [marks, endingTold] = [this.#marks.length, this.#endingTold];
    const undo = () => {
      this.#marks.length = marks;
      this.#endingTold = endingTold;
    };
    const updates: Update[] = [];
    // The completion has the whole text: no delta precedes it unless somebody already follows.
    const isFollowed = this.#ending?.case === "completion" && this.#marks.length > 0;
    if (this.#hasNews() && (!this.isEnded || isFollowed)) updates.push(this.#takeDelta());
    if (this.#ending && !this.#endingTold) {
      updates.push(this.#update(this.#ending));
      this.#endingTold = true;
    }
    return { updates, undo };
  }

  /** Whether an acknowledgement covers the ending, so that the lease is over. */
  isSettledBy(nextSequence: number): boolean {
    return this.#endingTold && nextSequence > this.#marks.length;
  }

  /**
   * Makes the update of this number the next one; returns whether there is news to tell. What was told from there
   * on is told again, as one delta.
   */
  rewind(nextSequence: number): boolean {
    this.#endingTold = false;
    if (nextSequence < this.#marks.length) this.#marks.length = nextSequence;
    // Ahead of what was ever sent: nothing of the text is missing, only the numbers move on.
    while (this.#marks.length < nextSequence) this.#marks.push(this.#told);
    return this.#hasNews() || this.isEnded;
  }

  get #told(): Mark {
    return this.#marks.at(-1) ?? BEGIN;
  }

  #mark(): Mark {
    return { text: this.text.length, reasoning: this.reasoning.length, tokens: this.tokens };
  }

  #hasNews(): boolean {
    const told = this.#told;
    const hasText = this.text.length > told.text || this.reasoning.length > told.reasoning;
    // Tokens without a text, too: they are progress.
    return hasText || (!this.isEnded && this.tokens > told.tokens);
  }

  #takeDelta(): Update {
    const told = this.#told;
    const delta = create(DeltaSchema, {
      text: this.text.slice(told.text),
      reasoning: this.reasoning.slice(told.reasoning),
      tokens: this.tokens - told.tokens,
    });
    const update = this.#update({ case: "delta", value: delta });
    this.#marks.push(this.#mark());
    return update;
  }

  #update(event: Update["event"]): Update {
    return create(UpdateSchema, { leaseId: this.leaseId, sequence: BigInt(this.nextSequence), event });
  }
}
