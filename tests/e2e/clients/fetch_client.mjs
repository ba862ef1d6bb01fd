// The documentation's JavaScript client and its usage example.
// Usage: node fetch_client.mjs BASE_URL [PROMPT]
class CoordinatorClient {
  constructor(baseUrl, apiKey = null) {
    this.baseUrl = baseUrl;
    this.apiKey = apiKey;
  }

  async request(path, options = {}) {
    const headers = { "Content-Type": "application/json" };
    if (this.apiKey) headers["X-Api-Key"] = this.apiKey;
    const response = await fetch(`${this.baseUrl}${path}`, { ...options, headers });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return response.json();
  }

  submitJob(prompt, model = "llama3.2", params = {}) {
    const body = JSON.stringify({ prompt, model, params });
    return this.request("/v1/jobs", { method: "POST", body });
  }

  async waitForJob(jobId) {
    for (;;) {
      const job = await this.request(`/v1/jobs/${jobId}`);
      if (["completed", "failed", "cancelled"].includes(job.status)) return job;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

const [baseUrl, prompt = "Hello, how are you?"] = process.argv.slice(2);
const client = new CoordinatorClient(baseUrl);
const job = await client.submitJob(prompt);
const result = await client.waitForJob(job.job_id);
console.log(result.result);
