"""A real HTTP server that speaks chat completions and misbehaves as it is told.

A script decides for every call what to do; without one all answers are good. The answer names the
request that it belongs to, so that a mix-up shows.
"""

from __future__ import annotations

import base64
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from curation.stages.sampled import picture
from tests.captions.scripted import COLOURS

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One HTTP request as it came in.

    Attributes:
        request_id: Its ``X-Client-Request-Id``.
        nth: 1 for the first call of this id.
        total: 1 for the first call of all.
        at_s: Monotonic time.
        headers: Names in lower case.
        body: Parsed JSON.
    """

    request_id: str
    nth: int
    total: int
    at_s: float
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Act:
    """What to do with a call.

    Attributes:
        status: HTTP status.
        body: Bytes to send; None: a good completion for status 200, else an error object.
        text: Content of the good completion; None: a caption that names the request.
        changes: Fields of the completion to replace.
        error: Error object of a status that is not 200.
        headers: Further headers.
        wait_s: Seconds before anything is sent.
        drip_s: Seconds between two bytes.
        cut: Claim the whole length, send half of it and hang up.
        reset: Send a TCP reset in place of an answer.
        swap: Exchange the whole answer with that of another call with ``swap``.
        silent_swap: The same, without the ids that would give it away.
        echo: Send ``X-Request-Id`` back, as vLLM and transformers do.
    """

    status: int = 200
    body: bytes | None = None
    text: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    drip_s: float = 0.0
    cut: bool = False
    reset: bool = False
    swap: bool = False
    silent_swap: bool = False
    echo: bool = True


GOOD = Act()
Script = Callable[[Call], Act]


def caption_text(request_id: str) -> str:
    """A usable caption that names its request."""
    words = f"the answer to {request_id}"
    return json.dumps({"short": words, "medium": words, "long": words, "events": []})


def seen_text(call: Call) -> str:
    """A usable caption that names the colour of the pictures that came, and the request."""
    pictures = []
    for part in call.body["messages"][-1]["content"]:
        if part["type"] == "image_url":
            jpeg = base64.b64decode(part["image_url"]["url"].partition(",")[2])
            pictures.append(picture(jpeg).mean((0, 1))[::-1])
    mean = np.mean(pictures, axis=0)
    colour = min(COLOURS, key=lambda name: float(np.abs(mean - COLOURS[name]).sum()))
    words = f"A plain {colour} picture, asked for as {call.request_id}."
    return json.dumps({"short": words, "medium": words, "long": words, "events": []})


class FaultServer:
    """The server and what it saw.

    Attributes:
        calls: All calls, in order.
        url: For ``base_url``.
    """

    def __init__(self, script: Script) -> None:
        self.script, self.calls = script, list[Call]()
        self._lock, self._swaps = threading.Lock(), _Swaps()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.faults = self  # pyright: ignore[reportAttributeAccessIssue]
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def counts(self) -> Counter[str]:
        """Calls by request id."""
        with self._lock:
            return Counter(c.request_id for c in self.calls)

    def stop(self) -> None:
        """Close the port."""
        self._http.shutdown()
        self._http.server_close()

    def note(self, headers: dict[str, str], body: dict[str, Any]) -> Call:
        """Record a call."""
        with self._lock:
            name = headers.get("x-client-request-id", "")
            nth = 1 + sum(c.request_id == name for c in self.calls)
            call = Call(
                request_id=name,
                nth=nth,
                total=len(self.calls) + 1,
                at_s=time.monotonic(),
                headers=headers,
                body=body,
            )
            self.calls.append(call)
            return call

    def answer(self, call: Call, act: Act) -> tuple[bytes, str]:
        """Body and ``X-Request-Id`` of a call's answer."""
        own = call.headers.get("x-request-id", "")
        if act.body is not None:
            body = act.body
        elif act.status != 200:
            body = json.dumps({"error": {"message": "no", "type": "test"} | act.error}).encode()
        else:
            text = caption_text(call.request_id) if act.text is None else act.text
            message = {"role": "assistant", "content": text}
            whole: dict[str, Any] = {
                "id": f"chatcmpl-{own}" if act.echo else "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": call.body.get("model"),
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": USAGE,
            }
            body = json.dumps(whole | act.changes).encode()
        if act.swap or act.silent_swap:
            return self._swaps.exchange((body, own))
        return body, own


class _Swaps:
    """Pairs calls that meet here, and gives each the other's answer."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._waiting: list[list[tuple[bytes, str]]] = []

    def exchange(self, mine: tuple[bytes, str]) -> tuple[bytes, str]:
        with self._lock:
            if self._waiting:
                box = self._waiting.pop()
                theirs = box[0]
                box.append(mine)
                self._lock.notify_all()
                return theirs
            box = [mine]
            self._waiting.append(box)
            self._lock.wait_for(lambda: len(box) == 2, timeout=10)
            return box[-1]


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # the default of 5 refuses clients that come together


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: FaultServer = self.server.faults  # pyright: ignore[reportAttributeAccessIssue]
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path != "/v1/chat/completions":
            self._send(404, json.dumps({"error": {"message": f"no {self.path}"}}).encode(), {}, 0)
            return
        call = server.note({k.lower(): v for k, v in self.headers.items()}, json.loads(data))
        act = server.script(call)
        body, own = server.answer(call, act)
        time.sleep(act.wait_s)
        try:
            if act.reset:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                self.close_connection = True
                return
            headers = {"X-Request-Id": own} if act.echo else {}
            self._send(act.status, body, headers | act.headers, act.drip_s, cut=act.cut)
        except OSError:  # the client has hung up
            self.close_connection = True

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], drip_s: float, cut: bool = False
    ) -> None:
        self.send_response(status)
        headers = {"Content-Type": "application/json"} | headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cut:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif drip_s:
            for i in range(len(body)):
                self.wfile.write(body[i : i + 1])
                self.wfile.flush()
                time.sleep(drip_s)
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ANN401
        pass


@contextmanager
def serve(script: Script = lambda call: GOOD) -> Iterator[FaultServer]:
    """A running server; its port is closed at the end."""
    server = FaultServer(script)
    try:
        yield server
    finally:
        server.stop()
