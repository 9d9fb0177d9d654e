"""The ten CIFAR-10 classes in the order of the data set's own label numbers.

Source: `batches.meta` of the python version of the data set (A. Krizhevsky, 2009).
"""

LABELS: tuple[str, ...] = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
