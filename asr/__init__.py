"""Carryover's recogniser: audio in, scored text out. It knows neither gRPC nor DynamoDB."""
