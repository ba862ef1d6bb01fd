"""The miner: runs inference engines and works for a coordinator over one gRPC stream."""
