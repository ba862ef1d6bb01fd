/** A client of AITBC coordinators, for Node and, with a transport of Connect's, for browsers. */
export { Client, type CallOptions, isFinal, type SubmitRequest } from "./client.js";
export { AitbcError, JobError } from "./errors.js";
export { apiKey } from "./key.js";
export * from "./gen/aitbc/v1/jobs_pb.js";
