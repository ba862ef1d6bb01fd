# Submits a job, waits for its result and prints it, then why another job is not found.
# Usage: client.rb HOST:PORT PROMPT
require "google/protobuf/well_known_types"
require "google/rpc/error_details_pb"
require "aitbc/v1/explorer_services_pb"
require "aitbc/v1/jobs_services_pb"

jobs = Aitbc::V1::JobService::Stub.new(ARGV[0], :this_channel_is_insecure, timeout: 60)
request = Aitbc::V1::SubmitJobRequest.new(prompt: ARGV[1], model: "llama3.2")
id = jobs.submit_job(request).job_id
puts jobs.get_job(Aitbc::V1::GetJobRequest.new(job_id: id, wait: 60)).result
begin
  jobs.get_job(Aitbc::V1::GetJobRequest.new(job_id: "job-nope"))
rescue GRPC::NotFound => e
  puts e.to_rpc_status.details.map { |d| d.unpack(Google::Rpc::ErrorInfo) }.compact.map(&:reason)
end
# A field that has the name of a method of Ruby's.
puts Aitbc::V1::Block.new(hash: "a hash")["hash"]
