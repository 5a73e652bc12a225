"""Thin hands on the operating system: processes, signals, commands, the kernel's switches. No rules live here."""
