"""Command line programs around the server."""
