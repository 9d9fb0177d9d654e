"""Pages, the program behind `make demo`, and the one that writes the reference."""
