"""The process that forks engines, with the faulty networks registered."""

from server.engines import zygote
from tests.reliability.faulty import network

if __name__ == "__main__":
    network.register()
    zygote.main()
