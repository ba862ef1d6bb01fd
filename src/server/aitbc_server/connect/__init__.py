"""Connect and gRPC-Web on the HTTP port: for pages, for curl and for generated clients.

Every method with one request is called so, from the same descriptors, through the same gate and by
the same backend as over REST. A request passes `app`, which finds the method (`methods`), the wire
that the client speaks (`wires`: `connect` or `grpc_web`) and the codec of its messages (`codecs`).
Whatever fails becomes a `Told` (`errors`), which the wire writes.

Protocols: https://connectrpc.com/docs/protocol and
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md.

Both halves are our own and not those of PyPI's `connectrpc` (0.13). Its server wants each method
registered before it starts, where a gateway learns its methods later; it parses a message on the
event loop before anybody has counted what is in it, and knows nothing of answers that nobody takes.
What would be left of it is the framing, some hundred lines, for which a coordinator would have to
install `protobuf-py`, an alpha of a second protobuf runtime beside the one it has, and `pyqwest`,
an HTTP client of 16 MB.
"""
