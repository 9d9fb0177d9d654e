"""Tests of `training`: data, augmentation, loop, calibration, configuration, command line."""
