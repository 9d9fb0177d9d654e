"""Tests of `models`: architectures, preprocessing, cards, checkpoints, the repository, the shipped models."""
