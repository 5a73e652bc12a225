"""The verb *store*: runs on disk. The only writer of the wire formats `plan.json`, `journal.jsonl`, `verdict.json`."""

from .journal import JournalWriter, read_journal
from .runs import RunDir, StoredRun, find_run, list_runs, new_run_dir

__all__ = ["JournalWriter", "RunDir", "StoredRun", "find_run", "list_runs", "new_run_dir", "read_journal"]
