"""The web side of the notes service: three routes over any store of notes.

Nothing is kept here. What becomes of a note when a process dies is the business of the store, and the
store is all in which the twins `notes.py` and `fragile_notes.py` differ.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, Protocol

Note = dict[str, str]
Answer = tuple[str, object]


class Store(Protocol):
    def add(self, note: Note) -> bool:
        """Keep a note, and say whether it was new. Once this returns, the note is promised."""

    def all(self) -> list[Note]: ...


def notes_app(store: Store) -> Callable[..., Iterable[bytes]]:
    """Make a WSGI application that keeps its notes in the given store."""

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        status, body = _answer(store, environ)
        payload = json.dumps(body).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(payload)))]
        start_response(status, headers)
        return [payload]

    return app


def _answer(store: Store, environ: dict[str, Any]) -> Answer:
    match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
        case "GET", "/health":
            # A worker is here and answers. The store stays out of it, so that a slow disk does not
            # look like a dead service.
            return "200 OK", {"status": "ok"}
        case "GET", "/notes":
            return "200 OK", store.all()
        case "POST", "/notes":
            return _add(store, environ)
        case _:
            return "404 Not Found", {"error": "try GET /health, GET /notes or POST /notes"}


def _add(store: Store, environ: dict[str, Any]) -> Answer:
    try:
        sent = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        note = {"id": str(sent["id"]), "text": str(sent["text"])}
    except (ValueError, KeyError, TypeError):
        return "400 Bad Request", {"error": 'a note is {"id": "…", "text": "…"}'}

    # The id is the client's choice. It may send a note again until it hears from us, and still have it once.
    return ("201 Created" if store.add(note) else "200 OK"), {"id": note["id"]}
