"""The guard: every limit refuses with its name and a way on, and nothing that is missing lets anything through."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from croupier.model.experiment import Cluster, Experiment, Limits, Window
from croupier.model.fault import Kill
from croupier.model.faults.kubernetes import DeletePod
from croupier.model.guard import Absent, Below, Permit, Refusal, Standing, consider, default_time_box_ms, is_open
from croupier.model.plan import At, Injection
from croupier.model.target import Cmdline, Identity, Seen, Selector
from croupier.model.units import Ms, Rate


def seen(pid: int, **changes: Any) -> Seen:
    plain = Seen(
        identity=Identity(pid=pid, started=pid, boot="b"), parent=1, name="python", state="S", order=pid, role="web"
    )
    return msgspec.structs.replace(plain, **{"ours": True, **changes})


MAIN = seen(10, main=True)
CHILDREN = (seen(11), seen(12), seen(13))
OURS = (MAIN, *CHILDREN)
STRANGER = seen(30, role="", name="postgres", ours=False)
EVERY_DAY = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def an_injection(target: Selector | None = None, lot: int = 0) -> Injection:
    return Injection(
        number=1, trigger=At(at_ms=0), fault=Kill(), target=target or Selector(process="web", pick="tree"), lot=lot
    )


def ask(*, target: Selector | None = None, census: Any = OURS, lot: int = 0, **how: Any) -> Any:
    limits = how.pop("limits", Limits())
    return consider(an_injection(target, lot), census, limits, Standing(**{"now_ms": 100_000, **how}))


def refused(answer: Any) -> str:
    assert isinstance(answer, Refusal), answer
    assert answer.reason
    return answer.limit


def ask_cluster(allowed: Cluster, **how: Any) -> Any:
    fault = DeletePod(context="staging", namespace=how.pop("namespace", "shop"), pod="web-0")
    injection = msgspec.structs.replace(an_injection(), fault=fault)
    return consider(injection, OURS, Limits(cluster=allowed), Standing(now_ms=0, **{"live": True, **how}))


def test_what_a_fault_reaches_beyond_this_machine_has_to_be_named_one_by_one():
    named = Cluster(contexts=("staging",), namespaces=("shop",))
    assert isinstance(ask_cluster(named), Permit)
    assert refused(ask_cluster(named, live=False)) == "live"
    for missing in (Cluster(), Cluster(contexts=("staging",)), Cluster(namespaces=("shop",)),
                    Cluster(contexts=("*",), namespaces=("*",))):  # fmt: skip
        assert refused(ask_cluster(missing)) == "cluster"
    system = Cluster(contexts=("staging",), namespaces=("kube-system",))
    assert refused(ask_cluster(system, namespace="kube-system")) == "protected"


# Permits


def test_a_permit_names_whom_it_is_for_and_their_rank():
    permit = ask(target=Selector(process="web", pick="children", count=2))
    assert isinstance(permit, Permit)
    assert permit.injection.number == 1
    assert set(permit.targets) <= set(CHILDREN)
    assert permit.ranks == tuple((CHILDREN.index(one), 3) for one in permit.targets)


def test_only_the_guard_makes_permits():
    with pytest.raises(TypeError, match="only the guard"):
        Permit(object(), an_injection(), OURS, (), Limits(), Standing(now_ms=0))
    with pytest.raises(TypeError, match="only the guard"):
        Permit(None, an_injection(), OURS, (), Limits(), Standing(now_ms=0))


def test_a_permit_cannot_be_widened():
    permit = ask()
    for name in ("targets", "injection", "ranks", "anything"):
        with pytest.raises(AttributeError):
            setattr(permit, name, OURS)
    assert not [name for name in Permit.__slots__ if "seal" in name]


def below_main(*members: Seen, **how: Any) -> Below:
    permit = ask(target=Selector(process="web"), census=(MAIN,), **how)
    assert isinstance(permit, Permit)
    return permit.below(MAIN.identity, (MAIN, *members))


def test_whoever_is_below_a_target_meets_the_same_limits_as_the_target():
    plain, secret, init = (
        seen(21, parent=10),
        seen(22, parent=21, name="secret"),
        seen(23, parent=21, protected="it is PID 1"),
    )
    below = below_main(plain, secret, init, limits=Limits(deny=("secret",)))
    assert below.free == (plain,)
    assert {who.pid: why.limit for who, why in below.barred} == {22: "deny", 23: "protected"}


def test_below_the_main_process_of_a_name_is_everybody_of_that_name_whoever_their_parent_is():
    beside, denied = seen(25), seen(26, name="secret")
    other = seen(27, role="db")
    below = below_main(beside, denied, other, limits=Limits(deny=("secret",)))
    assert below.free == (beside,)
    assert [who.pid for who, _ in below.barred] == [26]
    permit = ask(target=Selector(pid=11))
    assert permit.below(CHILDREN[0].identity, (MAIN, *CHILDREN, beside)) == Below()


def test_whoever_is_below_a_target_has_to_be_allowed_where_a_list_says_who_is():
    named, unnamed = seen(21, parent=10, name="worker"), seen(22, parent=10, name="other", role="")
    below = below_main(named, unnamed, limits=Limits(allow=("web",)))
    assert (below.free, [why.limit for _, why in below.barred]) == ((named,), ["allow"])
    foreign = below_main(seen(24, parent=10, ours=False))
    assert (foreign.free, [why.limit for _, why in foreign.barred]) == ((), ["live"])


def test_a_permit_covers_nobody_below_a_process_that_it_is_not_about():
    permit = ask(target=Selector(process="web"), census=(MAIN,))
    assert permit.below(STRANGER.identity, (MAIN, STRANGER, seen(31, parent=30))) == Below()


def test_a_guard_that_breaks_lets_nobody_below_a_target_through():
    permit = ask(
        target=Selector(process="web"), census=(MAIN,), limits=Limits(deny=(Selector(cmdline=Cmdline(regex="(")),))
    )
    if isinstance(permit, Permit):
        below = permit.below(MAIN.identity, (MAIN, seen(21, parent=10, cmdline=("x",))))
        assert (below.free, [why.limit for _, why in below.barred]) == ((), ["guard"])


def test_nobody_alive_is_absence_and_not_refusal():
    answer = ask(target=Selector(process="db"))
    assert answer == Absent(reason="nobody alive matches: db")
    assert isinstance(ask(census=()), Absent)
    assert isinstance(ask(target=Selector(process="web", count=0)), Absent)


@given(st.integers(0, 2**64 - 1))
def test_the_same_lot_gives_the_same_permit(lot):
    first, second = ask(lot=lot), ask(lot=lot, census=tuple(reversed(OURS)))
    assert (first.targets, first.ranks) == (second.targets, second.ranks)


# The moment


def test_a_halted_round_permits_nothing():
    assert refused(ask(halted=True)) == "halt"


def test_the_number_of_injections_is_a_limit():
    limits = Limits(injections=2)
    assert isinstance(ask(limits=limits, acted_ms=(1,)), Permit)
    answer = ask(limits=limits, acted_ms=(1, 2))
    assert refused(answer) == "injections"
    assert answer.hint == "raise limits.injections"
    assert refused(ask(limits=Limits(injections=0))) == "injections"
    assert isinstance(ask(acted_ms=(1,) * 50), Permit)


@pytest.mark.parametrize(
    ("acted", "may"),
    [
        ((), True),
        ((99_000,), True),
        ((95_000, 99_000), False),
        ((90_001, 99_000), False),
        ((90_000, 99_000), True),
        ((1, 2, 3, 4, 5, 99_999), True),
        ((100_000, 100_000), False),
    ],
)
def test_no_window_of_the_rate_holds_more_than_its_count(acted, may):
    answer = ask(limits=Limits(rate=Rate(2, 10_000)), acted_ms=acted)
    assert isinstance(answer, Permit) is may
    if not may:
        assert (refused(answer), answer.hint) == ("rate", "raise limits.rate")


@given(st.lists(st.integers(0, 500), max_size=60), st.integers(0, 4), st.integers(1, 3_000))
def test_permits_never_exceed_the_rate_in_any_window(pauses, count, per_ms):
    acted: tuple[int, ...] = ()
    now_ms = 0
    for pause in pauses:
        now_ms += pause
        answer = ask(limits=Limits(rate=Rate(count, per_ms)), acted_ms=acted, now_ms=now_ms)
        acted = (*acted, now_ms) if isinstance(answer, Permit) else acted
    for end in acted:
        assert sum(end - per_ms < one <= end for one in acted) <= count


def test_only_so_many_faults_hold_at_a_time():
    answer = ask(active=1)
    assert refused(answer) == "concurrent"
    assert "limits.concurrent" in answer.hint
    assert isinstance(ask(active=1, limits=Limits(concurrent=2)), Permit)
    assert refused(ask(active=2, limits=Limits(concurrent=2))) == "concurrent"


@pytest.mark.parametrize(
    ("start", "end", "days", "weekday", "clock", "opened"),
    [
        ("09:00", "17:00", EVERY_DAY, 0, "09:00", True),
        ("09:00", "17:00", EVERY_DAY, 0, "08:59", False),
        ("09:00", "17:00", EVERY_DAY, 0, "16:59", True),
        ("09:00", "17:00", EVERY_DAY, 0, "17:00", False),
        ("09:00", "17:00", ("tue",), 0, "12:00", False),
        ("09:00", "17:00", ("tue",), 1, "12:00", True),
        ("00:00", "24:00", ("sun",), 6, "23:59", True),
        ("22:00", "02:00", ("fri",), 4, "22:00", True),
        ("22:00", "02:00", ("fri",), 4, "21:59", False),
        ("22:00", "02:00", ("fri",), 5, "01:59", True),
        ("22:00", "02:00", ("fri",), 5, "02:00", False),
        ("22:00", "02:00", ("fri",), 5, "22:30", False),
        ("22:00", "02:00", ("fri",), 4, "01:00", False),
        ("22:00", "02:00", ("sun",), 0, "00:30", True),
        ("22:00", "02:00", ("mon",), 0, "00:30", False),
        ("12:00", "12:00", EVERY_DAY, 0, "12:00", False),
    ],
)
def test_a_window_is_open_on_its_days_and_a_night_belongs_to_the_day_it_began(start, end, days, weekday, clock, opened):
    window = Window(start=start, end=end, days=days)
    minute = int(clock[:2]) * 60 + int(clock[3:])
    assert is_open(window, weekday, minute) is opened
    answer = ask(limits=Limits(window=window), weekday=weekday, minute=minute)
    assert isinstance(answer, Permit) is opened
    if not opened:
        assert refused(answer) == "window"
        assert clock in answer.reason and "limits.window" in answer.hint


@given(st.integers(0, 6), st.integers(0, 1439))
def test_a_window_of_all_day_is_always_open(weekday, minute):
    assert is_open(Window(), weekday, minute)


# Who


def test_protected_processes_are_never_touched_whatever_the_lists_say():
    init = seen(1, protected="PID 1 keeps the machine up")
    answer = ask(census=(init,), limits=Limits(allow=("*",)), live=True)
    assert refused(answer) == "protected"
    assert "PID 1 keeps the machine up" in answer.reason


def test_what_is_denied_is_spared_even_where_it_is_allowed():
    limits = Limits(allow=("web",), deny=("web",))
    answer = ask(limits=limits)
    assert (refused(answer), answer.hint) == ("deny", "see limits.deny; what it cannot read, it denies")
    spare_main = Limits(allow=("*",), deny=(Selector(process="web", pick="main"),))
    for lot in range(20):
        permit = ask(limits=spare_main, lot=lot)
        assert MAIN not in permit.targets
        assert permit.ranks == ((CHILDREN.index(permit.targets[0]), 3),)


def test_where_there_is_an_allow_list_nobody_else_is_touched():
    answer = ask(limits=Limits(allow=("db",)))
    assert (refused(answer), answer.hint) == ("allow", "name it in limits.allow")
    assert isinstance(ask(limits=Limits(allow=("db", "w*"))), Permit)
    only = Limits(allow=(Selector(pid=12),))
    assert [ask(limits=only, lot=lot).targets[0].pid for lot in range(5)] == [12] * 5


def test_lists_name_roles_and_names_by_glob():
    assert refused(ask(limits=Limits(deny=("pyth*",)))) == "deny"
    assert isinstance(ask(limits=Limits(deny=("Pyth*", "we"))), Permit)


def test_what_croupier_did_not_start_needs_live_and_the_allow_list():
    target = Selector(name="postgres")
    allow = Limits(allow=("postgres",))
    asked = {"target": target, "census": (STRANGER,)}
    answer = ask(**asked)
    assert refused(answer) == "live"
    assert "--live" in answer.hint and "limits.allow" in answer.hint
    assert refused(ask(**asked, limits=allow)) == "live"
    assert refused(ask(**asked, live=True)) == "allow"
    assert isinstance(ask(**asked, live=True, limits=allow), Permit)
    deny = Limits(allow=("postgres",), deny=("postgres",))
    assert refused(ask(**asked, live=True, limits=deny)) == "deny"


def test_what_croupier_did_not_start_is_hit_once_unless_more_is_asked_for():
    asked = {"target": Selector(name="postgres"), "census": (STRANGER,), "live": True}
    answer = ask(**asked, limits=Limits(allow=("postgres",)), acted_ms=(1,))
    assert (refused(answer), answer.hint) == ("injections", "set limits.injections")
    assert isinstance(ask(**asked, limits=Limits(allow=("postgres",), injections=2), acted_ms=(1,)), Permit)


def test_strangers_leave_the_wheel_before_the_draw():
    census = (STRANGER, *OURS)
    for lot in range(20):
        permit = ask(target=Selector(), census=census, lot=lot)
        assert STRANGER not in permit.targets
        assert permit.ranks[0][1] == len(OURS)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()), max_size=8),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**64 - 1),
)
def test_no_order_of_things_permits_whom_the_rules_forbid(people, live, has_allow_list, lot):
    census = tuple(
        seen(
            pid, ours=ours, protected="it is" if kept else "", role="denied" if bad else "web", name="ok" if ok else "x"
        )
        for pid, (ours, kept, bad, ok) in enumerate(people, start=10)
    )
    limits = Limits(deny=("denied",), allow=("ok",) if has_allow_list else ())
    answer = ask(target=Selector(count="all"), census=census, live=live, limits=limits, lot=lot)
    for one in answer.targets if isinstance(answer, Permit) else ():
        assert not one.protected and one.role != "denied"
        assert one.ours or (live and one.name == "ok" and has_allow_list)
        assert one.name == "ok" or not has_allow_list


# Fail closed


def test_a_machine_that_cannot_be_read_refuses():
    assert refused(ask(census=None)) == "census"


@pytest.mark.parametrize("clock", [{}, {"weekday": 0}, {"minute": 600}])
def test_a_clock_that_cannot_be_read_refuses_where_there_is_a_window(clock):
    answer = ask(limits=Limits(window=Window(zone="Atlantis/Capital")), **clock)
    assert refused(answer) == "window"
    assert "Atlantis/Capital" in answer.reason
    assert isinstance(ask(**clock), Permit)


def test_a_guard_that_breaks_refuses():
    broken_pattern = Limits(deny=(Selector(cmdline=Cmdline(regex="(")),))
    census = (seen(10, cmdline=("serve",)),)
    assert refused(ask(census=census, limits=broken_pattern)) == "guard"
    assert refused(ask(limits=Limits(window=Window(start="noon")), weekday=0, minute=0)) == "guard"
    assert refused(ask(census=(object(),))) == "guard"


@pytest.mark.parametrize(
    "denied",
    [
        Selector(exe="/usr/bin/precious"),
        Selector(env="PRECIOUS"),
        Selector(user="root"),
        Selector(port=5432),
        Selector(cgroup="/precious"),
        Selector(cmdline=Cmdline(regex="precious")),
        Selector(pid_file="/run/precious.pid"),
    ],
)
def test_who_might_be_denied_is_denied_where_it_could_not_be_read(denied):
    assert refused(ask(limits=Limits(deny=(denied,)))) == "deny"
    # To be allowed takes more than a maybe.
    assert refused(ask(limits=Limits(allow=(denied,)))) == "allow"


@pytest.mark.parametrize("denied", ["payment-database-server", Selector(name="payment-database-server"), "*-server"])
@pytest.mark.parametrize(
    "known",
    [
        {"exe": "/opt/payment-database-server"},
        {"exe": "/usr/bin/python3", "cmdline": ("python3", "/opt/payment-database-server")},
        {},
    ],
)
def test_who_is_denied_by_a_name_longer_than_the_kernel_keeps_is_denied(denied, known):
    database = (seen(10, main=True, name="payment-databas", **known),)
    assert refused(ask(census=database, limits=Limits(deny=(denied,)))) == "deny"


def test_another_name_that_begins_alike_is_not_denied_where_the_whole_of_it_is_known():
    client = (seen(10, main=True, name="payment-databas", exe="/opt/payment-database-client"),)
    assert isinstance(ask(census=client, limits=Limits(deny=("payment-database-server",))), Permit)


def test_to_be_allowed_by_a_long_name_the_whole_of_it_must_be_known():
    allow = Limits(allow=("payment-database-server",))
    known = (seen(10, main=True, name="payment-databas", exe="/opt/payment-database-server"),)
    assert isinstance(ask(census=known, limits=allow), Permit)
    assert refused(ask(census=(seen(10, main=True, name="payment-databas"),), limits=allow)) == "allow"


def test_who_goes_by_another_name_is_denied_by_the_file_that_it_runs():
    renamed = (seen(10, main=True, name="innocent", exe="/usr/bin/precious", cmdline=("innocent",)),)
    assert refused(ask(census=renamed, limits=Limits(deny=("precious",)))) == "deny"


# The time box


def test_the_time_box_is_what_the_file_says_or_the_parts_and_ten_minutes():
    plain = Experiment(version=1, title="t", hypothesis="h", steady_within_ms=Ms(1_000), settle_ms=Ms(2_000))
    assert default_time_box_ms(plain, 60_000) == 60_000 + 1_000 + 2_000 + 600_000
    boxed = msgspec.structs.replace(plain, limits=Limits(time_box_ms=Ms(5_000)))
    assert default_time_box_ms(boxed, 60_000) == 5_000
