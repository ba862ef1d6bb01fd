"""The gRPC services: one file each, protobuf to domain at entry and back at exit."""
