"""A small HTTP server for the live test, run as a process: `python server.py PORT`; says its port when it listens.

GET /set/NAME makes it "good", "slow" (it answers after five seconds) or "bad" (503); /count says how many requests for
work it has had.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

manner = "good"
served = 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        global manner, served
        status, body = 200, b"ok"
        if self.path.startswith("/set/"):
            manner = self.path.removeprefix("/set/")
        elif self.path == "/count":
            body = str(served).encode()
        else:
            served += self.path == "/work"
            if manner == "slow":
                time.sleep(5)
            status = 503 if manner == "bad" else 200
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that did not wait


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
