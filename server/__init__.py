"""Online serving: protocol doors, batcher, engine, lifecycle, metrics. Knows nothing of training."""

VERSION = "0.1.0"
