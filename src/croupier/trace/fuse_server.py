"""A directory shown through FUSE: every request that changes something is told first, and waits for the answer.

Run as `python -m croupier.trace.fuse_server BELOW MOUNT ADDRESS` by `fuse.py`. When whoever started it is gone, it
takes its mount away and ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import msgspec

_DETACH = 2


class Told:
    """The line to whoever answers."""

    def __init__(self, address: str) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(address)
        self._file = self._line.makefile("rwb", buffering=0)
        self._lock = threading.Lock()

    def ask(self, call: str, path: str, **more: Any) -> None:
        """Say what is about to be done, and wait. Raises OSError where the answer says so."""
        with self._lock:
            self._file.write(msgspec.json.encode({"call": call, "path": path, **more}) + b"\n")
            answer = self._file.readline()
        if not answer:
            # Nobody answers any more: the workload is being ended, and this must not be done.
            threading.Event().wait()
        if answer.startswith(b"fail "):
            code = int(answer.split()[1])
            raise OSError(code, os.strerror(code))


def operations(below: str, told: Told) -> Any:
    """What libfuse calls, for the directory `below`."""
    import mfusepy  # type: ignore[import-untyped]

    class Shown(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def _at(self, path: str) -> str:
            return below + path

        # What changes nothing.

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            seen = os.lstat(self._at(path))
            names = ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
            times = {f"st_{one}time": getattr(seen, f"st_{one}time_ns") for one in "amc"}
            return {**{name: getattr(seen, name) for name in names}, **times}

        def readdir(self, path: str, fh: int) -> Iterator[str]:
            yield from (".", "..", *os.listdir(self._at(path)))  # noqa: PTH208

        def readlink(self, path: str) -> str:
            return os.readlink(self._at(path))  # noqa: PTH115

        def statfs(self, path: str) -> dict[str, int]:
            seen = os.statvfs(self._at(path))
            names = ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_favail", "f_ffree", "f_files", "f_frsize",
                     "f_namemax")  # fmt: skip
            return {name: getattr(seen, name) for name in names}

        def open(self, path: str, flags: int) -> int:
            if flags & os.O_TRUNC:
                told.ask("open-trunc", path)
            return os.open(self._at(path), flags & ~os.O_APPEND)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(fh, size, offset)

        def flush(self, path: str, fh: int) -> int:
            return 0

        def release(self, path: str, fh: int) -> int:
            os.close(fh)
            return 0

        # What changes something.

        def create(self, path: str, mode: int, fi: object = None) -> int:
            told.ask("create", path)
            return os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            told.ask("write", path, offset=offset, length=len(data), data=data[:65536].hex())
            return os.pwrite(fh, data, offset)

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            told.ask("truncate", path, length=length)
            os.truncate(self._at(path), length)
            return 0

        def unlink(self, path: str) -> int:
            told.ask("unlink", path)
            os.unlink(self._at(path))  # noqa: PTH108
            return 0

        def mkdir(self, path: str, mode: int) -> int:
            told.ask("mkdir", path)
            os.mkdir(self._at(path), mode)  # noqa: PTH102
            return 0

        def rmdir(self, path: str) -> int:
            told.ask("rmdir", path)
            os.rmdir(self._at(path))  # noqa: PTH106
            return 0

        def rename(self, old: str, new: str) -> int:
            told.ask("rename", old, path2=new)
            os.rename(self._at(old), self._at(new))  # noqa: PTH104
            return 0

        def link(self, target: str, source: str) -> int:
            told.ask("link", source, path2=target)
            os.link(self._at(source), self._at(target))
            return 0

        def symlink(self, target: str, source: str) -> int:
            told.ask("symlink", target)
            os.symlink(source, self._at(target))  # noqa: PTH211
            return 0

        def mknod(self, path: str, mode: int, dev: int) -> int:
            told.ask("create", path)
            os.mknod(self._at(path), mode, dev)
            return 0

        def chmod(self, path: str, mode: int) -> int:
            told.ask("chmod", path)
            os.chmod(self._at(path), mode)  # noqa: PTH101
            return 0

        def chown(self, path: str, uid: int, gid: int) -> int:
            told.ask("chown", path)
            os.lchown(self._at(path), uid, gid)
            return 0

        def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
            told.ask("utime", path)
            if times is None:
                os.utime(self._at(path), follow_symlinks=False)
            else:
                os.utime(self._at(path), ns=times, follow_symlinks=False)
            return 0

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            told.ask("fsync", path)
            os.fsync(fh)
            return 0

        def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
            told.ask("fsync", path)
            return 0

        def fallocate(self, path: str, mode: int, offset: int, length: int, fh: int) -> int:
            if mode:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            told.ask("fallocate", path, offset=offset, length=length)
            os.posix_fallocate(fh, offset, length)
            return 0

    return Shown()


def take_away(mount: str) -> None:
    """Detach a mount of ours, whoever still uses it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mount), _DETACH) == 0:
        return
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    if helper:
        subprocess.run([helper, "-u", "-z", mount], check=False, stderr=subprocess.DEVNULL)


def main(below: str, mount: str, address: str) -> None:
    """Serve until the mount is taken away, or nobody is left at the other end of standard input."""
    import mfusepy

    def end_with_our_maker() -> None:
        while os.read(0, 4096):
            pass
        take_away(mount)
        os._exit(0)

    threading.Thread(target=end_with_our_maker, daemon=True).start()
    # From libfuse 3 on writes are as big as the kernel has them, and it knows no such option.
    older = {"big_writes": True} if mfusepy.fuse_version_major == 2 else {}
    mfusepy.FUSE(
        operations(below, Told(address)), mount, foreground=True, nothreads=True, fsname="croupier",
        attr_timeout=0, entry_timeout=0, **older,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:4])
