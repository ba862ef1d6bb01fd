-- What wrk sends. PROMPT and MODEL come from shape.py.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
-- Where keys are required: see auth.py.
wrk.headers["X-Api-Key"] = os.getenv("KEY")
wrk.body = string.format(
  '{"prompt": "%s", "model": "%s", "params": {"max_tokens": 256, "temperature": 0.7}}',
  os.getenv("PROMPT"),
  os.getenv("MODEL")
)
