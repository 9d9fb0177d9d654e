"""`python -m server.engines.zygote`, with its socket as standard input: becomes an engine by forking.

Importing PyTorch takes two seconds. This process has done it before it is asked, so that an engine
whose process died is back at once, and engines share the memory of what was imported. It never
computes and never touches a GPU: a process that has cannot be forked safely.
"""

import contextlib
import gc
import json
import logging
import os
import signal
import socket
import struct

from server.engines import worker

REQUEST_BYTES = 65_536
FORKED = struct.Struct("<I")  # the new process's number


def main() -> None:
    """Fork an engine for each request, until the server hangs up."""
    # The server decides when to stop, also when Ctrl-C reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for engines: the kernel buries them
    gc.freeze()  # what was imported stays shared: the collector of a child need not write to it
    control = socket.socket(fileno=0)
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 2)
        if not request:
            break
        pid = os.fork()
        if pid == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a compiler's exit status matters
            with contextlib.suppress(BrokenPipeError):  # the server is gone: nobody is left to be told
                worker.run(json.loads(request), server=socket.socket(fileno=descriptors[0]), memory=descriptors[1])
            break
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(FORKED.pack(pid))
    logging.shutdown()
    os._exit(0)  # taking PyTorch down in order takes more than a second, and leaves nothing behind that this does


if __name__ == "__main__":
    main()
