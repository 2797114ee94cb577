"""The gRPC server: configuration, services and the reply window. Puts `asr` and `context_store` together."""
