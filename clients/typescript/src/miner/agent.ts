import { randomBytes } from "node:crypto";
import { clone, create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import {
  type Assignment,
  type Cancellation,
  CancelReason,
  type Capacity,
  CapacitySchema,
  type CoordinatorMessage,
  HeartbeatSchema,
  HeldLeaseSchema,
  type Hello,
  HelloSchema,
  type Load,
  LoadSchema,
  type MinerMessage,
  MinerMessageSchema,
  UpdatesSchema,
  type Welcome,
} from "../gen/aitbc/v1/work_pb.js";
import { MAX_MESSAGE_BYTES } from "../node.js";
import { Alarm } from "./alarm.js";
import { Answer } from "./answer.js";
import { cancelled, EngineFailure, notServed, overCapacity, passing, resultTooLarge, stopped } from "./failure.js";
import { Lease } from "./lease.js";
import type { Engine, Job, MinerOptions } from "./miner.js";
import { DEFAULT_MESSAGE_BYTES, Outbox } from "./outbox.js";
import { Signer } from "./signer.js";

/** What miners say of their program, unless they say it themselves. */
const VERSION = "aitbc-typescript/1";
/** Updates that a coordinator may be ahead of what it was ever sent. */
const MOST_AHEAD = 100_000;

/**
 * Holds the leases and runs their jobs. It outlives the sessions with the coordinator: it is told what the
 * coordinator said and asked what to say, and does no I/O.
 */
export class Agent {
  /** Rings when there may be something to say. */
  readonly alarm = new Alarm();
  readonly signer: Signer | undefined;
  /** Settled when it drains and holds nothing. */
  readonly idle: Promise<void>;
  #settle!: () => void;
  readonly #options: MinerOptions;
  readonly #engine: Engine;
  readonly #identity: Hello;
  readonly #leases = new Map<string, Lease>();
  readonly #outbox = new Outbox((lease) => this.#end(lease, resultTooLarge));
  #isDraining = false;
  #isCapacityTold = true;
  /** Largest answer that the coordinator takes, in bytes. */
  #mostResult = DEFAULT_MESSAGE_BYTES;

  constructor(options: MinerOptions, engine: Engine) {
    this.#options = options;
    this.#engine = engine;
    this.idle = new Promise((resolve) => (this.#settle = resolve));
    this.signer = options.key && new Signer(options.id, options.key, options.previousKey);
    this.#identity = create(HelloSchema, {
      minerId: options.id,
      models: options.models,
      agentVersion: options.version ?? VERSION,
      processId: randomBytes(8).toString("hex"),
      maxMessageBytes: BigInt(MAX_MESSAGE_BYTES),
      modelInfos: options.modelInfos ?? [],
      ...(options.gpu && { gpuInfo: options.gpu }),
      ...(this.signer && { publicKey: this.signer.publicKey, endorsement: this.signer.endorsement }),
    });
  }

  // What it says.

  /** Begins a session: names every lease that it holds, and proves its key with the nonce. */
  hello(nonce: string): MinerMessage {
    // What was not sent is told again, from where the coordinator asks.
    this.#outbox.forgetCarried();
    const hello = clone(HelloSchema, this.#identity);
    hello.capacity = this.#told();
    for (const { leaseId, nextSequence } of this.#leases.values()) {
      hello.heldLeases.push(create(HeldLeaseSchema, { leaseId, nextSequence: BigInt(nextSequence) }));
    }
    if (this.signer && nonce) hello.proof = new Uint8Array(this.signer.prove(nonce));
    return create(MinerMessageSchema, { message: { case: "hello", value: hello } });
  }

  /** Returns what is due to be said, or for how long that is nothing unless the alarm rings. */
  nextMessage(now: number): { message?: MinerMessage; waitMs: number } {
    if (!this.#isCapacityTold) {
      return { message: create(MinerMessageSchema, { message: { case: "capacity", value: this.#told() } }), waitMs: 0 };
    }
    const { updates, waitMs } = this.#outbox.take(now);
    if (updates.length === 0) return { waitMs };
    const news = create(UpdatesSchema, { updates, load: this.#load() });
    this.signer?.sign(news, (leaseId) => this.#leases.get(leaseId)?.jobId ?? "");
    return { message: create(MinerMessageSchema, { message: { case: "updates", value: news } }), waitMs: 0 };
  }

  /** Returns what is said when there is nothing to say. */
  heartbeat(): MinerMessage {
    const value = create(HeartbeatSchema, { load: this.#load() });
    return create(MinerMessageSchema, { message: { case: "heartbeat", value } });
  }

  #told(): Capacity {
    this.#isCapacityTold = true;
    return create(CapacitySchema, { maxOutstandingJobs: this.#isDraining ? 0 : this.#slots });
  }

  get #slots(): number {
    return this.#options.slots ?? 1;
  }

  #load(): Load {
    return create(LoadSchema, { runningJobs: this.#unfinished().length });
  }

  #unfinished(): Lease[] {
    return [...this.#leases.values()].filter((lease) => !lease.isEnded);
  }

  // What it hears.

  /** Learns how its leases stand: drops lost ones, and tells again what was not stored. */
  welcome(welcome: Welcome): void {
    this.#log("session began");
    this.#outbox.mostBytes = Number(welcome.maxMessageBytes) || DEFAULT_MESSAGE_BYTES;
    this.#mostResult = Number(welcome.maxResultBytes) || this.#outbox.mostBytes;
    this.signer?.agree(welcome.statementVersion);
    for (const leaseId of welcome.lostLeaseIds) this.#drop(leaseId);
    for (const { leaseId, nextSequence } of welcome.acks) {
      const lease = this.#leases.get(leaseId);
      const next = Number(nextSequence);
      if (!lease) continue;
      if (next < 0 || next > lease.nextSequence + MOST_AHEAD) {
        this.#log(`lease ${leaseId}: the coordinator asks for update ${next} of ${lease.nextSequence}`);
        this.#drop(leaseId);
      } else if (lease.isSettledBy(next)) {
        this.#drop(leaseId);
      } else if (lease.rewind(next)) {
        this.#put(lease, true);
      }
    }
  }

  /** Takes in work, acknowledgements and cancellations. */
  hear({ message }: CoordinatorMessage): void {
    if (message.case === "assignments") message.value.assignments.forEach((one) => this.#begin(one));
    if (message.case === "cancellations") message.value.cancellations.forEach((one) => this.#cancel(one));
    if (message.case === "acks") {
      for (const { leaseId, nextSequence } of message.value.acks) {
        if (this.#leases.get(leaseId)?.isSettledBy(Number(nextSequence))) this.#drop(leaseId);
      }
    }
  }

  #begin({ leaseId, attempt, job, deadline, resume }: Assignment): void {
    if (this.#leases.has(leaseId) || !job) return; // a repetition
    const isFull = this.#unfinished().length >= this.#slots;
    const lease = new Lease(leaseId, job.jobId, resume);
    this.#leases.set(leaseId, lease);
    if (!this.#options.models.includes(job.model)) this.#end(lease, notServed);
    else if (isFull) this.#end(lease, overCapacity);
    else void this.#run(lease, { ...job, attempt, ...(deadline && { deadline: timestampDate(deadline) }) });
  }

  #cancel({ leaseId, reason }: Cancellation): void {
    const lease = this.#leases.get(leaseId);
    if (!lease) return;
    if (reason === CancelReason.REQUESTED) return this.#end(lease, cancelled);
    if (reason === CancelReason.SIGNATURE_REFUSED || reason === CancelReason.ANSWER_REFUSED) {
      this.#log(`lease ${leaseId}: ${CancelReason[reason]}`);
    }
    this.#drop(leaseId);
  }

  /** Forgets a lease, whatever became of it. */
  #drop(leaseId: string): void {
    const lease = this.#leases.get(leaseId);
    if (lease) {
      lease.stop();
      this.#outbox.discard(lease);
      this.#leases.delete(leaseId);
    }
    if (this.#isDraining && this.#leases.size === 0) this.#settle();
  }

  // How it ends.

  /** Takes nothing new from now on. */
  drain(): void {
    this.#isDraining = true;
    this.#isCapacityTold = false;
    this.alarm.ring();
    if (this.#leases.size === 0) this.#settle();
  }

  /** Fails every job that still runs, for another attempt; returns how many they were. */
  handBack(): number {
    const unfinished = this.#unfinished();
    for (const lease of unfinished) this.#end(lease, stopped);
    return unfinished.length;
  }

  /** Stops every job, of a miner that is none any more. */
  abandon(): void {
    for (const leaseId of this.#leases.keys()) this.#drop(leaseId);
  }

  /** Ends a lease without an answer, unless it has ended: an answer that is complete wins. */
  #end(lease: Lease, why: EngineFailure): void {
    if (!this.#isHeld(lease)) return; // an engine complains of having been stopped
    lease.stop();
    lease.fail(why.toMessage());
    this.#put(lease, true);
  }

  #isHeld(lease: Lease): boolean {
    return !lease.isEnded && this.#leases.get(lease.leaseId) === lease;
  }

  #put(lease: Lease, isUrgent: boolean): void {
    this.#outbox.put(lease, isUrgent);
    this.alarm.ring();
  }

  // How it runs a job.

  async #run(lease: Lease, job: Job): Promise<void> {
    const answer = new Answer(lease, (...said) => this.#say(lease, ...said));
    try {
      await this.#engine(job, answer);
      answer.finish();
      if (this.#isHeld(lease)) this.#complete(lease, answer);
    } catch (error) {
      if (error instanceof EngineFailure) return this.#end(lease, error);
      if (!lease.signal.aborted) this.#log(`lease ${lease.leaseId}: ${String(error)}`);
      // The text may have a part of the prompt.
      this.#end(lease, passing("the engine failed"));
    }
  }

  #complete(lease: Lease, { completion }: Answer): void {
    completion.result = lease.text;
    completion.reasoning = lease.reasoning;
    completion.finishReason ||= "stop";
    if (completion.usage) completion.usage.completionTokens ??= lease.tokens;
    lease.complete(completion);
    this.#put(lease, true);
  }

  #say(lease: Lease, text: string, reasoning: string, tokens: number): void {
    if (!this.#isHeld(lease) || !(text || reasoning || tokens)) return;
    lease.text += text;
    lease.reasoning += reasoning;
    lease.tokens += tokens;
    // A character has at least as many bytes as it has units here.
    if (lease.text.length + lease.reasoning.length > this.#mostResult) this.#end(lease, resultTooLarge);
    else this.#put(lease, lease.isUntold);
  }

  #log(message: string): void {
    this.#options.log?.(message);
  }
}

