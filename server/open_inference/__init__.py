"""The V2 door: Open Inference Protocol, onto the same queues as the typed one. Its facts are in docs/protocol.md."""
