// Submits a job, waits for its result and prints it.
// Usage: Main HOST:PORT PROMPT
import com.aitbc.v1.GetJobRequest;
import com.aitbc.v1.JobServiceGrpc;
import com.aitbc.v1.SubmitJobRequest;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.util.concurrent.TimeUnit;

public class Main {
    public static void main(String[] args) throws InterruptedException {
        ManagedChannel channel = ManagedChannelBuilder.forTarget(args[0]).usePlaintext().build();
        JobServiceGrpc.JobServiceBlockingStub jobs =
                JobServiceGrpc.newBlockingStub(channel).withDeadlineAfter(60, TimeUnit.SECONDS);
        SubmitJobRequest request =
                SubmitJobRequest.newBuilder().setPrompt(args[1]).setModel("llama3.2").build();
        String id = jobs.submitJob(request).getJobId();
        GetJobRequest get = GetJobRequest.newBuilder().setJobId(id).setWait(60).build();
        System.out.println(jobs.getJob(get).getResult());
        channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
}
