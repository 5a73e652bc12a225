"""The probe *command*: a command ends with the exit code; the last line it printed is the reason when it does not."""

from __future__ import annotations

from ..model.probe import Command, Reading
from ..system.commands import Finished
from .answer import answering, no, unknown, yes
from .view import View


@answering
def read(probe: Command, view: View) -> Reading:
    """Run it, and compare how it ended. Its time is part of what was asked, so a command that hangs does not hold."""
    ended = view.run_command(probe.run, probe.within_ms, {**view.env, **probe.env}, network=probe.network)
    said = last_line(ended)
    if ended.failed:
        return unknown(f"it could not be started: {ended.failed}")
    if ended.timed_out:
        return no(f"it did not end within {probe.within_ms}, and was ended{_after(said)}", output=ended.output)
    if ended.signal:
        return unknown(f"it was ended by signal {ended.signal} before it could say{_after(said)}")
    if ended.code != probe.exit:
        reason = said or "it printed nothing"
        wanted = "" if probe.exit == 0 else f" instead of {probe.exit}"
        return no(f"{reason} (exit code {ended.code}{wanted})", code=ended.code, output=ended.output)
    return yes(said or f"exit code {ended.code}", code=ended.code, output=ended.output)


def _after(said: str) -> str:
    return f"; its last line: {said}" if said else ""


def last_line(ended: Finished) -> str:
    """The last line with anything on it."""
    return next((line.strip() for line in reversed(ended.output.splitlines()) if line.strip()), "")
