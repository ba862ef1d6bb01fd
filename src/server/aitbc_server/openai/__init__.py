"""The OpenAI API in front of the gRPC methods: each request is one job, or several.

A dialect and nothing more: who may call, what is valid and what is kept is decided by the methods,
which are called through a `Backend` and so may be in this process or elsewhere.
"""
