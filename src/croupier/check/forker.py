"""Serve Python checks: import the module once, then fork for each check. Runs alone, on any Python from 3.8 on.

Started as a script by the interpreter that the check needs, which may have none of our packages: standard library
only. Orders come, and answers go, as lines of JSON on a socket. The parent watches the time and ends what hangs.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import inspect
import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, Callable  # noqa: UP035 - 3.8

_PR_SET_PDEATHSIG = 1
_MOST = 32_768
_STANDARD: Any = getattr(sys, "stdlib_module_names", frozenset())


def main() -> None:
    """`forker.py FD TARGET`."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    target = sys.argv[2]
    # As `python -m` does: what stands in the working directory can be imported. Not what stands beside this file.
    if getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, str(Path.cwd()))
    else:
        sys.path[0] = str(Path.cwd())
    sys.argv = [target]
    try:
        function = find(target)
    except BaseException as problem:
        _send(channel, {"wrong": _explain_import(problem, target)})
        return
    serve(channel, function)


def find(target: str) -> Callable[..., Any]:
    """The function of `module:function` or `file.py:function`. Raises whatever the import raises."""
    name, _, attribute = target.rpartition(":")
    if name.endswith(".py"):
        path = Path(name).absolute()
        sys.path.insert(0, str(path.parent))
        plain = path.stem
        spec = importlib.util.spec_from_file_location(plain, path)
        if spec is None or spec.loader is None:
            raise ImportError("it cannot be read as Python: " + str(path))
        module = importlib.util.module_from_spec(spec)
        sys.modules[plain] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(name)
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(target + " is not a function")
    function: Callable[..., Any] = found
    return function


def serve(channel: socket.socket, function: Callable[..., Any]) -> None:
    """Answer orders until there are no more."""
    libc = ctypes.CDLL(None)
    wanted = arguments(function)
    gc.collect()
    # Else the first collection in each child would write to every page that it shares with us.
    gc.freeze()
    _send(channel, {"ready": sys.executable})
    lines = channel.makefile("rb")
    for line in lines:
        order = json.loads(line)
        reader, writer = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(127)
            os.close(reader)
            channel.close()
            lines.close()
            _child(function, wanted, order, writer)
        os.close(writer)
        _, status = os.waitpid(pid, 0)
        # Whoever the check left behind may still hold the pipe open: what is in it now is all there is.
        os.set_blocking(reader, False)
        try:
            said = os.read(reader, 2 * _MOST)
        except BlockingIOError:
            said = b""
        os.close(reader)
        _send(channel, {"status": status, "said": said.decode("utf-8", "replace")})
        _learn(said)


def arguments(function: Callable[..., Any]) -> int:
    """How many of (state, acked) it takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if any(one.kind == one.VAR_POSITIONAL for one in parameters):
        return 2
    needed = [one for one in places if one.default is one.empty]
    return min(2, max(len(needed), min(1, len(places))))


def _child(function: Callable[..., Any], wanted: int, order: dict[str, Any], writer: int) -> None:
    """One check; never returns."""
    code = 1
    before = set(sys.modules)
    try:
        os.setsid()
        os.environ.update(order["env"])
        os.chdir(order["cwd"])
        answer = _call(function, wanted, order)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # noqa: S110 - closed by the check itself
                pass
        answer["new"] = [name for name in sys.modules if name not in before and name.split(".")[0] in _STANDARD]
        os.write(writer, json.dumps(answer).encode()[: 2 * _MOST])
        code = 0 if answer["held"] else 1
    finally:
        os._exit(code)


def _call(function: Callable[..., Any], wanted: int, order: dict[str, Any]) -> dict[str, Any]:
    given: list[Any] = []
    try:
        if wanted >= 1:
            given.append(Path(order["state"]))
        if wanted >= 2:
            with Path(order["acked"]).open(encoding="utf-8", errors="surrogateescape") as file:
                given.append(file.read())
        if function(*given) is False:
            return {"held": False, "reason": getattr(function, "__name__", "the check") + " returned False"}
        return {"held": True, "reason": ""}
    except SystemExit as end:
        if end.code in (None, 0):
            return {"held": True, "reason": ""}
        said = end.code if isinstance(end.code, str) else "exit code " + str(end.code)
        return {"held": False, "reason": said[: _MOST // 4]}
    except BaseException as problem:
        traceback.print_exc()
        said = "".join(traceback.format_exception_only(type(problem), problem)).strip()
        return {"held": False, "reason": said[: _MOST // 4]}


def _learn(said: bytes) -> None:
    """Import what the child had to import, so that the next need not. The standard library only: another module may
    look at the state as it is imported."""
    try:
        names = json.loads(said).get("new", [])
    except ValueError:
        return
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: S112 - then each child goes on doing it itself
            continue


def _explain_import(problem: BaseException, target: str) -> str:
    said = "".join(traceback.format_exception_only(type(problem), problem)).strip()
    at = traceback.extract_tb(problem.__traceback__)
    inside = [one for one in at if one.filename != __file__ and "importlib" not in one.filename]
    where = " (%s:%s)" % (inside[-1].filename, inside[-1].lineno) if inside else ""  # noqa: UP031
    return target + " cannot be called: " + said + where


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
