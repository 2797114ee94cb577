"""What a server carries and withstands: waits of callers, a soak with faults, floods, replicas."""
