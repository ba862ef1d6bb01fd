package com.aitbc.client;

import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Supplier;

/** How calls are repeated. */
final class Retry {
  private static final long FIRST_WAIT_MS = 100;
  private static final long LONGEST_WAIT_MS = 5_000;

  private Retry() {}

  /** Makes a call again, while that may help, until the time of {@link System#nanoTime} would be over. */
  static <T> T until(long until, Supplier<T> call) {
    for (long longest = FIRST_WAIT_MS; ; longest = Math.min(2 * longest, LONGEST_WAIT_MS)) {
      try {
        return call.get();
      } catch (StatusRuntimeException error) {
        AitbcException failure = AitbcException.of(error);
        long wait = ThreadLocalRandom.current().nextLong(longest / 2, longest);
        wait = Math.max(wait, failure.retryDelay().map(Duration::toMillis).orElse(0L));
        if (!failure.mayPass() || until - System.nanoTime() <= Duration.ofMillis(wait).toNanos()) {
          throw failure;
        }
        sleep(wait);
      }
    }
  }

  private static void sleep(long milliseconds) {
    try {
      Thread.sleep(milliseconds);
    } catch (InterruptedException cause) {
      throw AitbcException.interrupted(cause);
    }
  }
}
