"""Small training runs: `quick` on the tiny data set, and what they publish."""

from pathlib import Path

from training.config import TrainingConfig
from training.loop import train
from training.publication import Published


def small_run(data: Path, folder: Path, **changes: object) -> TrainingConfig:
    """Return a run in fp32 on the CPU, three batches an epoch, that writes below `folder`; `changes` win."""
    settings: dict[str, object] = {
        "architecture": "quick",
        "repository": folder / "models",
        "data": data,
        "validation_images": 50,
        "batch_size": 50,
        "lr": 0.01,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "run_folder": folder / "run",
        "tensorboard": False,
        "report": False,
    }
    return TrainingConfig.model_validate(settings | changes)


def published_by(config: TrainingConfig) -> Published:
    """Train in this process alone, which therefore publishes."""
    published = train(config)
    assert published is not None
    return published
