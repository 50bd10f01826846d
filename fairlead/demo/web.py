# SPDX-License-Identifier: Apache-2.0
"""The demo's small web server: says who it is. `python -m fairlead.demo.web NAME ADDRESS PORT`."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Greeter(BaseHTTPRequestHandler):
    """Answers every GET with the server's name."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment: else the client's delayed ACK costs 40 ms
    name = ""

    def do_GET(self) -> None:
        """Answer."""
        body = f"{self.name}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: thousands of requests come."""


class Server(ThreadingHTTPServer):
    """Many short connections at once."""

    request_queue_size = 128
    daemon_threads = True


def main() -> None:
    """Serve until killed."""
    Greeter.name, address, port = sys.argv[1:]
    Server((address, int(port)), Greeter).serve_forever()


if __name__ == "__main__":
    main()
