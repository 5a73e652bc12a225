"""The clock of a process that croupier starts, moved by a library that is preloaded into it; never the machine's.

There are two ways. The *shim* is a small C source of ours, which the machine's own compiler makes into a library: it
reads a file that is mapped into memory, and leaves sleeps and the monotonic clock alone. *libfaketime* is a package of
its own; it reads a file of text at every question. Either way a process has a file, which all that it starts shares.

The file says by how much the clock is off, and can be changed while the process runs. `TRUE` is no change at all.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal

from ..model.noun import Noun
from . import shims

Way = Literal["shim", "libfaketime"]

VARIABLE = "CROUPIER_CLOCK"
"""Names the file, in the environment of a process that was started for it."""
SHIM = "clock"
"""The name of the shim."""
_MAGIC = b"croupclk"
_SETTING = struct.Struct("=qqqq")
_CURRENT_AT = 8
_SETTINGS_AT = 16
_SUFFIXES: dict[Way, str] = {"shim": ".clock", "libfaketime": ".faketime"}
_SHM = Path("/dev/shm")
_MANY = 1 << 20
_PACKAGED = ("/usr/lib/*/faketime", "/usr/lib64/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")
_WITHIN_S = 20.0
_ANSWER_WITHIN_S = 3.0


class Setting(Noun, frozen=True, kw_only=True):
    """By how much a clock is off."""

    offset_ms: int = 0
    """Ahead of the truth if positive, behind it if negative."""
    drift_ppb: int = 0
    """By how many parts per billion it runs fast, from `since_ns` on; slow if negative."""
    since_ns: int = 0
    """The true wall time from which the drift counts, in nanoseconds since 1970; 0 without a drift."""
    monotonic: bool = False
    """Whether monotonic clocks are off as well."""

    def shown_ns(self, true_ns: int) -> int:
        """What the clock shows at this true time, in nanoseconds since 1970."""
        drifted = (true_ns - self.since_ns) * self.drift_ppb // 10**9 if self.drift_ppb else 0
        return true_ns + self.offset_ms * 10**6 + drifted


TRUE = Setting()


def lacking(way: Way) -> str:
    """What this machine lacks for a way, in a sentence; "" if nothing. Tried once, in a directory of its own."""
    return shims.lacking(SHIM) if way == "shim" else _lacking_libfaketime()


def _lacking_libfaketime() -> str:
    if _packaged() is None:
        return "libfaketime is not installed (apt-get install libfaketime)"
    return "" if os.access(_SHM, os.W_OK) else f"{_SHM} cannot be written"


@functools.cache
def spoils_sleeps() -> bool:
    """Whether libfaketime, told to leave the monotonic clock alone, spoils sleeps by it (before 0.9.11 it does)."""
    library = _packaged()
    if library is None:
        return False
    env = {**os.environ, "LD_PRELOAD": library, "FAKETIME": "+0", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    asked = [sys.executable, "-S", "-c", "import time; time.sleep(0.001)"]
    done = subprocess.run(asked, env=env, capture_output=True, timeout=_WITHIN_S, check=False)
    return done.returncode != 0


def _packaged() -> str | None:
    # The one that is meant for programs with several threads serves those with one as well.
    found = (one for folder in _PACKAGED for one in Path("/").glob(f"{folder[1:]}/libfaketimeMT.so.1"))
    return next((str(one) for one in found), None)


class Clock:
    """One file, and what is needed to have a process live by it."""

    def __init__(self, path: Path) -> None:
        """A file that is there, or is to be made; its suffix tells the way."""
        self.path = path
        self.way: Way = "shim" if path.suffix == _SUFFIXES["shim"] else "libfaketime"

    @classmethod
    def named(cls, folder: Path, name: str, way: Way) -> Clock:
        """The clock of a process, in a directory."""
        return cls(folder / f"{name}{_SUFFIXES[way]}")

    def make(self) -> None:
        """Make the file, for a clock that is right. Raises OSError."""
        if self.way == "shim":
            self.path.write_bytes(_MAGIC + bytes(_SETTINGS_AT - len(_MAGIC) + 2 * _SETTING.size))
        else:
            self.path.write_text(f"{_text(TRUE, 0)}\n")

    def read(self) -> Setting:
        """What the file says. Raises OSError or ValueError."""
        if self.way == "libfaketime":
            return _setting(self.path.read_text())
        data = self.path.read_bytes()
        if not data.startswith(_MAGIC) or len(data) < _SETTINGS_AT + 2 * _SETTING.size:
            raise ValueError(f"{self.path} is no clock")
        offset, since, drift, monotonic = _SETTING.unpack_from(data, _slot(data[_CURRENT_AT]))
        return Setting(offset_ms=offset // 10**6, since_ns=since, drift_ppb=drift, monotonic=bool(monotonic))

    def set(self, to: Setting) -> None:
        """Have it from now on. Whoever reads sees the old or the new, never half of each. Raises OSError."""
        if self.way == "libfaketime":
            aside = self.path.with_suffix(".new")
            aside.write_text(f"{_text(to, self._began_ns())}\n")
            aside.replace(self.path)
            return
        file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            other = os.pread(file, 1, _CURRENT_AT)[0] ^ 1
            packed = _SETTING.pack(to.offset_ms * 10**6, to.since_ns, to.drift_ppb, to.monotonic)
            os.pwrite(file, packed, _slot(other))
            os.pwrite(file, bytes([other]), _CURRENT_AT)
        finally:
            os.close(file)

    def environment(self, given: Mapping[str, str], *, shared: str = "", monotonic: bool = False) -> dict[str, str]:
        """An environment in which a process lives by this clock. `shared` and `monotonic` are for libfaketime."""
        library = shims.library(SHIM, self.path.parent) if self.way == "shim" else _packaged() or ""
        kept = {name: text for name, text in given.items() if not name.startswith("FAKETIME")}
        ours = {VARIABLE: str(self.path)}
        if self.way == "libfaketime":
            ours |= {
                "FAKETIME_TIMESTAMP_FILE": str(self.path), "FAKETIME_NO_CACHE": "1", "NO_FAKE_STAT": "1",
                "FAKE_UTIME": "0", "FAKETIME_SHARED": f"/{shared} /{shared}",
                "FAKETIME_DONT_FAKE_MONOTONIC": "0" if monotonic else "1",
            }  # fmt: skip
        return shims.preloading({**kept, **ours}, library)

    def is_in(self, pid: int) -> bool:
        """Whether a process has it in its memory: a static program has not, nor has one that was made setuid."""
        return shims.maps(pid, str(self.path) if self.way == "shim" else "libfaketime")

    def _began_ns(self) -> int:
        """The moment from which libfaketime counts a drift, the same for all that live by this clock."""
        try:
            seconds, rest = struct.unpack_from("=qq", (_SHM / shared_name(self.path)).read_bytes(), 16)
        except (OSError, struct.error):
            return time.time_ns()
        return int(seconds) * 10**9 + int(rest)


def shown_ns(env: Mapping[str, str]) -> int | None:
    """What a clock shows in such an environment, in nanoseconds since 1970, by date(1); None if it cannot say."""
    try:
        done = subprocess.run(
            ["date", "+%s%N"], env=dict(env), capture_output=True, text=True, timeout=_ANSWER_WITHIN_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    text = done.stdout.strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def shared_name(path: Path) -> str:
    """What the memory is called that libfaketime's processes of a clock share."""
    return f"croupier-clock-{sha256(str(path).encode()).hexdigest()[:16]}"


def share(path: Path) -> str:
    """Make what libfaketime's processes share (shm_overview(7), sem_overview(7)): its name. Raises OSError.

    Left to itself, libfaketime makes such a pair per process, and a process that is killed leaves it behind. It holds
    the moment of its start, from which a drift counts.
    """
    name = shared_name(path)
    clocks = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_MONOTONIC_RAW, time.CLOCK_BOOTTIME)
    began = [part for one in clocks for part in divmod(time.clock_gettime_ns(one), 10**9)]
    (_SHM / name).write_bytes(struct.pack("=QQ8q", 0, 0, *began))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sem_open.restype = ctypes.c_void_p
    # So many that nobody ever waits: a process that is killed while it holds one would keep all others waiting.
    made = libc.sem_open(f"/{name}".encode(), os.O_CREAT, 0o600, _MANY)
    if made is None:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"/{name}")
    libc.sem_close(ctypes.c_void_p(made))
    return name


def unshare(name: str) -> bool:
    """Take it away. Whether nothing is left of it."""
    both = (_SHM / name, _SHM / f"sem.{name}")
    for one in both:
        one.unlink(missing_ok=True)
    return not any(one.exists() for one in both)


def _slot(which: int) -> int:
    return _SETTINGS_AT + (which & 1) * _SETTING.size


def _text(setting: Setting, began_ns: int) -> str:
    """A setting as libfaketime reads it, which counts a drift from `began_ns`."""
    lead_ms = setting.offset_ms
    if setting.drift_ppb:
        lead_ms += (began_ns - setting.since_ns) * setting.drift_ppb // 10**15
    rate = 1 + setting.drift_ppb / 10**9
    kept = (setting.offset_ms, setting.drift_ppb, setting.since_ns, setting.monotonic)
    sign = "-" if lead_ms < 0 else "+"
    seconds = f"{sign}{abs(lead_ms) // 1000}" + (f".{abs(lead_ms) % 1000:03}" if lead_ms % 1000 else "")
    # Its first line is all that it reads; the second is for us.
    return f"{seconds} x{rate:.9g}\n# {' '.join(str(int(one)) for one in kept)}"


def _setting(text: str) -> Setting:
    found = re.search(r"^# (-?\d+) (-?\d+) (\d+) ([01])$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no setting of ours: {text[:80]!r}")
    offset, drift, since, monotonic = map(int, found.groups())
    return Setting(offset_ms=offset, drift_ppb=drift, since_ns=since, monotonic=bool(monotonic))
