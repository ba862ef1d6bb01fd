package com.aitbc.client;

import com.aitbc.v1.JobEvent;
import com.aitbc.v1.JobEventType;
import com.aitbc.v1.JobServiceGrpc.JobServiceBlockingStub;
import com.aitbc.v1.StreamJobRequest;
import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;

/**
 * The events of a job. It connects again where it was when the connection is lost. One thread reads it, once.
 *
 * <pre>{@code
 * try (JobStream events = client.stream(jobId)) {
 *   for (JobEvent event : events) {
 *     System.out.print(event.getText());
 *   }
 * }
 * }</pre>
 */
public final class JobStream implements Iterable<JobEvent>, Iterator<JobEvent>, AutoCloseable {
  private final JobServiceBlockingStub stub;
  private final Duration patience;
  private final String jobId;
  private final Context.CancellableContext context = Context.current().withCancellation();
  private String afterEventId;
  /** The call under way. */
  private Iterator<JobEvent> call;

  private JobEvent next;
  private boolean isOver;

  JobStream(JobServiceBlockingStub stub, Duration patience, String jobId, String afterEventId) {
    this.stub = stub;
    this.patience = patience;
    this.jobId = jobId;
    this.afterEventId = afterEventId;
  }

  @Override
  public Iterator<JobEvent> iterator() {
    return this;
  }

  /** Waits for the next event; false after the last one. */
  @Override
  public boolean hasNext() {
    while (next == null && !isOver) {
      boolean begins = call == null;
      if (begins ? open() : goesOn()) {
        next = call.next();
        afterEventId = next.getEventId();
        isOver = next.getType() == JobEventType.JOB_EVENT_TYPE_FINAL;
      } else {
        // At once: there is nothing after the event that the reader has.
        isOver = begins;
        call = null;
      }
    }
    return next != null;
  }

  @Override
  public JobEvent next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    JobEvent event = next;
    next = null;
    return event;
  }

  /** Ends the call. */
  @Override
  public void close() {
    isOver = true;
    context.close();
  }

  /** Makes a call, and returns whether an event came. The first one comes at once, and shows that it was taken. */
  private boolean open() {
    return Retry.until(
        System.nanoTime() + patience.toNanos(),
        () -> {
          StreamJobRequest request =
              StreamJobRequest.newBuilder().setJobId(jobId).setAfterEventId(afterEventId).build();
          Context before = context.attach();
          try {
            call = stub.streamJob(request);
          } finally {
            context.detach(before);
          }
          return call.hasNext();
        });
  }

  /** Returns whether an event came: not when the connection is lost. */
  private boolean goesOn() {
    try {
      return call.hasNext();
    } catch (StatusRuntimeException error) {
      AitbcException failure = AitbcException.of(error);
      if (!failure.mayPass()) {
        throw failure;
      }
      return false;
    }
  }
}
