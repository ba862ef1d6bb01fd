import type { MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions as ConnectOptions, type Client as Caller, createClient, type Transport } from "@connectrpc/connect";
import { AitbcError, JobError } from "./errors.js";
import {
  type Job,
  type JobEvent,
  JobEventType,
  JobService,
  JobStatus,
  type ListJobsRequestSchema,
  type SubmitJobRequestSchema,
  type SubmitJobResponse,
} from "./gen/aitbc/v1/jobs_pb.js";
import { retry } from "./retry.js";

const PATIENCE_MS = 30_000;
/** Longest that the coordinator holds a call that waits for a job's end. */
const LONGEST_HOLD_MS = 60_000;

export type SubmitRequest = MessageInitShape<typeof SubmitJobRequestSchema>;

export interface CallOptions {
  /** Gives the call up. */
  signal?: AbortSignal | undefined;
  /** Time for all of it, with repetitions. When it is over, the error's code is DEADLINE_EXCEEDED. */
  timeoutMs?: number | undefined;
}

/**
 * Calls a coordinator. Every method throws AitbcError.
 *
 * Calls are repeated while that may help: the coordinator is away, drains, or says when to come back.
 */
export class Client {
  readonly #jobs: Caller<typeof JobService>;
  readonly #patienceMs: number;

  /**
   * @param transport - of `aitbc/node`, or any of Connect's: also the way to other services' clients
   * @param options - `patienceMs`: for how long a call is repeated, 30 seconds by default
   */
  constructor(
    readonly transport: Transport,
    options: { patienceMs?: number } = {},
  ) {
    this.#jobs = createClient(JobService, transport);
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS;
  }

  /** Stores a job. One without a request id is given one, so that repeating it finds the first. */
  async submit(request: SubmitRequest, options: CallOptions = {}): Promise<SubmitJobResponse> {
    const named = { ...request, requestId: request.requestId || crypto.randomUUID() };
    return this.#call((call) => this.#jobs.submitJob(named, call), options);
  }

  /** Returns a job. */
  async get(jobId: string, options: CallOptions = {}): Promise<Job> {
    return this.#call((call) => this.#jobs.getJob({ jobId }, call), options);
  }

  /** Returns a job when it is final, however it ended. */
  async wait(jobId: string, options: CallOptions = {}): Promise<Job> {
    const until = Date.now() + (options.timeoutMs ?? Infinity);
    const request = { jobId, wait: LONGEST_HOLD_MS / 1000 };
    for (;;) {
      const left = { signal: options.signal, timeoutMs: Math.max(1, until - Date.now()) };
      const job = await this.#call((call) => this.#jobs.getJob(request, call), left, LONGEST_HOLD_MS);
      if (isFinal(job)) return job;
    }
  }

  /** Submits a job and returns it completed. Throws JobError when it failed or was cancelled. */
  async run(request: SubmitRequest, options: CallOptions = {}): Promise<Job> {
    const until = Date.now() + (options.timeoutMs ?? Infinity);
    const { jobId } = await this.submit(request, options);
    const job = await this.wait(jobId, { ...options, timeoutMs: Math.max(1, until - Date.now()) });
    if (job.status !== JobStatus.COMPLETED) throw new JobError(job);
    return job;
  }

  /** Cancels a job. One that is final is an error of code JOB_ALREADY_FINAL. */
  async cancel(jobId: string, options: CallOptions = {}): Promise<Job> {
    return this.#call((call) => this.#jobs.cancelJob({ jobId }, call), options);
  }

  /** Deletes a job that is final, with its prompt and its answer. */
  async delete(jobId: string, options: CallOptions = {}): Promise<void> {
    await this.#call((call) => this.#jobs.deleteJob({ jobId }, call), options);
  }

  /** Yields the caller's jobs, the newest first. `limit` is the size of a page. */
  async *jobs(
    request: MessageInitShape<typeof ListJobsRequestSchema> = {},
    options: CallOptions = {},
  ): AsyncGenerator<Job, void, undefined> {
    let pageToken = request.pageToken ?? "";
    do {
      const asked = { ...request, pageToken };
      const page = await this.#call((call) => this.#jobs.listJobs(asked, call), options);
      yield* page.jobs;
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  /**
   * Yields what a job produced so far, then the rest as it is made, and its end.
   *
   * Connects again where it was when the connection is lost. A reader that comes back gives the `eventId` of
   * the last event that it has as `afterEventId`.
   */
  async *stream(
    jobId: string,
    options: CallOptions & { afterEventId?: string } = {},
  ): AsyncGenerator<JobEvent, void, undefined> {
    const until = Date.now() + (options.timeoutMs ?? Infinity);
    let afterEventId = options.afterEventId ?? "";
    for (;;) {
      const leave = new AbortController();
      const signal = options.signal ? AbortSignal.any([options.signal, leave.signal]) : leave.signal;
      const open = async () => {
        const left = timeoutOf(until);
        const call = this.#jobs.streamJob({ jobId, afterEventId }, { signal, ...left });
        const events = call[Symbol.asyncIterator]();
        // The first event comes at once, and shows that the call was taken.
        return { events, read: await events.next() };
      };
      try {
        let { events, read } = await retry(open, Math.min(until, Date.now() + this.#patienceMs), signal);
        if (read.done) return; // nothing is after the event that the reader has
        for (; !read.done; read = await next(events, signal)) {
          afterEventId = read.value.eventId;
          yield read.value;
          if (read.value.type === JobEventType.FINAL) return;
        }
      } finally {
        leave.abort();
      }
    }
  }

  /** Makes a call whose answer may be held for some time, and repeats it while that may help. */
  #call<T>(method: (options: ConnectOptions) => Promise<T>, options: CallOptions, holdMs = 0): Promise<T> {
    const { signal, timeoutMs = Infinity } = options;
    const until = Date.now() + Math.min(timeoutMs, this.#patienceMs + holdMs);
    return retry(() => method({ ...(signal && { signal }), ...timeoutOf(until) }), until, signal);
  }
}

/** Whether a job changes no more. */
export function isFinal(job: Job): boolean {
  return [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED].includes(job.status);
}

/** Returns what is next in a stream: its end, when the connection is lost. */
async function next(
  events: AsyncIterator<JobEvent>,
  signal: AbortSignal,
): Promise<IteratorResult<JobEvent, undefined>> {
  try {
    return await events.next();
  } catch (error) {
    const failure = AitbcError.from(error, signal);
    if (!failure.mayPass) throw failure;
    return { done: true, value: undefined };
  }
}

function timeoutOf(until: number): { timeoutMs?: number } {
  return until === Infinity ? {} : { timeoutMs: Math.max(1, Math.ceil(until - Date.now())) };
}
