"""What each model says that a power cut may leave, on logs whose answers are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from croupier.model.power import Entry, power_states, whole_state
from croupier.model.search import Operation

MODELS = ("ext4-ordered", "posix-strict")


def a_log(*calls):
    """Operations from short words: ("write", "notes", "d1", 100), ("rename", "a", "b"), ("fsync", "."), ("ack",)."""
    operations = []
    for index, (call, *rest) in enumerate(calls, start=1):
        if call in ("write", "dwrite"):
            path, data, length, *at = rest
            operations.append(
                Operation(
                    index=index, call="pwrite64", kind="write", path=path, data=data, length=length,
                    offset=at[0] if at else 0, sync=call == "dwrite",
                )
            )  # fmt: skip
        elif call in ("rename", "link", "symlink"):
            operations.append(Operation(index=index, call=call, kind=call, path=rest[0], path2=rest[1]))
        elif call in ("fsync", "fdatasync"):
            operations.append(Operation(index=index, call=call, kind="sync", path=rest[0]))
        elif call == "sync":
            operations.append(Operation(index=index, call=call, kind="sync"))
        elif call == "ack":
            operations.append(Operation(index=index, call="write", kind="output", length=6))
        elif call == "truncate":
            operations.append(Operation(index=index, call=call, kind=call, path=rest[0], length=rest[1]))
        else:
            operations.append(Operation(index=index, call=call, kind=call, path=rest[0]))
    return operations


OLD = {"notes": Entry(kind="file", size=100)}


def read(state, path):
    """The bytes of a file as words: where each came from."""
    entry = state.entries.get(path)
    if entry is None:
        return None
    if entry.base:
        return f"old:{entry.size}"
    said = [f"{one.data}[{one.start}:{one.start + one.length}]@{one.offset}" for one in entry.pieces]
    return " ".join(said) or f"zeros:{entry.size}"


def left(operations, model, path="notes", initial=OLD, after=None):
    """Everything that may be at a path once all operations are done."""
    end = len(operations) if after is None else after
    found = power_states(operations, model, initial=initial, points=[end])
    return {read(one, path) for one in found.states}


SAFE = a_log(
    ("create", "tmp"), ("write", "tmp", "new", 120), ("fsync", "tmp"), ("rename", "tmp", "notes"), ("fsync", "."),
    ("ack",),
)  # fmt: skip
NEW = "new[0:120]@0"


@pytest.mark.parametrize("model", MODELS)
def test_write_sync_rename_sync_directory_loses_nothing_acknowledged(model):
    assert left(SAFE, model) == {NEW}


@pytest.mark.parametrize("model", MODELS)
def test_write_sync_rename_sync_directory_leaves_the_old_or_the_new_at_every_moment(model):
    for after in range(len(SAFE) + 1):
        assert left(SAFE, model, after=after) <= {"old:100", NEW}


@pytest.mark.parametrize("model", MODELS)
def test_without_the_sync_of_the_directory_the_last_save_may_be_lost(model):
    log = a_log(("create", "tmp"), ("write", "tmp", "new", 120), ("fsync", "tmp"), ("rename", "tmp", "notes"), ("ack",))
    assert left(log, model) == {"old:100", NEW}


def test_a_rename_over_a_file_flushes_its_bytes_on_ext4_and_not_by_posix():
    log = a_log(("create", "tmp"), ("write", "tmp", "new", 120), ("rename", "tmp", "notes"), ("fsync", "."))
    assert left(log, "ext4-ordered") == {NEW}
    assert left(log, "posix-strict") == {NEW, "zeros:0"}


def test_a_rename_to_a_new_name_flushes_nothing():
    log = a_log(("create", "tmp"), ("write", "tmp", "new", 120), ("rename", "tmp", "notes"), ("fsync", "."))
    assert left(log, "ext4-ordered", initial={}) == {NEW, "zeros:0", "zeros:120", "new[0:60]@0"}


@pytest.mark.parametrize("model", MODELS)
def test_a_file_that_is_emptied_and_rewritten_may_stay_empty(model):
    log = a_log(("open-trunc", "notes"), ("write", "notes", "new", 120), ("ack",))
    assert {"old:100", "zeros:0", NEW} <= left(log, model)


@pytest.mark.parametrize("model", MODELS)
def test_bytes_written_synchronously_are_never_lost(model):
    log = a_log(("dwrite", "notes", "page", 50, 0), ("ack",))
    assert left(log, model) == {"page[0:50]@0 base:notes[50:100]@50"}


@pytest.mark.parametrize("model", MODELS)
def test_appended_bytes_without_a_sync_are_lost_and_with_one_are_kept(model):
    appended = "base:notes[0:100]@0 more[0:10]@100"
    assert "old:100" in left(a_log(("write", "notes", "more", 10, 100), ("ack",)), model)
    synced = a_log(("write", "notes", "more", 10, 100), ("fdatasync", "notes"), ("ack",))
    assert left(synced, model) == {appended}


def test_a_journal_that_is_removed_without_a_sync_may_be_there_again():
    log = a_log(
        ("create", "db-journal"), ("write", "db-journal", "undo", 20), ("fsync", "db-journal"), ("fsync", "."),
        ("write", "notes", "page", 100), ("fdatasync", "notes"), ("unlink", "db-journal"), ("ack",),
    )  # fmt: skip
    for model in MODELS:
        assert left(log, model, path="db-journal") == {None, "undo[0:20]@0"}
        assert left(log, model, path="notes") == {"page[0:100]@0"}


def test_fsync_of_any_file_commits_earlier_names_on_ext4_and_not_by_posix():
    log = a_log(("create", "other"), ("rename", "notes", "kept"), ("write", "other", "x", 1), ("fsync", "other"))
    assert left(log, "ext4-ordered", path="kept") == {"old:100"}
    assert left(log, "posix-strict", path="kept") == {"old:100", None}


def test_fdatasync_of_bytes_in_place_commits_no_names():
    log = a_log(("rename", "notes", "kept"), ("write", "db", "x", 10), ("fdatasync", "db"))
    state = {**OLD, "db": Entry(kind="file", size=10)}
    assert left(log, "ext4-ordered", path="kept", initial=state) == {"old:100", None}
    assert left(log, "ext4-ordered", path="db", initial=state) == {"x[0:10]@0"}


def test_names_reach_the_disk_in_order_on_ext4_and_in_any_order_by_posix():
    log = a_log(("create", "first"), ("create", "second"))
    both = {(one.entries.keys() >= {"first"}, one.entries.keys() >= {"second"})
            for one in power_states(log, "ext4-ordered").states}  # fmt: skip
    assert both == {(False, False), (True, False), (True, True)}
    strict = {(one.entries.keys() >= {"first"}, one.entries.keys() >= {"second"})
              for one in power_states(log, "posix-strict").states}  # fmt: skip
    assert strict == both | {(False, True)}


def test_a_sync_of_everything_makes_everything_durable():
    log = a_log(("mkdir", "d"), ("create", "d/f"), ("write", "d/f", "x", 3), ("sync",), ("ack",))
    for model in MODELS:
        found = power_states(log, model, points=[5])
        assert [set(one.entries) for one in found.states] == [{"d", "d/f"}]


def test_what_was_lost_is_said_in_words():
    log = a_log(("create", "tmp"), ("write", "tmp", "new", 120), ("rename", "tmp", "notes"))
    said = {one.lost for one in power_states(log, "posix-strict", initial=OLD, points=[3]).states}
    assert () in said
    assert ("lost: 120 bytes at 0 of tmp (pwrite64, operation 2)",) in said


def test_a_small_budget_reaches_every_part_of_the_workload_and_counts_what_it_left():
    calls = []
    for nth in range(50):
        calls += [("create", f"f{nth}"), ("write", f"f{nth}", f"d{nth}", 10), ("ack",)]
    found = power_states(a_log(*calls), "ext4-ordered", budget=20)
    assert len(found.states) == 20
    assert found.left_out > 1000
    # The beginning of the order is spread: the last quarter of the workload has its share.
    assert sum(one.after > 112 for one in found.states) >= 3


def test_a_state_is_told_once_unless_something_was_acknowledged_between():
    log = a_log(("create", "a"), ("fsync", "a"), ("chmod", "a"), ("ack",))
    log[2] = Operation(index=3, call="chmod", kind="attr", path="a")
    found = power_states(log, "ext4-ordered")
    assert [(one.after, set(one.entries)) for one in found.states if one.after >= 1].count((2, {"a"})) <= 1
    assert (4, {"a"}) in [(one.after, set(one.entries)) for one in found.states]


def test_failed_calls_and_paths_outside_change_nothing():
    log = a_log(("unlink", "notes"), ("create", "/etc/x"))
    log = [Operation(index=1, call="unlink", kind="unlink", path="notes", result=-13),
           Operation(index=2, call="open", kind="create", path="/etc/x", outside=True)]  # fmt: skip
    assert set(whole_state(log, OLD)) == {"notes"}


def test_hard_links_are_one_file_and_an_exchange_swaps_two():
    log = a_log(("link", "notes", "same"), ("write", "same", "x", 5))
    state = whole_state(log, OLD)
    assert state["notes"].pieces == state["same"].pieces and state["notes"].inode == state["same"].inode
    swap = [Operation(index=1, call="renameat2", kind="rename", path="a", path2="b", flags=2)]
    swapped = whole_state(swap, {"a": Entry(kind="file", size=1), "b": Entry(kind="file", size=2)})
    assert (swapped["a"].size, swapped["b"].size) == (2, 1)


def test_a_directory_is_moved_with_what_is_in_it():
    log = a_log(("mkdir", "d"), ("create", "d/f"), ("write", "d/f", "x", 5), ("rename", "d", "e"))
    assert set(whole_state(log)) == {"e", "e/f"}


PATHS = st.sampled_from(["a", "b", "c"])
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), PATHS),
        st.tuples(st.just("open-trunc"), PATHS),
        st.tuples(st.just("write"), PATHS, st.sampled_from(["d1", "d2"]), st.integers(1, 9000), st.integers(0, 5000)),
        st.tuples(st.just("dwrite"), PATHS, st.just("d3"), st.integers(1, 50)),
        st.tuples(st.just("rename"), PATHS, PATHS),
        st.tuples(st.just("link"), PATHS, PATHS),
        st.tuples(st.just("unlink"), PATHS),
        st.tuples(st.just("truncate"), PATHS, st.integers(0, 9000)),
        st.tuples(st.sampled_from(["fsync", "fdatasync"]), PATHS),
        st.tuples(st.just("fsync"), st.just(".")),
        st.tuples(st.just("ack")),
    ),
    max_size=12,
)


@given(CALLS, st.sampled_from(MODELS))
def test_every_crash_point_may_also_lose_nothing(calls, model):
    log = a_log(*calls)
    for after in range(len(log) + 1):
        found = power_states(log, model, points=[after])
        assert found.states[0].entries == whole_state(log[:after])
        assert found.states[0].lost == ()


@given(CALLS, st.sampled_from(MODELS))
def test_after_a_sync_of_everything_there_is_one_state(calls, model):
    log = a_log(*calls, ("sync",), ("ack",))
    found = power_states(log, model, points=[len(log)])
    assert len(found.states) == 1


@given(CALLS, st.sampled_from(MODELS), st.integers(1, 30))
def test_a_budget_is_kept_and_only_leaves_states_out(calls, model, budget):
    log = a_log(*calls)
    some, every = power_states(log, model, budget=budget), power_states(log, model)
    assert len(some.states) == min(budget, len(every.states))
    assert [one.digest for one in some.states] == [one.digest for one in every.states[:budget]]


@given(CALLS, st.sampled_from(MODELS))
def test_pieces_never_overlap_and_stay_inside_of_their_file(calls, model):
    for state in power_states(a_log(*calls), model).states:
        for entry in state.entries.values():
            end = 0
            for piece in entry.pieces:
                assert piece.offset >= end and piece.length > 0
                end = piece.offset + piece.length
            assert end <= entry.size
