"""Promises about failures, each driven through a real server process over real sockets."""
