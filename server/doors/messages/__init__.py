"""The wire messages of other protocols, generated from the .proto files beside them."""
