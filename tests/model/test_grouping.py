"""Findings with one cause are told as one, in words."""

from __future__ import annotations

from croupier.model.grouping import Failing, group_findings, shape
from croupier.model.search import CrashPoint, Operation, point_id


def a_log(*calls):
    return [
        Operation(index=nth, call=kind, kind=kind, path=path, path2=(rest or ("",))[0], length=10)
        for nth, (kind, path, *rest) in enumerate(calls, start=1)
    ]


def searched(operations, failing, *, reason="lost", cuts=()):
    """All crash points of a log, of which those in `failing` fail; `cuts` are torn points that fail."""
    order = [CrashPoint(id=point_id(after), after=after, state=str(after)) for after in range(len(operations) + 1)]
    torn = [CrashPoint(id=point_id(after, cut=cut), after=after, cut=cut, state="t") for after, cut in cuts]
    found = [Failing(point=one, reason=reason) for one in (*order, *torn) if one.after in failing or one.cut]
    return group_findings(found, [*order, *torn], operations)


SAVE = (("open-trunc", "notes.json"), ("write", "notes.json"), ("output", ""))


def test_a_file_that_is_emptied_first_is_one_group_however_often_it_is_saved():
    groups = searched(a_log(*SAVE, *SAVE, *SAVE), {1, 4, 7})
    assert [(one.count, one.first) for one in groups] == [(3, "k0001")]
    assert (
        groups[0].cause == "`notes.json` is emptied before it is written again: a crash between leaves it empty or cut"
    )
    assert "fsync" in groups[0].fix and groups[0].link.startswith("https://")


def test_neighbouring_findings_belong_to_what_opened_the_stretch_and_what_closed_it():
    tx = (("create", "a.db-journal"), ("write", "a.db"), ("unlink", "a.db-journal"))
    groups = searched(a_log(*tx, *tx, ("output", "")), {3, 4, 5})
    assert [(one.count, one.pattern) for one in groups] == [(3, "unlink a.db-journal ⟶ unlink a.db-journal")]
    assert "more than one transaction" in groups[0].cause


def test_an_acknowledgement_that_comes_too_early_is_said():
    groups = searched(a_log(("output", ""), ("write", "log")), {1})
    assert groups[0].cause.startswith("it is acknowledged before `write log`")


def test_a_torn_write_between_two_good_states_is_a_cause_of_its_own():
    groups = searched(a_log(("write", "log"), ("output", "")), set(), cuts=[(0, 1), (0, 4096)])
    assert [(one.count, one.pattern) for one in groups] == [(2, "torn: write log")]


def test_the_old_one_removed_before_the_new_one_is_in_place():
    groups = searched(a_log(("unlink", "db"), ("rename", "db.tmp", "db")), {1})
    assert groups[0].cause == "`db` is removed before the new one has its place: a crash between leaves none"


def test_writes_in_place_to_a_database_without_a_journal_name_the_journal():
    groups = searched(a_log(("write", "a.db"), ("write", "a.db")), {1})
    assert "no journal on disk" in groups[0].cause and "journal_mode" in groups[0].fix


def test_a_check_that_fails_before_anything_was_done_is_said_to():
    groups = searched(a_log(("mkdir", "d"), ("write", "d/f")), {0, 1})
    assert "before the workload has done anything" in groups[0].cause


def test_random_names_do_not_make_groups():
    assert shape("tmpk3x_9aab/part-17.json") == "tmp*/part-*.json"
    assert shape("notes.json") == "notes.json"
    one = (("create", "tmpaaaaaaaa"), ("write", "tmpaaaaaaaa"), ("rename", "tmpaaaaaaaa", "f"), ("unlink", "g"))
    two = (("create", "tmpbbbbbbb1"), ("write", "tmpbbbbbbb1"), ("rename", "tmpbbbbbbb1", "f"), ("unlink", "g"))
    assert len(searched(a_log(*one, *two), {3, 7})) == 1


def test_a_power_cut_is_grouped_by_the_smallest_loss_that_fails():
    operations = a_log(("create", "t"), ("write", "t"), ("rename", "t", "f"), ("output", ""))
    content, name = "lost: 10 bytes at 0 of t (write, operation 2)", "lost: rename t → f (operation 3)"

    def lost(number, *words):
        return Failing(
            point=CrashPoint(id=point_id(4, power=number), after=4, state=str(number), model="power", lost=words),
            reason="gone",
        )

    failing = [lost(1, content, name), lost(2, content), lost(3, name)]
    groups = group_findings(failing, [one.point for one in failing], operations)
    assert sorted(one.count for one in groups) == [1, 2]
    causes = {one.cause for one in groups}
    assert any("the rename to `f` is on disk before the bytes of `t`" in one for one in causes)
    assert any("the directory was not synced after `rename t → f`" in one for one in causes)


def test_every_finding_is_in_exactly_one_group():
    groups = searched(a_log(*SAVE, ("unlink", "x"), *SAVE), {1, 3, 4, 5, 7})
    ids = [point for one in groups for point in one.points]
    assert sorted(ids) == ["k0001", "k0003", "k0004", "k0005", "k0007"]
    assert [one.number for one in groups] == list(range(1, len(groups) + 1))
