package com.aitbc.client;

import com.aitbc.v1.CancelJobRequest;
import com.aitbc.v1.DeleteJobRequest;
import com.aitbc.v1.GetJobRequest;
import com.aitbc.v1.Job;
import com.aitbc.v1.JobServiceGrpc;
import com.aitbc.v1.JobServiceGrpc.JobServiceBlockingStub;
import com.aitbc.v1.JobStatus;
import com.aitbc.v1.ListJobsRequest;
import com.aitbc.v1.ListJobsResponse;
import com.aitbc.v1.SubmitJobRequest;
import com.aitbc.v1.SubmitJobResponse;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.Collections;
import java.util.Iterator;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * Calls a coordinator. Threads may share it.
 *
 * <p>Every method throws {@link AitbcException}. Calls are repeated while that may help: the coordinator is away,
 * drains, or says when to come back.
 */
public final class AitbcClient implements AutoCloseable {
  /** Longest that the coordinator holds a call that waits for a job's end. */
  private static final Duration LONGEST_HOLD = Duration.ofSeconds(60);

  private static final int MAX_MESSAGE_BYTES = 64 << 20;

  private final ManagedChannel channel;
  private final JobServiceBlockingStub jobs;
  private final Duration patience;
  /** Of each method in all; null where it has none. */
  private final Duration timeout;

  private AitbcClient(ManagedChannel channel, JobServiceBlockingStub jobs, Duration patience, Duration timeout) {
    this.channel = channel;
    this.jobs = jobs;
    this.patience = patience;
    this.timeout = timeout;
  }

  /** Returns a builder of a client of the coordinator whose gRPC port is at HOST:PORT. */
  public static Builder builder(String target) {
    return new Builder(target);
  }

  /**
   * Returns this client with a time for all that one of its methods does. When it is over, the code is
   * DEADLINE_EXCEEDED, and the job goes on. It shares the connection.
   */
  public AitbcClient within(Duration limit) {
    return new AitbcClient(channel, jobs, patience, limit);
  }

  /** The connection, for the stubs of other services. Their errors are read by {@link AitbcException#of}. */
  public ManagedChannel channel() {
    return channel;
  }

  /** Ends the connection and every call on it. */
  @Override
  public void close() {
    channel.shutdownNow();
  }

  /** Stores a job. One without a request id is given one, so that repeating it finds the first. */
  public SubmitJobResponse submit(SubmitJobRequest request) {
    SubmitJobRequest named =
        request.getRequestId().isEmpty()
            ? request.toBuilder().setRequestId(UUID.randomUUID().toString()).build()
            : request;
    return call(end(), Duration.ZERO, stub -> stub.submitJob(named));
  }

  /** Returns a job. */
  public Job get(String jobId) {
    GetJobRequest request = GetJobRequest.newBuilder().setJobId(jobId).build();
    return call(end(), Duration.ZERO, stub -> stub.getJob(request));
  }

  /** Returns a job when it is final, however it ended. */
  public Job await(String jobId) {
    return await(jobId, end());
  }

  /** Submits a job and returns it completed. Throws {@link JobUnsuccessfulException} too. */
  public Job run(SubmitJobRequest request) {
    long end = end();
    Job job = await(submit(request).getJobId(), end);
    if (job.getStatus() != JobStatus.JOB_STATUS_COMPLETED) {
      throw new JobUnsuccessfulException(job);
    }
    return job;
  }

  /** Cancels a job. One that is final is an error of code JOB_ALREADY_FINAL. */
  public Job cancel(String jobId) {
    CancelJobRequest request = CancelJobRequest.newBuilder().setJobId(jobId).build();
    return call(end(), Duration.ZERO, stub -> stub.cancelJob(request));
  }

  /** Deletes a job that is final, with its prompt and its answer. */
  public void delete(String jobId) {
    DeleteJobRequest request = DeleteJobRequest.newBuilder().setJobId(jobId).build();
    call(end(), Duration.ZERO, stub -> stub.deleteJob(request));
  }

  /** Returns the caller's jobs, the newest first. The limit of the request is the size of a page. */
  public Stream<Job> jobs(ListJobsRequest request) {
    Iterable<Job> pages = () -> new Pages(request);
    return StreamSupport.stream(pages.spliterator(), false);
  }

  /** Reads what a job produced so far, then the rest as it is made, and its end. */
  public JobStream stream(String jobId) {
    return stream(jobId, "");
  }

  /** Reads a job for a reader that comes back with the id of the last event that it has. */
  public JobStream stream(String jobId, String afterEventId) {
    long end = end();
    JobServiceBlockingStub stub = timeout == null ? jobs : jobs.withDeadlineAfter(left(end), TimeUnit.NANOSECONDS);
    return new JobStream(stub, patience, jobId, afterEventId);
  }

  /** Whether a job changes no more. */
  public static boolean isFinal(Job job) {
    switch (job.getStatus()) {
      case JOB_STATUS_COMPLETED:
      case JOB_STATUS_FAILED:
      case JOB_STATUS_CANCELLED:
        return true;
      default:
        return false;
    }
  }

  private Job await(String jobId, long end) {
    GetJobRequest request =
        GetJobRequest.newBuilder().setJobId(jobId).setWait(LONGEST_HOLD.getSeconds()).build();
    Job job;
    do {
      job = call(end, LONGEST_HOLD, stub -> stub.getJob(request));
    } while (!isFinal(job));
    return job;
  }

  /** Makes a call whose answer may be held for some time, and repeats it while that may help. */
  private <T> T call(long end, Duration hold, Function<JobServiceBlockingStub, T> method) {
    long until = earlier(end, System.nanoTime() + patience.plus(hold).toNanos());
    return Retry.until(until, () -> method.apply(jobs.withDeadlineAfter(left(until), TimeUnit.NANOSECONDS)));
  }

  /** When the time of a method that begins now is over: far from now, where it has no limit. */
  private long end() {
    return System.nanoTime() + (timeout == null ? Long.MAX_VALUE / 2 : timeout.toNanos());
  }

  private static long earlier(long one, long other) {
    return one - other < 0 ? one : other;
  }

  private static long left(long until) {
    return Math.max(1, until - System.nanoTime());
  }

  /** Goes through pages. */
  private final class Pages implements Iterator<Job> {
    private ListJobsRequest next;
    private Iterator<Job> page = Collections.emptyIterator();

    Pages(ListJobsRequest request) {
      next = request;
    }

    @Override
    public boolean hasNext() {
      while (!page.hasNext() && next != null) {
        ListJobsRequest request = next;
        ListJobsResponse response = call(end(), Duration.ZERO, stub -> stub.listJobs(request));
        page = response.getJobsList().iterator();
        String token = response.getNextPageToken();
        next = token.isEmpty() ? null : request.toBuilder().setPageToken(token).build();
      }
      return page.hasNext();
    }

    @Override
    public Job next() {
      hasNext();
      return page.next();
    }
  }

  /** How to reach a coordinator. */
  public static final class Builder {
    private final String target;
    private ChannelCredentials credentials = InsecureChannelCredentials.create();
    private String key = "";
    private Duration patience = Duration.ofSeconds(30);

    private Builder(String target) {
      this.target = target;
    }

    /** Sends an API key with each call. */
    public Builder key(String key) {
      this.key = key;
      return this;
    }

    /** Encrypts, such as with {@code TlsChannelCredentials.create()}. */
    public Builder credentials(ChannelCredentials credentials) {
      this.credentials = credentials;
      return this;
    }

    /** For how long a call is repeated: 30 seconds by default. */
    public Builder patience(Duration patience) {
      this.patience = patience;
      return this;
    }

    /** Returns the client, which connects when the first call is made. */
    public AitbcClient build() {
      ManagedChannelBuilder<?> builder =
          Grpc.newChannelBuilder(target, credentials)
              .maxInboundMessageSize(MAX_MESSAGE_BYTES)
              // Finds out that the other side is gone, also through NATs that forget idle connections.
              .keepAliveTime(25, TimeUnit.SECONDS)
              .keepAliveTimeout(10, TimeUnit.SECONDS);
      if (!key.isEmpty()) {
        Metadata headers = new Metadata();
        headers.put(Metadata.Key.of("x-api-key", Metadata.ASCII_STRING_MARSHALLER), key);
        builder.intercept(MetadataUtils.newAttachHeadersInterceptor(headers));
      }
      ManagedChannel channel = builder.build();
      return new AitbcClient(channel, JobServiceGrpc.newBlockingStub(channel), patience, null);
    }
  }
}
