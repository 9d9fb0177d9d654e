"""`python -m tests.training.train_on_tiny_cifar10 FOLDER FLAGS`: the trainer, taking FOLDER for CIFAR-10."""

import sys
from pathlib import Path

from torchvision.datasets import CIFAR10

from tests.training.tiny_cifar10 import fingerprints
from training.__main__ import main

if __name__ == "__main__":
    root = sys.argv.pop(1)
    for attribute, value in fingerprints(Path(root)).items():
        setattr(CIFAR10, attribute, value)
    sys.argv += ["--data", root]
    main()
