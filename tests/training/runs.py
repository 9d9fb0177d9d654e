"""A training run whose publication a test looks at."""

from training.config import TrainingConfig
from training.loop import train
from training.publication import Published


def published_by(config: TrainingConfig) -> Published:
    """Train in this process alone, which therefore publishes."""
    published = train(config)
    assert published is not None
    return published
