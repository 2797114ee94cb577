"""The gRPC interface's generated modules: `from carryover.v1 import recognizer_pb2`."""
