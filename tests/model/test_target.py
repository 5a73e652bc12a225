"""Who is meant: every criterion, what is taken out again, and how many are drawn in which order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from croupier.model.experiment import Limits
from croupier.model.fault import Kill
from croupier.model.guard import Permit, Refusal, Standing, consider
from croupier.model.plan import At, Injection
from croupier.model.target import (
    Census,
    Cmdline,
    Identity,
    Seen,
    Selector,
    choose,
    columns,
    descendants,
    matches,
)
from croupier.model.units import Ms, Percent, read_quantity


def seen(pid: int, **changes: Any) -> Seen:
    plain = Seen(
        identity=Identity(pid=pid, started=pid, boot="b"), parent=1, name="python", state="S", order=pid, ours=True
    )
    return msgspec.structs.replace(plain, **changes)


MASTER = seen(
    10,
    name="gunicorn",
    role="web",
    main=True,
    age_ms=9_000,
    exe="/usr/bin/python3.11",
    cmdline=("gunicorn", "--bind", "127.0.0.1:80", "notes:app"),
    user="www",
    cgroup=("/system.slice/web.service", "/x/y"),
    env=("HOME=/srv", "CROUPIER_RUN=r1"),
    ports=(80, 443),
)
WORKER_1 = seen(11, parent=10, name="gunicorn", role="web", age_ms=8_000, user="www", ports=(80,), env=("A=1",))
WORKER_2 = seen(12, parent=10, name="gunicorn", role="web", age_ms=3_000, user="www", ports=(80,), env=("A=2",))
GRANDCHILD = seen(13, parent=12, name="sh", role="web", age_ms=1_000)
REDIS = seen(20, name="redis-server", role="db", main=True, age_ms=5_000, exe="/usr/bin/redis-server", user="redis")
STRANGER = seen(30, name="postgres", ours=False, cmdline=("postgres: writer",), user="postgres", age_ms=99_000)
CENSUS: Census = (STRANGER, GRANDCHILD, REDIS, WORKER_2, MASTER, WORKER_1)


def pids(found: Census) -> list[int]:
    return [one.pid for one in found]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        (Selector(), [30, 20, 10, 11, 12, 13]),
        (Selector(process="web"), [10]),
        (Selector(process="web", pick="main"), [10]),
        (Selector(process="web", pick="children"), [11, 12, 13]),
        (Selector(process="web", pick="tree"), [10, 11, 12, 13]),
        (Selector(process="web", name="sh"), [13]),
        (Selector(process="web", name="gunicorn", pick="main"), [10]),
        (Selector(process="nobody"), []),
        (Selector(name="gunicorn"), [10, 11, 12]),
        (Selector(name="g*"), [10, 11, 12]),
        (Selector(name="G*"), []),
        (Selector(name="[rp]*"), [30, 20]),
        (Selector(exe="/usr/bin/python*"), [10]),
        (Selector(cmdline=Cmdline(exact="postgres: writer")), [30]),
        (Selector(cmdline=Cmdline(exact="postgres")), []),
        (Selector(cmdline=Cmdline(glob="*notes:app")), [10]),
        (Selector(cmdline=Cmdline(regex=r"--bind 127\.\S+:80\b")), [10]),
        (Selector(cmdline=Cmdline(regex="^writer")), []),
        (Selector(cmdline=Cmdline(regex="postgres", glob="*app")), []),
        (Selector(pid=12), [12]),
        (Selector(pid=99), []),
        (Selector(parent=10), [11, 12]),
        (Selector(tree=10), [10, 11, 12, 13]),
        (Selector(tree=12), [12, 13]),
        (Selector(tree=99), []),
        (Selector(user="redis"), [20]),
        (Selector(port=80), [10, 11, 12]),
        (Selector(port=443), [10]),
        (Selector(cgroup="/system.slice/*"), [10]),
        (Selector(cgroup="/system.slice"), [10]),
        (Selector(cgroup="/x/y/"), [10]),
        (Selector(cgroup="/system.sl"), []),
        (Selector(cgroup="/"), []),
        (Selector(unit="web.service"), []),
        (Selector(container="web"), []),
        (Selector(env="CROUPIER_RUN"), [10]),
        (Selector(env="CROUPIER_RUN=r1"), [10]),
        (Selector(env="CROUPIER_RUN=r"), []),
        (Selector(env="A"), [11, 12]),
        (Selector(env="A=2"), [12]),
        (Selector(env="CROUPIER"), []),
        (Selector(older_than_ms=Ms(5_000)), [30, 10, 11]),
        (Selector(younger_than_ms=Ms(5_000)), [12, 13]),
        (Selector(older_than_ms=Ms(2_000), younger_than_ms=Ms(8_500)), [20, 11, 12]),
        (Selector(pid_file="/run/web.pid"), []),
        (Selector(name="gunicorn", port=443), [10]),
    ],
)
def test_a_selector_finds_whom_every_criterion_means(selector, found):
    assert pids(matches(selector, CENSUS)) == found


@pytest.mark.parametrize(
    ("exclude", "found"),
    [
        ((Selector(pid=11),), [10, 12, 13]),
        ((Selector(process="web", pick="children"),), [10]),
        ((Selector(tree=12),), [10, 11]),
        ((Selector(pid=11), Selector(name="sh")), [10, 12]),
        ((Selector(name="g*", exclude=(Selector(pid=12),)),), [12, 13]),
        ((Selector(name="gunicorn", order="newest", count=1),), [13]),
        ((Selector(),), []),
    ],
)
def test_what_is_excluded_is_taken_out_again(exclude, found):
    selector = Selector(process="web", pick="tree", exclude=exclude)
    assert pids(matches(selector, CENSUS)) == found


def test_a_column_that_could_not_be_read_matches_nobody():
    blind = seen(40)
    for selector in (
        Selector(unit="u.service"), Selector(user_unit="u.service"), Selector(container="c"),
        Selector(exe="*"), Selector(user="www"), Selector(cgroup="*"), Selector(env="A"), Selector(port=80),
        Selector(cmdline=Cmdline(glob="*")),
    ):  # fmt: skip
        assert matches(selector, (blind,)) == ()


def test_who_might_be_excluded_is_excluded_where_it_could_not_be_read():
    blind, other = seen(40), seen(41, exe="/bin/other", env=())
    for exclude in (Selector(exe="/bin/precious"), Selector(env="PRECIOUS")):
        assert matches(Selector(exclude=(exclude,)), (blind, other)) == (other,)
    assert matches(Selector(exclude=(Selector(pid_file="/run/precious.pid"),)), (blind, other)) == ()


@given(st.permutations(CENSUS))
def test_the_order_of_a_census_does_not_matter(census):
    everybody = matches(Selector(), tuple(census))
    assert pids(everybody) == [30, 20, 10, 11, 12, 13]
    wheel = Selector(count=3)
    assert choose(wheel, everybody, lot=7) == choose(wheel, matches(wheel, CENSUS), lot=7)


@given(st.integers(0, 2**64 - 1), st.integers(1, 30), st.integers(1, 1_000))
def test_the_same_lot_takes_the_same_rank_whoever_is_there(lot, count, shift):
    first = tuple(seen(pid, role="web") for pid in range(100, 100 + count))
    second = tuple(seen(pid + shift, role="web") for pid in range(100, 100 + count))
    wheel = Selector(count=2)
    ranks = [[there.index(one) for one in choose(wheel, there, lot)] for there in (first, second)]
    assert ranks[0] == ranks[1]


def test_different_lots_reach_everybody():
    wheel = matches(Selector(process="web", pick="children"), CENSUS)
    assert {choose(Selector(), wheel, lot)[0].pid for lot in range(50)} == {11, 12, 13}


@pytest.mark.parametrize(
    ("there", "percent", "taken"),
    [(3, 50, 2), (3, 34, 2), (3, 33, 1), (4, 25, 1), (4, 26, 2), (1, 1, 1), (100, 1, 1), (7, 100, 7), (200, 99, 198)],
)
def test_a_share_is_rounded_up(there, percent, taken):
    wheel = tuple(seen(pid) for pid in range(there))
    assert len(choose(Selector(percent=Percent(percent)), wheel, lot=0)) == taken


def test_as_many_are_taken_as_asked_for_and_one_by_default():
    wheel = matches(Selector(process="web", pick="tree"), CENSUS)
    taken = {count: len(choose(Selector(count=count), wheel, lot=1)) for count in (None, 1, 3, 99, "all")}
    assert taken == {None: 1, 1: 1, 3: 3, 99: 4, "all": 4}
    assert choose(Selector(count=0), wheel, lot=1) == ()
    assert choose(Selector(count="all"), (), lot=1) == ()


@pytest.mark.parametrize("count", ["0", "-1", '"some"', "true"])
def test_a_count_that_takes_nobody_is_refused_where_it_is_written(count):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(f'{{"count": {count}}}', type=Selector, dec_hook=read_quantity)


def test_newest_and_oldest_leave_nothing_to_the_lot():
    wheel = matches(Selector(process="web", pick="tree"), CENSUS)
    for lot in range(20):
        assert pids(choose(Selector(order="newest", count=2), wheel, lot)) == [13, 12]
        assert pids(choose(Selector(order="oldest", count=2), wheel, lot)) == [10, 11]


def test_nobody_is_taken_twice():
    wheel = tuple(seen(pid) for pid in range(20))
    for lot in range(50):
        taken = choose(Selector(count=10), wheel, lot)
        assert len(set(pids(taken))) == 10


def test_protected_processes_are_found_and_it_is_the_guard_that_spares_them():
    init = seen(1, name="systemd", protected="PID 1 keeps the machine up")
    assert matches(Selector(name="systemd"), (init,)) == (init,)
    injection = Injection(number=1, trigger=At(at_ms=0), fault=Kill(), target=Selector(), lot=0)
    refusal = consider(injection, (init,), Limits(), Standing(now_ms=0))
    assert isinstance(refusal, Refusal)
    permit = consider(injection, (init, seen(50)), Limits(), Standing(now_ms=0))
    assert isinstance(permit, Permit) and pids(permit.targets) == [50]


def test_descendants_are_everything_below_even_where_parents_go_in_a_circle():
    assert descendants(10, CENSUS) == {11, 12, 13}
    assert descendants(13, CENSUS) == set()
    circle = (seen(1, parent=2), seen(2, parent=1))
    assert descendants(1, circle) == {1, 2}


def test_a_census_reads_only_the_costly_columns_that_somebody_asks_for():
    assert columns([Selector(process="web", name="x", pid=1, older_than_ms=Ms(1))]) == frozenset()
    asked = Selector(
        exe="*", user="u", cgroup="c", env="E", port=1, exclude=(Selector(exclude=(Selector(cmdline=Cmdline()),)),)
    )
    assert columns([asked]) == {"exe", "user", "cgroup", "env", "ports", "cmdline"}


def test_a_selector_reads_like_a_sentence():
    assert str(Selector()) == "any process"
    assert str(Selector(process="web")) == "web"
    assert str(Selector(process="web", pick="children", count=2)) == "web's children, count 2"
    assert str(Selector(name="py*", older_than_ms=Ms(2_000))) == "name py*, older_than 2s"


def test_a_process_is_named_by_role_and_number():
    assert [str(one) for one in (MASTER, WORKER_1, STRANGER)] == [
        "web (pid 10)", "web/gunicorn (pid 11)", "postgres (pid 30)",
    ]  # fmt: skip


def test_a_number_that_was_handed_out_again_is_somebody_else():
    assert Identity(pid=7, started=1, boot="b") != Identity(pid=7, started=2, boot="b")
    assert Identity(pid=7, started=1, boot="b") != Identity(pid=7, started=1, boot="c")


def test_thousands_of_processes_are_searched_by_tree_in_no_time():
    # Each below the one before: with a walk per process this would be twelve million steps.
    line = tuple(seen(pid, parent=pid - 1) for pid in range(1, 5_001))
    assert len(matches(Selector(tree=1), line)) == 5_000


def test_only_one_cgroup_that_is_named_whole_is_a_group() -> None:
    said = {"/a/b": "/a/b", "/a/b/": "/a/b", "/": "", "/a/*": "", "a/b": "", "": ""}
    assert {path: Selector(cgroup=path).group for path in said} == said
    assert Selector(name="x").group == ""


def test_what_is_asked_of_somebody_else_needs_the_column_of_cgroups() -> None:
    for one in (Selector(unit="a.service"), Selector(user_unit="a.service"), Selector(container="a")):
        assert columns([one]) == {"cgroup"}
