"""A small HTTP server in threads: a function from request to answer, nothing more."""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

BODY_LIMIT = 1_000_000  # bytes; a larger body is refused before it is read

log = logging.getLogger("http")


@dataclass(frozen=True)
class Request:
    """One request: `path` without the query, decoded; header names in lower case."""

    method: str
    path: str
    query: dict[str, list[str]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> object:
        """Return the body as JSON; ValueError if it is none."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What goes back: bytes as they are, anything else as JSON."""

    content: object
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """Return the bytes to send."""
        return self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()


def serve(address: str, port: int, answer: Callable[[Request], Answer]) -> ThreadingHTTPServer:
    """Listen on address:port (0 = a free one) in daemon threads, one a connection."""

    class Handler(BaseHTTPRequestHandler):
        """One connection; a client that says nothing for 30 s is let go."""

        timeout = 30

        def do_GET(self) -> None:
            self._respond()

        do_POST = do_GET  # noqa: N815  http.server calls this name

        def _respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > BODY_LIMIT:
                self._send(Answer({"error": "body too large"}, 413))
                return
            url = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(length)
            self._send(answer(Request(self.command, unquote(url.path), parse_qs(url.query), headers, body)))

        def _send(self, result: Answer) -> None:
            body = result.body()
            self.send_response(result.status)
            self.send_header("Content-Type", result.content_type)
            self.send_header("Content-Length", str(len(body)))
            for name, value in result.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing: health checks would drown the rest."""

    server = ThreadingHTTPServer((address, port), Handler)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    log.info("event=listening address=%s port=%d", address, server.server_port)
    return server
