"""The REST layer: HTTP and JSON in front of the gRPC methods, driven by their descriptors alone.

A request passes `app` (HTTP), `router` and `template` (which method), `route`, `fields` and `codec`
(its message) to a `backend`, which calls the method in this process or, over reflection, elsewhere.
"""
