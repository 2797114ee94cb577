"""The gRPC interface as a client uses it: generated modules (`carryover.v1.recognizer_pb2`) and a small client."""
