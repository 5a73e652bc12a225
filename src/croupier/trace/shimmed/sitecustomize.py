"""Loaded by every Python that a watched workload starts: each change of a file asks first, and waits for the answer.

Found by PYTHONPATH, before any module of the program. It imports nothing of croupier. What changes files without going
through `os` or an opened file, as a library in C does, is not seen here.
"""

# mypy: ignore-errors
# ruff: noqa: PTH100, PTH118, PTH120 - it stands in for what pathlib stands on

import builtins
import io
import json
import os
import socket
import sys
import threading

_ADDRESS = os.environ.get("CROUPIER_SHIM", "")
_lines = threading.local()


def _ask(call, path="", path2="", offset=None, length=None, fd=None, data=b""):
    """Say what is about to be done, and wait. Raises OSError where the answer says so."""
    line = getattr(_lines, "line", None)
    if line is None or _lines.pid != os.getpid():
        try:
            line = socket.socket(socket.AF_UNIX)
            line.connect(_ADDRESS)
        except OSError:
            return
        _lines.line, _lines.pid = line.makefile("rwb", buffering=0), os.getpid()
        line = _lines.line
    if fd is not None and not path:
        try:
            path = _real_readlink(f"/proc/self/fd/{fd}")
        except OSError:
            return
        if not path.startswith("/"):
            return
    told = {
        "call": call, "path": _whole(path), "path2": _whole(path2) if path2 else "", "offset": offset, "length": length,
        "pid": os.getpid(), "thread": threading.get_ident(), "data": bytes(data[:65536]).hex(),
    }  # fmt: skip
    try:
        line.write(json.dumps(told).encode() + b"\n")
        answer = line.readline()
    except OSError:
        return
    if answer.startswith(b"fail "):
        code = int(answer.split()[1])
        raise OSError(code, os.strerror(code), path)


_real_readlink = os.readlink


def _whole(path):
    try:
        path = os.fsdecode(os.fspath(path))
    except TypeError:
        return ""
    head, tail = os.path.split(path)
    return os.path.join(os.path.realpath(head or "."), tail)


def _position(fd):
    try:
        return os.lseek(fd, 0, os.SEEK_CUR)
    except OSError:
        return None


class _File(io.FileIO):
    """An opened file that asks before it writes."""

    def write(self, data):
        data = bytes(data)
        _ask("write", fd=self.fileno(), offset=_position(self.fileno()), length=len(data), data=data)
        return super().write(data)

    def truncate(self, size=None):
        _ask("ftruncate", fd=self.fileno(), length=self.tell() if size is None else size)
        return super().truncate(size)


def _open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
    """As `open`, with a raw file of ours below for one that is written to."""
    if not any(letter in mode for letter in "wax+") or isinstance(file, int) or opener is not None:
        return _real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    there = os.path.lexists(file)
    if "w" in mode and there:
        _ask("open-trunc", path=file)
    elif not there and "r" not in mode:
        _ask("create", path=file)
    raw = _File(file, "".join(letter for letter in mode if letter in "rwax+"))
    if "b" in mode and buffering == 0:
        return raw
    size = io.DEFAULT_BUFFER_SIZE if buffering in (-1, 1) else buffering
    buffer = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
    if "b" in mode:
        return buffer
    text = io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering=buffering == 1)
    text.mode = mode
    return text


_real_open = builtins.open


def _patched(name, ask):
    real = getattr(os, name, None)
    if real is None:
        return

    def patched(*args, **more):
        ask(*args, **more)
        return real(*args, **more)

    patched.__name__, patched.__doc__ = name, real.__doc__
    setattr(os, name, patched)


def _two(call):
    return lambda src, dst, **more: _ask(call, path=src, path2=dst)


def _one(call):
    return lambda path, *rest, **more: _ask(call, path=path)


def _by_fd(call):
    return lambda fd, *rest, **more: _ask(call, fd=fd if isinstance(fd, int) else fd.fileno())


def _os_open(path, flags, *rest, **more):
    if flags & os.O_CREAT and not os.path.lexists(path):
        _ask("create", path=path)
    elif flags & os.O_TRUNC:
        _ask("open-trunc", path=path)


def _os_write(fd, data):
    if fd > 2:
        _ask("write", fd=fd, offset=_position(fd), length=len(data), data=data)


def _os_pwrite(fd, data, offset, *rest):
    data = data if isinstance(data, (bytes, bytearray, memoryview)) else b"".join(map(bytes, data))
    _ask("write", fd=fd, offset=offset, length=len(data), data=data)


def _install():
    builtins.open = io.open = _open
    for name, call in (("rename", "rename"), ("replace", "rename"), ("link", "link")):
        _patched(name, _two(call))
    _patched("symlink", lambda src, dst, *rest, **more: _ask("symlink", path=dst))
    for name in ("remove", "unlink"):
        _patched(name, _one("unlink"))
    for name in ("mkdir", "rmdir", "chmod", "utime", "mkfifo"):
        _patched(name, _one(name))
    _patched("truncate", lambda path, size: _ask("truncate", path=path, length=size))
    _patched("ftruncate", lambda fd, size: _ask("ftruncate", fd=fd, length=size))
    for name in ("fsync", "fdatasync"):
        _patched(name, _by_fd(name))
    _patched("open", _os_open)
    _patched("write", _os_write)
    _patched("pwrite", _os_pwrite)
    _patched("pwritev", _os_pwrite)
    _patched("writev", lambda fd, parts: _os_write(fd, b"".join(map(bytes, parts))))
    _patched("sendfile", lambda out, *rest, **more: _ask("copy", fd=out))
    _patched("copy_file_range", lambda src, dst, *rest, **more: _ask("copy", fd=dst))


if _ADDRESS:
    _install()

# Whoever had a sitecustomize of their own still has it.
_own = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [one for one in sys.path if os.path.abspath(one or ".") != _own]
_this = sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize  # noqa: F401
except ImportError:
    if _this is not None:
        sys.modules["sitecustomize"] = _this
