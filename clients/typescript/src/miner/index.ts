/** Makes a miner of an engine: holds the Work stream, and keeps each answer until it is stored. For Node. */
export { type Answer } from "./answer.js";
export { EngineFailure, passing, refusal, unusable } from "./failure.js";
export { loadKey } from "./key.js";
export { type Engine, HandedBack, type Job, Miner, type MinerOptions, Superseded } from "./miner.js";
export * from "../gen/aitbc/v1/work_pb.js";
