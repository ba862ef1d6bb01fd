import type { SecureClientSessionOptions } from "node:http2";
import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { apiKey } from "./key.js";

/** Largest message that a transport takes, in bytes. */
export const MAX_MESSAGE_BYTES = 64 * 2 ** 20;

export interface ConnectionOptions {
  /** Sent with each call. */
  key?: string | undefined;
  /** Encrypts: `true` with the system's authorities, or options of Node's TLS, such as `ca`. */
  tls?: boolean | SecureClientSessionOptions | undefined;
  /** Those of Connect, around each call. */
  interceptors?: Interceptor[] | undefined;
}

/** Returns the gRPC transport to a coordinator, HOST:PORT. It connects when the first call is made. */
export function grpcTransport(target: string, options: ConnectionOptions = {}): Transport {
  const { key, tls, interceptors = [] } = options;
  return createGrpcTransport({
    baseUrl: `${tls ? "https" : "http"}://${target}`,
    interceptors: key ? [apiKey(key), ...interceptors] : interceptors,
    readMaxBytes: MAX_MESSAGE_BYTES,
    // Finds out that the other side is gone, also through NATs that forget idle connections.
    pingIntervalMs: 25_000,
    pingTimeoutMs: 10_000,
    ...(typeof tls === "object" ? { nodeOptions: tls } : {}),
  });
}
