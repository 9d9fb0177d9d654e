"""`python -m tests.reliability.faulty.server`: the server, with engines that know the faulty networks."""

from server import __main__
from server.engines import processes

if __name__ == "__main__":
    processes.PROGRAM = "tests.reliability.faulty.zygote"
    __main__.main()
