"""Tests of the server, up to real processes and sockets."""
