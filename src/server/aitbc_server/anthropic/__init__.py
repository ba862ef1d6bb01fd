"""Anthropic's Messages API in front of the gRPC methods: each request is one job.

A dialect and nothing more, as OpenAI's beside it, whose jobs and calls it answers with.
"""
