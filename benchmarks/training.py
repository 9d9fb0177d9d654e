"""Images per second of training: the tutorials' loop, ours, and the bare step that no loop can beat.

The last column is that step with PyTorch's own convolutions.

Unlike the other benchmarks it imports what it measures, because a training run is no service: it takes the trainer's
loader and loop, on one CPU thread (`--threads`) or one GPU, each for a few batches in turn.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10

from models import registry
from models.preprocessing import MEAN, STD
from training.convolution import speed_up_convolutions
from training.data import EpochLoader, Split, load_cifar10
from training.device import keep_freed_memory, select_device, select_dtype
from training.loop import train_one_epoch
from training.optimizers import build_optimizer
from training.recipes import recipe_for

_TARGETS = {"whitened_wide": 3.0, "resnet18": 2.5}
_BARE_TARGET = 0.9
_ROUNDS = 2


@dataclass(frozen=True)
class Bench:
    """One network, `steps` batches of `batch_size` pictures at a time, on one device."""

    architecture: str
    data: Path
    train: Split
    batch_size: int
    steps: int
    device: torch.device

    def tutorial(self) -> float:
        """Return the images/s of the loop as it is taught: DataLoader, transforms one picture at a time, fp32."""
        changes = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        to_inputs = transforms.Compose([*changes, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
        loader = DataLoader(CIFAR10(str(self.data), transform=to_inputs), batch_size=self.batch_size, shuffle=True)
        network = registry.build(self.architecture).to(self.device)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        criterion = nn.CrossEntropyLoss()

        def steps() -> None:
            for inputs, labels in itertools.islice(loader, self.steps):
                optimizer.zero_grad()
                loss = criterion(network(inputs.to(self.device)), labels.to(self.device))
                loss.backward()
                optimizer.step()

        return self._images_per_second(steps)

    def ours(self) -> float:
        """Return the images/s of the trainer's loader and loop, augmentation of the epoch included."""
        count = self.steps * self.batch_size
        recipe = recipe_for(self.architecture)
        loader = EpochLoader(
            Split(self.train.images[:count], self.train.labels[:count]),
            batch_size=self.batch_size,
            augmentation=recipe.augmentation,
            seed=0,
            dtype=select_dtype("auto", self.device),
        )
        network = self._network()
        optimizer = build_optimizer(network, recipe)

        def steps() -> None:
            train_one_epoch(
                network,
                loader,
                optimizer,
                lambda: 0.01,
                label_smoothing=recipe.label_smoothing,
                on_step=lambda *_: None,
            )

        return self._images_per_second(steps)

    def bare(self, *, fast: bool = True) -> float:
        """Return the images/s of forward, backward and step on one batch that is there already.

        Not `fast` are PyTorch's own convolutions, without what `training.convolution` does about them.
        """
        dtype = select_dtype("auto", self.device)
        inputs = torch.randn(self.batch_size, 3, 32, 32, device=self.device, dtype=dtype)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        labels = self.train.labels[: self.batch_size]
        network = self._network(fast=fast)
        optimizer = build_optimizer(network, replace(recipe_for(self.architecture), lr=0.01))

        def steps() -> None:
            for _ in range(self.steps):
                with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
                    logits = network(inputs)
                optimizer.zero_grad()
                nn.functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
                optimizer.step()

        return self._images_per_second(steps)

    def _network(self, *, fast: bool = True) -> nn.Module:
        network = registry.build(self.architecture).to(self.device).to(memory_format=torch.channels_last)
        if fast:
            speed_up_convolutions(network)
        return network.train()

    def _images_per_second(self, steps: Callable[[], None]) -> float:
        steps()  # the first time everything is allocated and compiled
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        steps()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return self.steps * self.batch_size / (time.perf_counter() - started)


def main() -> None:
    """Print the table; every figure is the best of two rounds, taken in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--architectures", nargs="+", default=list(_TARGETS))
    parser.add_argument("--steps", type=int, default=2, help="batches in each measurement")
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    device = select_device(arguments.device)
    data = load_cifar10(arguments.data, validation_images=2000, seed=0, download=False).to(device)
    print("| network | tutorial images/s | ours | ratio (target) | bare step | ours / bare (target) | PyTorch's own |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for architecture in arguments.architectures:
        bench = Bench(architecture, arguments.data, data.train, arguments.batch_size, arguments.steps, device)
        rounds = [(bench.tutorial(), bench.ours(), bench.bare(), bench.bare(fast=False)) for _ in range(_ROUNDS)]
        tutorial, ours, bare, own = (max(column) for column in zip(*rounds, strict=True))
        target = _TARGETS.get(architecture)
        print(
            f"| {architecture} | {tutorial:,.0f} | {ours:,.0f} | {ours / tutorial:.2f} ({target or '-'})"
            f" | {bare:,.0f} | {ours / bare:.2f} ({_BARE_TARGET}) | {own:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
