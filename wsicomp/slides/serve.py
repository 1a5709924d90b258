"""Reads one slide for another process; where this one dies, hangs or runs out of memory, it costs that slide only.

    python -m wsicomp.slides.serve PATH READER FD...     one thread for each socket FD
        first -> {"facts": ...} or {"error": ...}
        then  <- {"block": [level, x, y, step, [row, row], [col, col]], "what": ...}   -> {"bytes": n} and the cells
              <- {"encoded": [level, row, col]}                                        -> {"bytes": n} and the stream
              a place that cannot be read                                              -> {"error": ...}
        the other side closes a socket: the process ends

A message is one line of JSON, and bytes after it where the line says so. Any error but one of the slide ends the
process; what it was about to read is then known to the other side.

What this does not do: it takes no request that names another file, and writes none.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import threading
from typing import cast

import numpy as np

from wsicomp.errors import SlideDamaged, SlideError
from wsicomp.slides.cells import Native
from wsicomp.slides.settings import Reader

__all__ = ["MEMORY_BYTES", "serve"]

MEMORY_BYTES = 2 * 2**30
"""What the process may allocate. A sound slide needs some 100 MB, and the largest picture less than half of it."""


def serve(channel: socket.socket, native: Native) -> None:
    """Answer requests until the other side closes the channel."""
    with channel.makefile("rb") as requests:
        for line in requests:
            request = json.loads(line)
            try:
                if "encoded" in request:
                    stream = native.read_encoded(*request["encoded"])
                    _send(channel, {"bytes": len(stream)}, stream)
                else:
                    level, x, y, step, rows, cols = request["block"]
                    cells = native.read_block(level, x, y, step, range(*rows), range(*cols), request["what"])
                    _send(channel, {"bytes": cells.nbytes}, np.ascontiguousarray(cells).data)
            except SlideDamaged as error:
                _send(channel, {"error": str(error)})


def _send(channel: socket.socket, message: dict[str, object], content: bytes | memoryview = b"") -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")
    channel.sendall(content)


def _serve_then_end(channel: socket.socket, native: Native) -> None:
    try:
        serve(channel, native)
    finally:
        os._exit(0)  # the other side is gone, or something failed that is no damage: it sees the socket close


def main(path: str, reader: Reader, *descriptors: str) -> int:
    """Open the slide and serve it."""
    # Signals of a terminal or a scheduler reach the whole group; the other side decides what becomes of its slides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    channels = [socket.socket(fileno=int(descriptor)) for descriptor in descriptors]
    from wsicomp.slides.local import open_native  # under the limit, as all that it loads and reads

    try:
        native = open_native(path, reader=reader)
    except SlideError as error:
        _send(channels[0], {"error": str(error)})
        return 0
    _send(channels[0], {"facts": native.facts.to_json()})
    for channel in channels[1:]:
        threading.Thread(target=_serve_then_end, args=(channel, native), daemon=True).start()
    _serve_then_end(channels[0], native)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], cast(Reader, sys.argv[2]), *sys.argv[3:]))
