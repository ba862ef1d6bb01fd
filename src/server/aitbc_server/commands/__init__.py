"""Commands beside `serve` and `gateway`, one module each."""
