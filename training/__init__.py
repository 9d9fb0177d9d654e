"""Offline training: data, augmentation, loop, evaluation, calibration. Writes checkpoints; knows no server."""
