"""A page of a running Chromium, used over the DevTools protocol: https://chromedevtools.github.io/devtools-protocol/"""

from __future__ import annotations

import itertools
import json
import urllib.request
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

WITHIN_S = 5


class Gone(Exception):
    """The page, or the browser, does not answer, or says that it crashed."""


class NotReady(Gone):
    """The page is there, and its script is not yet, or has raised."""


class Page:
    """The first page of the browser. Everything raises Gone when it is away; make another one then."""

    def __init__(self, port: str) -> None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=WITHIN_S) as answer:
                targets = json.load(answer)
            url = next(one["webSocketDebuggerUrl"] for one in targets if one["type"] == "page")
            self._socket = connect(url, open_timeout=WITHIN_S, close_timeout=1)
        except (OSError, ValueError, StopIteration, WebSocketException) as problem:
            raise Gone(f"no page is there: {problem}") from problem
        self._ids = itertools.count(1)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def reload(self) -> None:
        """Load the page again, which gives it a new renderer if it has lost its own."""
        self._ask("Page.reload")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; of a promise, once it is kept."""
        told = self._ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise NotReady(f"{expression} failed: {told['exceptionDetails']['text']}")
        return told["result"].get("value")

    def _ask(self, method: str, **params: Any) -> Any:
        number = next(self._ids)
        try:
            self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
            while True:
                answer = json.loads(self._socket.recv(timeout=WITHIN_S))
                if answer.get("method") in ("Inspector.targetCrashed", "Inspector.detached"):
                    raise Gone("the page crashed")
                if answer.get("id") == number:
                    break
        except (OSError, TimeoutError, WebSocketException) as problem:
            raise Gone(f"{method} was not answered: {problem}") from problem
        if "error" in answer:
            raise Gone(f"{method}: {answer['error']['message']}")
        return answer["result"]
