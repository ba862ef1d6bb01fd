import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { type Job, JobStatus } from "./gen/aitbc/v1/jobs_pb.js";

/** What every failed call throws. */
export class AitbcError extends Error {
  override readonly name: string = "AitbcError";

  constructor(
    message: string,
    /** The coordinator's `error_code`; where none answered, gRPC's, such as UNAVAILABLE. */
    readonly code: string,
    /** Path of the field that is wrong, such as `params.max_tokens`. */
    readonly field?: string,
    /** Milliseconds after which the same call may succeed. */
    readonly retryDelayMs?: number,
    /** Whether the same call may succeed when it is made again. */
    readonly mayPass = false,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** Returns the error as one of a call's. The signal is that with which its caller gives it up. */
  static from(error: unknown, signal?: AbortSignal): AitbcError {
    if (error instanceof AitbcError) return error;
    const failure = ConnectError.from(error);
    if (signal?.aborted) {
      return new AitbcError("the call was given up", "CANCELLED", undefined, undefined, false, { cause: error });
    }
    const [info] = failure.findDetails(ErrorInfoSchema);
    const [bad] = failure.findDetails(BadRequestSchema);
    const delay = failure.findDetails(RetryInfoSchema)[0]?.retryDelay;
    const delayMs = delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6;
    const isAway = failure.code === Code.Unavailable || isCut(failure);
    return new AitbcError(
      failure.rawMessage,
      info?.reason ?? (isAway ? "UNAVAILABLE" : grpcName(failure.code)),
      bad?.fieldViolations[0]?.field,
      delayMs,
      isAway || (failure.code === Code.ResourceExhausted && delayMs !== undefined),
      { cause: failure },
    );
  }
}

/** The job ended without a result. */
export class JobError extends Error {
  override readonly name = "JobError";

  constructor(readonly job: Job) {
    const status = JobStatus[job.status]?.toLowerCase();
    super(`job ${job.jobId} is ${status}${job.error ? `: ${job.error.message} (${job.error.code})` : ""}`);
  }
}

/** Whether the connection was lost: a transport says so by any of these, a coordinator always gives details. */
function isCut(failure: ConnectError): boolean {
  const codes = [Code.Aborted, Code.Canceled, Code.Internal, Code.Unknown];
  return codes.includes(failure.code) && failure.details.length === 0;
}

/** Returns the name of a code as gRPC has it. */
function grpcName(code: Code): string {
  return (Code[code] ?? "UNKNOWN").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}
