"""From the file to the experiment: everything that is wrong is said, with its line, and nothing else comes out."""

import json
import os
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from croupier.load import Answers, load_experiment, load_text, schema, template
from croupier.load.document import DEEPEST, MOST_BYTES, MOST_NODES
from croupier.model.errors import ExperimentError, ReplayError
from croupier.model.experiment import ProcessSpec, Schedule
from croupier.model.fault import Kill, Suspend
from croupier.model.plan import PLAN_VERSION, draw_plan, plan_json
from croupier.model.probe import Http, Tcp
from croupier.model.target import Cmdline, Selector
from croupier.model.wire import BUILT_IN, decode_plan
from croupier.registry import catalogue

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/*.yaml"))
SCHEMA = Draft202012Validator(schema(BUILT_IN))

WHOLE = """\
version: 1
title: Notes survive
hypothesis: No note is lost.
processes:
  web:
    command: [gunicorn, --workers, "3", "--bind=127.0.0.1:${port.web}"]
    ready: {http: {url: "http://127.0.0.1:${port.web}/"}, within: 10s}
workload: {command: [python, load.py]}
steady_state:
  - tcp: {port: "${port.web}"}
faults:
  - kill: {}
    target: {process: web}
schedule: {every: 5s, for: 60s}
invariants:
  - recovery: {of: web, every: "< 5s"}
"""

PORT = '- tcp: {port: "${port.web}"}'
PROMISE = '- recovery: {of: web, every: "< 5s"}'
KILL_WEB = "kill: {}, target: {process: web}"


def load(text, **options):
    source = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
    return load_text(source, "x.yaml", BUILT_IN, environment=options.pop("environment", {}), **options)


def problems(text, **options):
    with pytest.raises(ExperimentError) as caught:
        load(text, **options)
    return caught.value.every


def the_problem(text, **options):
    found = problems(text, **options)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


def whole(old="", new="", more=""):
    assert old in WHOLE
    return WHOLE.replace(old, new, 1) + textwrap.dedent(more)


def at(source, text):
    """`file:line` of the first line that holds the text."""
    return f"x.yaml:{1 + next(n for n, line in enumerate(source.splitlines()) if text in line)}"


# What loads.


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_example_loads_without_a_warning_and_fits_the_schema(path):
    # The example of a plugin speaks of what its plugin brings.
    known = catalogue(tuple(str(one) for one in path.parent.glob("croupier_*.py")))
    loaded = load_experiment(path, known)
    assert not loaded.warnings
    assert loaded.directory == path.parent
    assert loaded.source == path.read_bytes()
    fits = Draft202012Validator(schema(known))
    assert not list(fits.iter_errors(YAML(typ="safe", pure=True).load(path.read_text())))
    assert draw_plan(loaded.experiment, 0).injections


def test_there_are_examples_to_load():
    assert len(EXAMPLES) >= 6


def test_the_experiment_says_what_the_file_says():
    one = load(WHOLE).experiment
    assert one.processes["web"].command[-1] == "--bind=127.0.0.1:${port.web}"
    assert one.processes["web"].ready.probe == Http(url="http://127.0.0.1:${port.web}/")
    assert one.processes["web"].ready.within_ms == 10_000
    assert one.steady_state == (Tcp(port="${port.web}"),)
    assert one.faults[0].fault == Kill()
    assert one.schedule == Schedule(every_ms=5_000, for_ms=60_000)


def test_json_is_yaml():
    data = YAML(typ="safe", pure=True).load(WHOLE)
    data["title"] = "Notes 🎲 \\ survive"
    assert load(json.dumps(data)).experiment.title == data["title"]
    data["title"] = "Notes survive"
    assert load(json.dumps(data)).experiment == load(WHOLE).experiment


def test_a_fault_with_nothing_to_say_is_its_name():
    assert load(whole("kill: {}", "kill:")).experiment == load(WHOLE).experiment


def test_numbers_in_a_command_or_an_environment_stay_as_they_are_written():
    one = load(
        whole("command: [gunicorn", "env: {A: 010, B: 1.50, C: 0x1F, D: '7'}\n    command: [gunicorn, 08")
    ).experiment
    assert one.processes["web"].env == {"A": "010", "B": "1.50", "C": "0x1F", "D": "7"}
    assert one.processes["web"].command[:2] == ("gunicorn", "08")


def test_yes_on_and_off_are_texts_as_in_yaml_1_2():
    one = load(whole("command: [gunicorn", "env: {yes: no, on: off, y: n}\n    command: [gunicorn")).experiment
    assert one.processes["web"].env == {"yes": "no", "on": "off", "y": "n"}


@pytest.mark.parametrize(
    ("target", "selector"),
    [
        ("{process: web, newest: true}", Selector(process="web", order="newest")),
        ("{process: web, oldest: true}", Selector(process="web", order="oldest")),
        ("{process: web, exclude: {name: x}}", Selector(process="web", exclude=(Selector(name="x"),))),
        ("{process: web, exclude: [{name: x}]}", Selector(process="web", exclude=(Selector(name="x"),))),
        ("{cmdline: '*web*'}", Selector(cmdline=Cmdline(glob="*web*"))),
        ("{cmdline: {regex: '^web'}}", Selector(cmdline=Cmdline(regex="^web"))),
        ("{process: web, count: all}", Selector(process="web", count="all")),
    ],
)
def test_a_selector_may_be_written_briefly(target, selector):
    assert load(whole("target: {process: web}", f"target: {target}")).experiment.faults[0].target == selector


def test_the_three_triggers_and_the_three_reasons_to_abort_are_read():
    more = """\
    injections:
      - at: 3s
        kill: {signal: SIGTERM, then: [HUP, KILL], ask: [notes, stop]}
        target: {process: web}
      - after: {injection: 1, plus: 2s}
        suspend: {for: 2s, duty: {on: 100ms, off: 50ms}}
        target: {process: web}
      - on: {log: {process: web, match: "flush", nth: 2}}
        kill: {ask: {url: "http://127.0.0.1:${port.web}/stop"}}
        target: {process: web}
    limits: {window: null, allow: [web, {process: web}]}
    abort_when:
      - probe: {http: {url: "http://127.0.0.1:${port.web}/"}, failing_for: 15s, every: 1s}
      - crashes: {of: web, more_than: 5 per 1m}
      - recovery: {of: web, longer_than: 60s}
    """
    one = load(whole(more=more)).experiment
    assert one.injections[0].fault.ladder == ("TERM", "HUP", "KILL")
    assert one.injections[1].after.plus_ms == 2_000
    assert one.injections[2].on.log.nth == 2
    assert [bool(a.failing) for a in one.abort_when] == [True, False, False]
    assert one.abort_when[0].failing.every_ms == 1_000
    assert one.abort_when[1].crashes.more_than.count == 5


def test_an_alias_stands_for_what_it_names():
    text = whole("target: {", "target: &who {", more="injections: [{at: 1s, kill: {}, target: *who}]\n")
    one = load(text).experiment
    assert one.injections[0].target == one.faults[0].target


def test_the_variable_that_a_reference_names_must_be_set_and_its_value_is_not_read():
    text = whole("[python, load.py]", '[python, load.py, "${env.TOKEN}"]')
    assert load(text, environment={"TOKEN": "secret"}).experiment.workload.command[-1] == "${env.TOKEN}"
    found = the_problem(text)
    assert "TOKEN is not set" in found.message and found.at.startswith(at(text, "env.TOKEN"))


def test_a_path_in_the_document_leads_to_its_line_and_column():
    where = load(WHOLE).where
    assert where("processes.web.ready.http.url") == (7, 25)
    assert where("faults[0].target.process") == (13, 23)
    assert where("faults[0].target.pick") == (13, 13)
    assert where("nothing.like.this") == (1, 1)
    assert where.at("schedule") == "x.yaml:14: schedule"
    placed = where.located(ExperimentError("no weight", at="faults", hint="h"))
    assert str(placed) == "x.yaml:12: faults: no weight\n  hint: h"


# What does not.


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "message", "hint"),
    [
        ("version: 1", "version: 2", "version", "version", "expected 1", ""),
        ("version: 1", 'version: "1"', "version", "version", "expected 1, got '1'", "quotes"),
        ("version: 1\n", "", "title", "", "'version' is missing", "version: 1"),
        ("title: Notes survive", "title: 42", "title", "title", "expected text, got the number 42", '"42"'),
        ("title: Notes survive", 'title: ""', "title", "title", "empty", ""),
        ("title: Notes survive", "title: Notes ${state}", "title", "title", "holds no references", "$${"),
        ("schedule:", "shedule:", "shedule", "", "unknown key 'shedule'", "'schedule'"),
        ("schedule: {every: 5s", "schedule: {every: 5", "schedule", "schedule.every", "with a unit", "5s or 5ms"),
        ("every: 5s", "every: 0s", "schedule", "schedule.every", "longer than nothing", ""),
        ("every: 5s", "every: 60s", "schedule", "schedule.for", "before its first turn", "60s".replace("60s", "1m")),
        ("for: 60s", "for: 300d, jitter: 1ms", "schedule", "schedule.every", "", ""),
        ("kill: {}", "kil: {}", "kil:", "faults[0]", "unknown fault 'kil'", "'kill'"),
        ("kill: {}", "explode: {}", "explode", "faults[0]", "unknown fault 'explode'", "--plugin"),
        ("kill: {}", "kill: KILL", "kill:", "faults[0].kill", "expected a map", "signal"),
        ("kill: {}", "kill: {signal: TRM}", "kill:", "faults[0].kill.signal", "unknown signal 'TRM'", "'TERM'"),
        ("kill: {}", "kill: {signal: term}", "kill:", "faults[0].kill.signal", "name of a signal", "TERM"),
        ("kill: {}", "kill: {signal: RTMIN+99}", "kill:", "faults[0].kill.signal", "unknown signal", ""),
        ("kill: {}", "kill: {ask: stop it}", "kill:", "faults[0].kill.ask", "no shell", "[stop, it]"),
        ("kill: {}", "kill: {repeat: 0}", "kill:", "faults[0].kill.repeat", "from 1 to 1000", ""),
        ("kill: {}", "suspend: {}", "suspend", "faults[0].suspend", "'for' is missing", "duration"),
        ("kill: {}", "suspend: {for: 0s}", "suspend", "faults[0].suspend.for", "longer than nothing", ""),
        ("target: {process: web}", "target: {}", "target", "faults[0].target", "every process of the machine", ""),
        ("target: {process: web}", "target: {count: 1}", "target", "faults[0].target", "every process", ""),
        ("    target: {process: web}\n", "", "kill", "faults[0]", "'target' is missing", "target: {process"),
        ("{process: web}", "{process: wbe}", "wbe", "faults[0].target.process", "no process 'wbe'", "'web'"),
        ("{process: web}", "{process: web, count: 0}", "count", "faults[0].target.count", "1 or more", ""),
        ("{process: web}", "{process: web, count: 1, percent: 5%}", "count", "faults[0].target.percent", "both", ""),
        ("{process: web}", "{process: web, percent: 0%}", "percent", "faults[0].target.percent", "share", ""),
        ("{process: web}", "{name: web, pick: main}", "pick", "faults[0].target.pick", "named process", ""),
        ("{process: web}", "{process: web, newest: yes}", "newest", "faults[0].target.newest", "true", "order"),
        ("{process: web}", "{process: web, newest: true, order: oldest}", "newest", "faults[0].target", "twice", ""),
        ("{process: web}", "{process: web, exclude: {}}", "excl", "faults[0].target.exclude", "every process", ""),
        ("{process: web}", "{cmdline: {regex: '('}}", "regex", "faults[0].target.cmdline.regex", "not a regular", ""),
        ("{process: web}", "{cmdline: {}}", "cmdline", "faults[0].target.cmdline", "none is given", ""),
        ("{process: web}", "{process: web, port: 0}", "port: 0", "faults[0].target.port", "1 to 65535", ""),
        ("[python, load.py]", "python load.py 3", "load.py", "workload.command", "no shell", '[python, load.py, "3"]'),
        ("[python, load.py]", "cat x | sort", "sort", "workload.command", "no shell", "script of its own"),
        ("[python, load.py]", "[]", "workload", "workload.command", "empty", "[program, argument]"),
        ("[python, load.py]", "[true]", "workload", "workload.command[0]", "expected text, got true", '"true"'),
        ("[python, load.py]", '["${prt.web}"]', "prt", "workload.command[0]", "stands for nothing", "${port.NAME}"),
        ("[python, load.py]", '["${stat}"]', "stat}", "workload.command[0]", "stands for nothing", "'state'"),
        ("[python, load.py]", '["${state"]', "state", "workload.command[0]", "does not end", "close it"),
        ("[python, load.py]", '["a\\0"]', "workload", "", "NUL", ""),
        ("within: 10s", "witin: 10s", "witin", "processes.web.ready", "unknown key 'witin'", "'within'"),
        ("ready: {http", "ready: {htp", "htp", "processes.web.ready", "unknown probe 'htp'", "'http'"),
        ("{http: {url", "{recovery: {of", "recovery", "processes.web.ready.recovery", "journal", "invariants"),
        ("url: \"http", "url: \"ftp", "ftp", "processes.web.ready.http.url", "http://", ""),
        (PORT, "- tcp: {port: 0}", "tcp", "steady_state[0].tcp.port", "65535", ""),
        (PORT, "- tcp: {port: x}", "tcp", "steady_state[0].tcp.port", "65535", ""),
        (PORT, "- tcp", "- tcp", "steady_state[0]", "expected a probe", "tcp: {"),
        (PORT, "- {}", "- {}", "steady_state[0]", "no probe", "http"),
        (PORT, "- sqlite: {path: x}", "sqlite", "steady_state[0].sqlite", "nothing", ""),
        (PORT, "- log: {process: db, match: x}", "log", "steady_state[0].log.process", "no process", ""),
        (PORT, "- log: {process: web, match: '*'}", "log", "steady_state[0].log.match", "regular", ""),
        (PORT, "- http: {url: http://x, status: '200'}", "status", "steady_state[0].http.status", "whole", "quotes"),
        (PROMISE, "- recovery: {of: web}", "recovery", "invariants[0].recovery", "no bound", "every"),
        (PROMISE, "- recovery: {of: we, p95: 5s}", "recovery", "invariants[0].recovery.p95", "upper bound", ""),
        (PROMISE, "- restarts: {of: webb, at_most: 1}", "restarts", "invariants[0].restarts.of", "no process", "'web'"),
        (PROMISE, "- restarts: {of: web}", "restarts", "invariants[0].restarts", "promises nothing", ""),
        ("workload: {command: [python, load.py]}", "invariants_: 1", "invariants_", "", "unknown key", "'invariants'"),
        ("steady_state:\n", "steady_state: {}\nx:\n", "steady_state", "steady_state", "expected a list", "list"),
        ("processes:\n  web:", "processes:\n  3web:", "3web", "processes.3web", "is no name", "letter"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_with_its_line_its_path_and_a_hint(old, new, line, path, message, hint):
    text = whole(old, new)
    found = problems(text)
    place = at(text, line) + (f": {path}" if path else "")
    fitting = [one for one in found if one.at.startswith(place) and message in one.message and hint in one.hint]
    assert fitting, "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("more", "path", "message"),
    [
        ("injections: [{@}]", "injections[0]", "needs a trigger"),
        ("injections: [{at: 1s, @}, {at: 1s, after: {injection: 1}, @}]", "injections[1].after", "two triggers"),
        ("injections: [{after: {injection: 2}, @}]", "injections[0].after.injection", "no injection 2"),
        ("injections: [{after: {injection: 1}, @}]", "injections[0].after", "for ever: 1 after 1"),
        ("injections: [{at: 1s, kill: {}, suspend: {for: 1s}, target: {process: web}}]", "injections[0]", "2 faults"),
        ("injections: [{at: 1s, target: {process: web}}]", "injections[0]", "no fault"),
        ("injections: [{on: {log: {process: db, match: x}}, @}]", "injections[0].on.log.process", "no process 'db'"),
        ("attach: {web: {name: x}}", "attach.web", "given twice"),
        ("attach: {workload: {name: x}}", "attach.workload", "croupier's own"),
        ("attach: {db: {process: web}}", "attach.db.process", "did not start"),
        ("attach: {db: {}}", "attach.db", "every process"),
        ("limits: {window: {zone: Europe/Berln}}", "limits.window.zone", "unknown time zone"),
        ("limits: {window: {zone: ../../etc/passwd}}", "limits.window.zone", "unknown time zone"),
        ("limits: {window: {zone: Europe}}", "limits.window.zone", "unknown time zone"),
        ("limits: {window: {from: '9:00'}}", "limits.window.from", "time of day"),
        ("limits: {window: {from: '09:00', to: '09:00'}}", "limits.window.to", "never open"),
        ("limits: {window: {days: [monday]}}", "limits.window.days[0]", "expected one of"),
        ("limits: {rate: 5}", "limits.rate", "expected a rate"),
        ("limits: {allow: web}", "limits.allow", "expected a list"),
        ("limits: {concurrent: 0}", "limits.concurrent", "of 1 or more"),
        ("abort_when: [{recovery: {of: db, longer_than: 1s}}]", "abort_when[0].recovery.of", "no process"),
        ("abort_when: [{probe: {recovery: {of: web, every: '< 1s'}}}]", "abort_when[0].probe.recovery", "journal"),
        ("abort_when: [{}]", "abort_when[0]", "exactly one of"),
        ("abort_when: [{probe: }]", "abort_when[0].probe", "says nothing"),
        ("collect: {redact: [x, '[']}", "collect.redact[1]", "not a regular expression"),
        ("collect: {sample_every: 0s}", "collect.sample_every", "longer than nothing"),
        ("seed: 1e3", "seed", "expected a whole number"),
        ("seed: 99999999999999999999", "", "out of range"),
        ("seed: 1_000", "seed", "expected a whole number"),
    ],
)  # fmt: skip
def test_what_is_added_is_checked_as_well(more, path, message):
    more = more.replace("@", KILL_WEB)
    text = WHOLE + more
    found = the_problem(text)
    assert message in found.message
    assert found.at == at(text, more) + (f": {path}" if path else "")


def test_processes_that_wait_for_each_other_are_found():
    text = whole(
        "  web:\n",
        "  a: {command: [x], needs: [b]}\n  b: {command: [x], needs: [c]}\n  c: {command: [x], needs: [b]}\n  web:\n",
    )
    found = the_problem(text)
    assert (found.at, "b needs c needs b" in found.message) == ("x.yaml:6: processes.b.needs", True)


def test_a_need_that_nobody_fills_is_found():
    assert "no process 'd'" in the_problem(whole("  web:\n", "  a: {command: [x], needs: [d]}\n  web:\n")).message


def test_faults_need_a_schedule_and_a_schedule_needs_faults():
    assert "no schedule" in the_problem(whole("schedule: {every: 5s, for: 60s}\n")).message
    assert "faults to draw from" in the_problem(whole("faults:\n  - kill: {}\n    target: {process: web}\n")).message


def test_a_wheel_without_weight_is_found_at_its_blast_radius():
    text = whole("    target: {process: web}\n", "    target: {process: web}\n    when_blast_radius: {ci: 0}\n")
    load(text)
    assert "no weight in blast radius 'ci'" in the_problem(text + "blast_radius: ci\n").message


def test_an_experiment_that_measures_nothing_is_refused():
    text = whole('steady_state:\n  - tcp: {port: "${port.web}"}\n').replace(
        'invariants:\n  - recovery: {of: web, every: "< 5s"}\n', ""
    )
    assert "nothing is measured" in the_problem(text).message


def test_an_experiment_without_anything_to_disturb_is_refused():
    text = "version: 1\ntitle: t\nhypothesis: h\nsteady_state: [{tcp: {port: 1}}]\n"
    assert "neither a process" in the_problem(text).message


def test_acknowledgements_need_a_workload():
    text = whole("workload: {command: [python, load.py]}\n") + "  - acks: {}\n"
    assert "nobody acknowledges" in the_problem(text).message


def test_the_output_of_what_we_did_not_start_cannot_be_read():
    text = whole(
        '- tcp: {port: "${port.web}"}', "- log: {process: db, match: x}", more="attach: {db: {name: postgres}}\n"
    )
    assert "did not start 'db'" in the_problem(text).message


def test_the_output_of_the_workload_can_be_read_where_there_is_one():
    printed = "- log: {process: workload, match: hung, absent: true}"
    assert load(whole(PROMISE, printed)).experiment.invariants[0].process == "workload"
    waits = "injections: [{on: {log: {process: workload, match: ^ack, nth: 20}}, kill: {}, target: {process: web}}]\n"
    assert load(whole(more=waits)).experiment.injections[0].on.log.nth == 20
    without = whole("workload: {command: [python, load.py]}\n", "").replace(PROMISE, printed)
    assert "no process 'workload'" in the_problem(without).message


def test_all_problems_of_a_file_are_said_at_once_in_the_order_of_its_lines():
    text = whole("title: Notes survive", "title: 1").replace("kill: {}", "kil: {}").replace("every: 5s", "every: 5")
    found = problems(text)
    assert [int(one.at.split(":")[1]) for one in found] == [2, 12, 14]
    with pytest.raises(ExperimentError) as caught:
        load(text)
    assert str(caught.value).count("x.yaml:") == 3
    assert caught.value.exit_code == 2


def test_a_typo_in_one_place_hides_no_problem_in_another():
    text = whole("within: 10s", "witin: 10s").replace("target: {process: web}", "target: {process: wbe}")
    assert len(problems(text)) == 2


def test_there_is_an_end_to_the_problems_of_a_file():
    text = WHOLE + "".join(f"k{n}: 1\n" for n in range(500))
    found = problems(text)
    assert len(found) == 101
    assert found[-1].message == "400 more problems are not shown"


# YAML, and its surprises.


def test_a_key_that_stands_twice_is_refused_with_both_lines():
    found = the_problem(WHOLE + "title: again\n")
    assert (found.at, found.message) == ("x.yaml:17", "the key 'title' stands here a second time")
    assert "line 2" in found.hint


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [true]", "!!str x", "! x", "!mine {}", "!!binary aa"])
def test_tags_are_refused(tag):
    assert any(
        "tags are not allowed" in one.message for one in problems(whole("title: Notes survive", f"title: {tag}"))
    )


def test_merge_keys_are_refused_with_a_reason():
    text = whole("kill: {}", "<<: {a: 1}\n    kill: {}")
    assert any("merge keys" in one.hint for one in problems(text))


def test_another_version_of_yaml_is_refused():
    assert "YAML 1.1" in the_problem("%YAML 1.1\n---\n" + WHOLE).message
    load("%YAML 1.2\n---\n" + WHOLE)


def test_a_second_document_is_refused():
    assert "second document" in the_problem(WHOLE + "---\na: 1\n").message


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "null", "~", "\ufeff"])
def test_an_empty_file_is_refused(text):
    found = the_problem(text)
    assert found.message == "the file says nothing" and "croupier init" in found.hint


@pytest.mark.parametrize("text", ["[]", "text", "3", "- a", "true"])
def test_a_file_that_is_no_map_is_refused(text):
    assert "expected a map" in problems(text)[0].message


def test_a_byte_order_mark_is_no_problem():
    load(b"\xef\xbb\xbf" + WHOLE.encode())
    load(WHOLE.replace("\n", "\r\n").encode())


def test_bytes_that_are_not_text_are_refused_with_their_line():
    assert the_problem(WHOLE.encode() + b"x: \xff\n").at == "x.yaml:17"
    assert "UTF-16" in the_problem(WHOLE.encode("utf-16")).hint
    found = the_problem(WHOLE.encode() + b"x: \0\n")
    assert (found.at, "a NUL" in found.message) == ("x.yaml:17", True)
    assert "U+0007" in the_problem("a: \x07").message


def test_a_tab_and_a_reference_without_quotes_get_a_hint():
    assert "spaces" in the_problem("a:\n\tb: 1\n").hint
    assert "in quotes" in the_problem("a: {b: ${port.web}}\n").hint


def test_a_yaml_bomb_is_counted_and_never_unfolded():
    lines = ["a: &a [1,1,1,1,1,1,1,1,1]"]
    lines += [f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]" for n in range(20)]
    began = time.process_time()
    assert f"more than {MOST_NODES:,} parts" in the_problem("\n".join(lines)).message
    assert time.process_time() - began < 0.5


def test_an_alias_inside_of_what_it_stands_for_is_refused():
    assert "inside of what it stands for" in the_problem("a: &a [*a]").message
    assert "no &b before it" in the_problem("a: *b").message


@pytest.mark.parametrize(
    "text", ["[" * 1_000, "{a: " * 1_000, "- " * 1_000, "? " * 1_000, "a:\n" + " " * 9 + "[" * 200]
)
def test_a_document_that_is_nested_too_deeply_is_refused(text):
    assert any(f"deeper than {DEEPEST}" in one.message for one in problems(text))


def test_aliases_cannot_nest_deeper_than_what_is_written():
    lines = ["a0: &a0 []"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200)]
    assert "aliases unfolded" in the_problem("\n".join(lines)).message


def test_a_file_of_ten_megabytes_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "big.yaml"
    path.write_bytes(WHOLE.encode() + b"# more\n" * 1_500_000)
    began = time.process_time()
    with pytest.raises(ExperimentError, match="too large: 10,500,") as caught:
        load_experiment(path, BUILT_IN)
    assert time.process_time() - began < 0.1
    assert caught.value.at == str(path)
    with pytest.raises(ExperimentError, match="too large"):
        load(b"a" * (MOST_BYTES + 1))


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        ("[" * 48, "1,"),
        ("[" * 48, "a b c d,"),
        ("[" * 48, "#\n"),
        ("", "? a\n: b\n"),
        ("", "a\n"),
        ("", "%a\n"),
        ("", "- &a x\n"),
        ("a: |\n", " a\n"),
        ('"', "a\n"),
        ("{", "a: 1,"),
    ],
)
def test_no_file_takes_long(before, piece):
    text = (before + piece * MOST_BYTES)[:MOST_BYTES].encode()
    began = time.process_time()
    with pytest.raises(ExperimentError):
        load(text)
    # A second and a half at the worst on the machines that we know; the bound leaves room for slower ones.
    assert time.process_time() - began < 6


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "loop", "device", "nul"])
def test_a_path_that_is_no_readable_file_is_refused(tmp_path, kind):
    path = tmp_path / "x.yaml"
    if kind == "directory":
        path.mkdir()
        (path / "a.yaml").touch()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "nul":
        path = Path("a\0b")
    elif kind == "device":
        path = Path("/dev/zero")
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path, BUILT_IN)
    assert caught.value.at == str(path)


def test_a_number_too_large_to_be_written_down_is_refused():
    assert "out of range" in the_problem(WHOLE + f"seed: {'9' * 5_000}\n").message
    assert any("out of range" in one.message for one in problems(whole("every: 5s", "every: .nan")))
    assert problems(WHOLE + f"settle: {'9' * 5_000}s\n")


# Warnings.


def test_what_is_only_rehearsed_is_a_warning_unless_the_allow_list_names_it():
    attached = whole("target: {process: web}", "target: {process: db}", more="attach: {db: {name: postgres}}\n")
    (warning,) = load(attached).warnings
    assert "only rehearsed" in warning.message and warning.at == "x.yaml:13: faults[0].target"
    assert not load(attached + "limits: {allow: [d*]}\n").warnings
    (warning,) = load(whole("{process: web}", "{name: x}")).warnings
    assert "not one of this file's processes" in warning.message


def test_an_allow_list_that_leaves_out_the_target_is_a_warning():
    (warning,) = load(WHOLE + "limits: {allow: [db]}\n").warnings
    assert "the guard will refuse" in warning.message


def test_an_experiment_that_disturbs_nothing_is_a_warning():
    text = whole("faults:\n  - kill: {}\n    target: {process: web}\nschedule: {every: 5s, for: 60s}\n")
    assert "nothing will be disturbed" in str(load(text).warnings[0])


# Whatever comes.

MARKS = """- |  |{|}|[|]|: |&a |*a|!!x |'|"|${port.web}|${x}|null|1e9|\\|? |,|kill:|#|<<: """
pieces = st.sampled_from(
    [*WHOLE.splitlines(keepends=True), *MARKS.split("|"), "|\n", ">\n", "\t", "\0", "---\n", "...\n", "%YAML 1.2\n"]
)


def loads_or_is_refused(source):
    try:
        loaded = load_text(source, "x.yaml", BUILT_IN, environment={})
    except ExperimentError as problem:
        assert all(one.message and one.at.startswith("x.yaml") for one in problem.every)
        str(problem).encode()
        return None
    return loaded


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=4_000))
@example(b'"\\UFFFFFFFF"')
@example(b"%YAML 999999999999999999999.1\n--- a")
@example(b"? &a ? *a")
@example(b"- !<tag:x> a")
@example(b"\xc2\x85")
def test_any_bytes_load_or_are_refused(source):
    loads_or_is_refused(source)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(pieces, st.text(max_size=3)), max_size=40).map("".join))
def test_anything_like_yaml_loads_or_is_refused(text):
    loads_or_is_refused(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(WHOLE)), st.integers(0, 12), st.one_of(pieces, st.text(max_size=4)))
def test_a_file_with_one_piece_changed_loads_or_is_refused_and_the_schema_is_no_stricter(start, length, piece):
    text = WHOLE[:start] + piece + WHOLE[start + length :]
    loaded = loads_or_is_refused(text.encode("utf-8", "surrogatepass"))
    if loaded is not None:
        data = YAML(typ="safe", pure=True).load(text)
        assert not list(SCHEMA.iter_errors(data)), text


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["5s", "web"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
SECTIONS = sorted(schema(BUILT_IN)["properties"])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SECTIONS), values)
def test_any_value_in_any_section_loads_or_is_refused(section, value):
    data = YAML(typ="safe", pure=True).load(WHOLE)
    data[section] = value
    loads_or_is_refused(json.dumps(data).encode())


# The schema.


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1", "version: 2"),
        ("title: Notes survive\n", ""),
        ("schedule:", "shedule:"),
        ("every: 5s", "every: 5"),
        ("kill: {}", "kil: {}"),
        ("kill: {}", "kill: {signl: TERM}"),
        ("kill: {}", "kill: {}\n    suspend: {for: 1s}"),
        ("kill: {}", "suspend:"),
        ("target: {process: web}", "target: {}"),
        ("target: {process: web}", "target: {process: web, count: 1, percent: 5%}"),
        ("[python, load.py]", "python load.py"),
        ("within: 10s", "within: ten"),
        ("tcp: {port", "recovery: {of"),
        ("tcp: {port", "tcp: {prt"),
        ("{of: web, every: \"< 5s\"}", "{of: web, every: 5s}"),
    ],
)  # fmt: skip
def test_the_schema_refuses_what_the_loader_refuses(old, new):
    text = whole(old, new)
    problems(text)
    assert list(SCHEMA.iter_errors(YAML(typ="safe", pure=True).load(text)))


def test_the_schema_is_one_and_describes_every_section_and_option():
    made = schema(BUILT_IN)
    Draft202012Validator.check_schema(made)
    assert made["$defs"]["Selector"]["properties"]["pick"]["description"].startswith("Of a named process")
    assert made["$defs"]["Kill"]["description"].startswith("End a process by a signal")
    assert set(made["$defs"]["probe"]["properties"]) < set(made["$defs"]["invariant"]["properties"])
    assert all(one.get("description") for one in made["$defs"].values() if "anyOf" not in one)


# A first file.

words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=20)
commands = st.lists(words.filter(str.strip), min_size=1, max_size=4).map(tuple)


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        Answers,
        command=commands,
        name=st.one_of(st.just(""), words),
        title=st.one_of(st.just(""), words, st.just("x" * 500), st.just("${state}: # no")),
        ready_url=st.sampled_from(["", "http://127.0.0.1:${port.web}/health", "https://localhost/"]),
        ready_port=st.sampled_from(["", "8000", "${port.web}"]),
        workload=st.one_of(st.just(()), commands),
        check=st.one_of(st.just(()), commands),
        sqlite=st.one_of(st.just(""), words, st.just("${state}/app.db")),
        state_file=st.one_of(st.just(""), words),
        children=st.booleans(),
        env=st.dictionaries(st.text("ABC_", min_size=1), words, max_size=2),
    )
)
def test_every_first_file_loads_and_means_what_was_answered(answers):
    text = template(answers)
    loaded = load_text(text.encode(), "x.yaml", BUILT_IN, environment={})
    # Whoever answers with a port that the command is not given is told so.
    assert all("no process is given" in one.message for one in loaded.warnings)
    (spec,) = loaded.experiment.processes.values()
    assert [one.replace("$${", "${") for one in spec.command] == [one.replace("$${", "${") for one in answers.command]
    assert not list(SCHEMA.iter_errors(YAML(typ="safe", pure=True).load(text)))


def test_a_first_file_explains_itself():
    text = template(Answers(command=("./serve",)))
    assert text.count("#") > 10
    assert "start_grace" in text and "# workload:" in text
    assert all(len(line) <= 120 for line in text.splitlines())
    spec = load(text).experiment.processes["serve"]
    assert spec == ProcessSpec(command=("./serve",), start_grace_ms=2_000, restart=spec.restart, stop=spec.stop)
    with pytest.raises(ValueError, match="command"):
        template(Answers(command=()))


def test_a_script_is_called_by_its_own_name_and_not_by_its_interpreter():
    for command, name in (
        (("python3.11", "-u", "notes.py"), "notes"),
        (("node",), "app"),
        (("/usr/bin/redis-server",), "redis-server"),
    ):
        assert list(load(template(Answers(command=command))).experiment.processes) == [name]


def test_a_first_file_for_workers_spares_the_main_process():
    experiment = load(template(Answers(command=("gunicorn", "a:b"), ready_port="8000", children=True))).experiment
    assert {one.target.pick for one in experiment.faults} == {"children"}
    assert experiment.steady_state == (Tcp(port=8000),)


# The plan on disk.


def test_a_plan_that_is_none_is_a_replay_error():
    plan = draw_plan(load(WHOLE).experiment, 0)
    written = plan_json(plan)
    assert decode_plan(written, BUILT_IN) == plan
    other = written.replace(f'"version":{PLAN_VERSION}'.encode(), b'"version":99', 1)
    with pytest.raises(ReplayError, match="version 99"):
        decode_plan(other)
    with pytest.raises(ReplayError, match="unknown fault 'explode'"):
        decode_plan(written.replace(b'"fault":"kill"', b'"fault":"explode"'))
    for cut in (b"", b"{}", b"[]", written[:50], written.replace(b'"lot"', b'"lto"'), b"[" * 100_000, b"\xff"):
        with pytest.raises(ReplayError):
            decode_plan(cut)


def test_a_plan_keeps_faults_whole():
    text = whole("kill: {}", "suspend: {for: 2s, tree: true, duty: {on: 100ms, off: 50ms}}")
    plan = decode_plan(plan_json(draw_plan(load(text).experiment, 7)))
    assert isinstance(plan.injections[0].fault, Suspend)
    assert plan.injections[0].fault.duty.off_ms == 50
