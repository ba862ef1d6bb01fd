import type { Interceptor } from "@connectrpc/connect";

/** Returns an interceptor that sends an API key with each call. */
export function apiKey(key: string): Interceptor {
  return (next) => (request) => {
    request.header.set("x-api-key", key);
    return next(request);
  };
}
