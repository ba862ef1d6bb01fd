import com.aitbc.client.AitbcClient;
import com.aitbc.client.AitbcException;
import com.aitbc.client.JobStream;
import com.aitbc.v1.GenerationParams;
import com.aitbc.v1.Job;
import com.aitbc.v1.JobEvent;
import com.aitbc.v1.JobEventType;
import com.aitbc.v1.JobStatus;
import com.aitbc.v1.ListJobsRequest;
import com.aitbc.v1.SubmitJobRequest;
import com.aitbc.v1.SubmitJobResponse;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collections;
import java.util.stream.Collectors;

/** What clients/SCENARIO.md says, step by step. */
final class Scenario {
  private static final String MODEL = System.getenv("AITBC_MODEL");
  private static final String SHORT = "One two three";
  private static final String LONG = String.join(" ", Collections.nCopies(60, "Grüße aus 東京, 🙂!"));
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  public static void main(String[] arguments) throws IOException {
    try (AitbcClient client = connect(System.getenv("AITBC_API_KEY"));
        AitbcClient stranger = connect("wrong");
        AitbcClient spent = connect(System.getenv("AITBC_SPENT_KEY"))) {
      SubmitJobRequest request = request(SHORT).setRequestId("scenario").build();
      SubmitJobResponse submitted = client.submit(request);
      say("submit", "status", submitted.getStatus());
      String jobId = submitted.getJobId();
      Job job = client.await(jobId);
      OUT.printf(
          "{\"step\": \"wait\", \"status\": \"%s\", \"result\": \"%s\"}%n", job.getStatus(), job.getResult());
      say("same request id", "is_same_job", client.submit(request).getJobId().equals(jobId));
      refused(
          "request id of another",
          () -> client.submit(request("another").setRequestId("scenario").build()));

      stream(client, client.submit(request(LONG).build()).getJobId());
      String prompts =
          client
              .jobs(ListJobsRequest.newBuilder().setModel(MODEL).setLimit(1).build())
              .map(one -> '"' + one.getPrompt().substring(0, 5) + '"')
              .collect(Collectors.joining(", "));
      OUT.printf("{\"step\": \"list\", \"prompts\": [%s]}%n", prompts);

      String unserved = client.submit(request(SHORT).setModel("served-by-nobody").build()).getJobId();
      refused("deadline", () -> client.within(Duration.ofMillis(300)).await(unserved));
      say("cancel", "status", client.cancel(unserved).getStatus());
      refused("cancel again", () -> client.cancel(unserved));
      GenerationParams.Builder none = GenerationParams.newBuilder().setMaxTokens(0);
      refused("bad request", () -> client.submit(request(SHORT).setParams(none).build()));
      refused("wrong key", () -> stranger.get(jobId));
      refused("spent key", () -> spent.submit(request(SHORT).build()));
    }
  }

  private static void stream(AitbcClient client, String jobId) {
    StringBuilder text = new StringBuilder();
    JobEvent first = null;
    int restarts = 0;
    JobStatus status = null;
    try (JobStream events = client.stream(jobId)) {
      for (JobEvent event : events) {
        if (event.getType() == JobEventType.JOB_EVENT_TYPE_DELTA) {
          if (first == null) {
            first = event;
            OUT.println("{\"step\": \"first delta\"}");
          }
          text.append(event.getText());
        }
        restarts += event.getType() == JobEventType.JOB_EVENT_TYPE_RESTARTED ? 1 : 0;
        status = event.getJob().getStatus();
      }
    }
    OUT.printf(
        "{\"step\": \"stream\", \"is_whole\": %s, \"restarts\": %d, \"status\": \"%s\"}%n",
        text.toString().equals(LONG), restarts, status);
    StringBuilder rest = new StringBuilder(first.getText());
    try (JobStream events = client.stream(jobId, first.getEventId())) {
      events.forEachRemaining(event -> rest.append(event.getText()));
    }
    say("rest of the stream", "is_whole", rest.toString().equals(LONG));
  }

  private static SubmitJobRequest.Builder request(String prompt) {
    return SubmitJobRequest.newBuilder().setModel(MODEL).setPrompt(prompt);
  }

  private static AitbcClient connect(String key) throws IOException {
    AitbcClient.Builder builder = AitbcClient.builder(System.getenv("AITBC_COORDINATOR")).key(key);
    String ca = System.getenv("AITBC_TLS_CA");
    if (ca != null) {
      builder.credentials(TlsChannelCredentials.newBuilder().trustManager(new File(ca)).build());
    }
    return builder.build();
  }

  private static void refused(String step, Runnable call) {
    try {
      call.run();
    } catch (AitbcException error) {
      OUT.printf(
          "{\"step\": \"%s\", \"error_code\": \"%s\", \"has_delay\": %s%s}%n",
          step,
          error.code(),
          error.retryDelay().isPresent(),
          error.field().map(field -> ", \"field\": \"" + field + '"').orElse(""));
      return;
    }
    throw new IllegalStateException(step + ": no error");
  }

  private static void say(String step, String name, Object value) {
    String told = value instanceof Boolean ? value.toString() : "\"" + value + '"';
    OUT.printf("{\"step\": \"%s\", \"%s\": %s}%n", step, name, told);
  }
}
