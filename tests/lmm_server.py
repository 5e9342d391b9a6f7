"""A small OpenAI-compatible server on loopback that replays answers and injects faults; also run by the demo.

`python tests/lmm_server.py ANSWERS.json` serves the texts of a JSON list in turn, for ever.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Say:
    """A completion with this text, after `delay_s`."""

    text: str
    delay_s: float = 0.0
    refusal: str | None = None


@dataclass(frozen=True)
class Fail:
    """An HTTP error, with headers such as Retry-After."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """The connection closes in the middle of the reply."""


Step = Say | Fail | Cut


@dataclass
class LmmServer:
    """The server's address, and all requests in order."""

    url: str
    requests: list[Body]
    most_at_once: int = 0


@contextmanager
def lmm_server(reply: Callable[[Body, int], Step], port: int = 0) -> Iterator[LmmServer]:
    """Serves `reply(body, number)`, with requests numbered from 0, until the block ends."""
    lock = threading.Lock()
    state = LmmServer(url="", requests=[])
    busy = 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal busy
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(state.requests)
                state.requests.append(body)
                busy += 1
                state.most_at_once = max(state.most_at_once, busy)
            try:
                self._send(reply(body, number), body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client stopped waiting
            finally:
                with lock:
                    busy -= 1

        def _send(self, step: Step, body: Body) -> None:
            if isinstance(step, Fail):
                self._json(
                    step.status, {"error": {"message": f"fault {step.status}", "code": step.status}}, step.headers
                )
            elif isinstance(step, Cut):
                self.send_response(200)
                self.send_header("Content-Length", "5000")
                self.end_headers()
                self.wfile.write(b'{"id": "cut')
                self.close_connection = True
            else:
                time.sleep(step.delay_s)
                self._json(200, _completion(step, body["model"]), {})

        def _json(self, status: int, content: Body, headers: dict[str, str]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's own name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def _completion(step: Say, model: str) -> Body:
    message = {"role": "assistant", "content": step.text, "refusal": step.refusal}
    return {
        "id": "chatcmpl-loopback",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050},
    }


if __name__ == "__main__":
    texts = cycle(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    with lmm_server(lambda body, number: Say(next(texts)), port=8765) as served:
        print(f"listening at {served.url}", flush=True)
        threading.Event().wait()
