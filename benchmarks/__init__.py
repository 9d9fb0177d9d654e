"""Measurements from outside: real server processes, reached through the client and the wire only."""
