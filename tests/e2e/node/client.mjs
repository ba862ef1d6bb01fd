// Submits a job, waits for its result and lists it, with nothing but the protos.
// Usage: node client.mjs HOST:PORT PROMPT INCLUDE_DIR...
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [address, prompt, ...includeDirs] = process.argv.slice(2);
const definition = protoLoader.loadSync("aitbc/v1/jobs.proto", {
  includeDirs,
  keepCase: true,
  enums: String,
  longs: Number,
});
const { JobService } = grpc.loadPackageDefinition(definition).aitbc.v1;
const jobs = new JobService(address, grpc.credentials.createInsecure());

function call(method, request) {
  const deadline = Date.now() + 60_000;
  return new Promise((resolve, reject) => {
    jobs[method](request, { deadline }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
}

const submitted = await call("SubmitJob", { prompt, model: "llama3.2" });
const job = await call("GetJob", { job_id: submitted.job_id, wait: 60 });
const listed = await call("ListJobs", { limit: 100, status: "JOB_STATUS_COMPLETED" });
jobs.close();
console.log(JSON.stringify({ submitted, job, listed: listed.jobs.map((one) => one.job_id) }));
