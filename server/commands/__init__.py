"""Command line programs around the server."""

import os

# gRPC's core writes what a client sends, unescaped, to standard error, between our own log lines. It reads this when it
# is imported; whoever looks for a fault in a connection may set it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
