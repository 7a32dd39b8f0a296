"""A relay in front of a server on this machine, which can refuse, be slow, or lose a connection."""

import select
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_REFUSAL = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_BLOCK = 65_536


class FaultyDoor:
    """Passes bytes between clients and a server, and does what it is told to do wrong."""

    def __init__(self, server_port: int) -> None:
        self.refuses = False
        """Whether requests are answered with 503."""
        self.refused = 0
        """How many have been."""
        self.seconds = 0.0
        """How long each block of bytes is held back."""
        self.loses_after: int | None = None
        """Bytes of a request after which its connection is lost; once."""
        self._server_port = server_port

    @contextmanager
    def open(self, port: int = 0) -> Iterator[int]:
        """Listens on the loopback interface; the value is the port."""
        door = self

        class Visit(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                door._pass(self.request)

        with socketserver.ThreadingTCPServer(("127.0.0.1", port), Visit) as relay:
            relay.daemon_threads = True
            threading.Thread(target=relay.serve_forever, daemon=True).start()
            yield relay.server_address[1]
            relay.shutdown()

    def _pass(self, client: socket.socket) -> None:
        received = 0
        with socket.create_connection(("127.0.0.1", self._server_port)) as server:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    try:
                        block = source.recv(_BLOCK)
                    except ConnectionError:
                        return
                    if not block:
                        return
                    time.sleep(self.seconds)
                    if source is client:
                        received += len(block)
                        if self.refuses:
                            self.refused += 1
                            client.sendall(_REFUSAL)
                            return
                        if self.loses_after is not None and received > self.loses_after:
                            self.loses_after = None
                            return
                    (server if source is client else client).sendall(block)
