"""A network that fails on command, and the server that serves it: faults without a switch in the product."""
