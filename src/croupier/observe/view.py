"""What a reader may look at: everything that the run knows and a probe needs, and nothing it could change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from ..model.target import Census
from ..system.commands import Finished

KEEP_BYTES = 64 * 1024
"""How much of a command's output is kept, unless more is asked for: the last part."""


class View(Protocol):
    """Given by the run. Every method may be called from any thread."""

    @property
    def cwd(self) -> Path:
        """Where relative paths and commands start: the directory of the experiment file."""

    @property
    def env(self) -> Mapping[str, str]:
        """The environment of commands."""

    @property
    def baseline(self) -> Mapping[str, int]:
        """Sizes in bytes, by the path as the probe has it, of the files that must grow, when the round began."""

    def log_matches(self, process: str, regex: str) -> int:
        """How many lines that a process printed match. KeyError for a process that nobody knows."""

    def log_lines(self, process: str) -> Iterable[str]:
        """The lines that a process printed last, freed of secrets."""

    def census(self) -> Census:
        """Who is alive now in the trees of the round."""

    def acks(self) -> Path:
        """The ledger: a file with a line `ack ID` per acknowledgement."""

    def heartbeat_path(self, process: str) -> Path:
        """Where a process puts its heartbeat when the experiment does not say: its `CROUPIER_HEARTBEAT`."""

    def heartbeat_seen_ms(self, path: Path) -> float | None:
        """How long ago the last datagram came in on the heartbeat socket at this path; None if none has yet."""

    def run_command(
        self,
        argv: tuple[str, ...],
        within_ms: int,
        env: Mapping[str, str],
        keep_bytes: int = KEEP_BYTES,
        network: str = "",
    ) -> Finished:
        """Run an argument list in `cwd`, with `env` on top of the environment; its tree ends with it or its time.

        `network` is the name of a network of the round to run it in, as a member of its own; by default the host's.
        """
