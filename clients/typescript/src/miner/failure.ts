import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Fault, type Failure, FailureSchema } from "../gen/aitbc/v1/work_pb.js";

const LONGEST_MESSAGE = 1024;

/** Why an engine has no answer. Its fault decides what becomes of the job. */
export class EngineFailure extends Error {
  override readonly name = "EngineFailure";

  /**
   * @param code - UPPER_SNAKE reason, for programs
   * @param message - that of a refusal is for the job's client; any other is shown to operators, and has no
   *   part of a prompt
   * @param retryAfterMs - for how long the engine wants no job of the model
   */
  constructor(
    readonly code: string,
    message: string,
    readonly fault: Fault,
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }

  /** Returns the failure as it is told. */
  toMessage(): Failure {
    return create(FailureSchema, {
      code: this.code,
      message: [...this.message.toWellFormed()].slice(0, LONGEST_MESSAGE).join(""),
      fault: this.fault,
      retryable: this.fault === Fault.MINER || this.fault === Fault.PASSING,
      ...(this.retryAfterMs !== undefined && { retryAfter: durationFromMs(this.retryAfterMs) }),
    });
  }
}

/** No miner can answer the job. The message begins with the field that is wrong, such as `logit_bias: `. */
export function refusal(message: string): EngineFailure {
  return new EngineFailure("BAD_REQUEST", message, Fault.JOB);
}

/** The engine can serve no job at present: another miner gets it. */
export function unusable(message: string): EngineFailure {
  return new EngineFailure("ENGINE_UNUSABLE", message, Fault.MINER);
}

/** It may not come again: the job is tried again while it has attempts. */
export function passing(message: string): EngineFailure {
  return new EngineFailure("ENGINE_FAILED", message, Fault.PASSING);
}

export const cancelled = new EngineFailure("CANCELLED", "the job was cancelled", Fault.UNSPECIFIED);
export const stopped = new EngineFailure("MINER_STOPPED", "the miner was stopped", Fault.PASSING);
export const overCapacity = new EngineFailure("OVER_CAPACITY", "this miner takes no more jobs at once", Fault.PASSING);
export const notServed = new EngineFailure("MODEL_NOT_SERVED", "this miner does not serve the model", Fault.MINER);
export const resultTooLarge = new EngineFailure(
  "RESULT_TOO_LARGE",
  "the answer is larger than the coordinator takes",
  Fault.JOB,
);
