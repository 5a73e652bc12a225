"""What a plugin has to keep: each rule with a name, the rule itself, and what to do where it is broken."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """One rule of the kit."""

    name: str
    says: str
    do: str


class RuleBroken(AssertionError):
    """A plugin breaks a rule. Says which, what was seen, and what to do."""

    def __init__(self, rule: Rule, whose: str, seen: str) -> None:
        super().__init__(
            f"{whose} breaks the rule {rule.name!r}: {seen}\n  the rule: {rule.says}\n  what to do: {rule.do}"
        )
        self.rule = rule.name
        self.seen = seen


FAULT_RULES: dict[str, Rule] = {
    one.name: one
    for one in (
        Rule(
            "says-what-it-is",
            "An injector carries kind, spec, summary, needs, heals and example, and its spec is tagged with its kind.",
            'Write `class MyFault(Fault, Noun, tag="my_fault", tag_field="fault", frozen=True, kw_only=True)` with'
            ' `kind: ClassVar[str] = "my_fault"`, and give the injector every word that the catalogue prints.',
        ),
        Rule(
            "example-loads",
            "The example is YAML that an experiment file may hold as it stands.",
            "Write it as under `injections:`, without `at` and `target`: `my_fault: {for: 2s}`.",
        ),
        Rule(
            "survives-a-plan",
            "The options come back the same from a stored plan, or a replay would do something else.",
            "Use plain types and the quantities of croupier.model.units (Ms, Bytes, Percent, Rate, Flow, Under).",
        ),
        Rule(
            "says-what-is-lacking",
            "`lacking` answers a sentence or an empty text, changes nothing and never raises.",
            "Ask the machine quietly, catch OSError, and return why it cannot be done.",
        ),
        Rule(
            "imports-little",
            "Importing the injector is quick: the guardian imports it to heal everything within two seconds.",
            "Import what is heavy inside of the method that needs it.",
        ),
        Rule(
            "landed-is-seen",
            "An injection on a live process lands, it shows, and what was not seen is not called landed.",
            "Look at the target after the act (state, file, counter) and answer `unsure` where it does not show.",
        ),
        Rule(
            "writes-before-it-acts",
            "Whatever changes and can be put back has its undo record, by `act.intend`, before it changes.",
            "Read the state before, put it into an UndoRecord, call act.intend(record), and only then change anything.",
        ),
        Rule(
            "record-is-data",
            "A record names its fault, its target and a key from `act.key`, and comes back the same through JSON.",
            "Keep numbers, texts, lists and maps with text keys in `data`; JSON knows no tuples, sets or bytes.",
        ),
        Rule(
            "has-a-deadline",
            "Every record says until when it must be undone: after now, and not long after the fault's own time.",
            "deadline_us=now_us() + fault.lasting_ms * 1_000, on croupier.system.clock.",
        ),
        Rule(
            "says-when-it-is-done",
            "Each record of an injection that landed was `applied`, after it was intended.",
            "Call act.applied(record.key) once the change is made.",
        ),
        Rule(
            "misses-who-is-gone",
            "A target that ended before the act, or at the moment of it, is missed (or unsure), never an exception.",
            "Ask procs.alive(target.identity) first and at the end, and take ProcessLookupError for an answer.",
        ),
        Rule(
            "hits-nobody-else",
            "Only the permit's identities are touched: a number that was handed out again is somebody else's.",
            "Compare the start time (procs.alive, act.signal) at the last instant; never look for a target by name.",
        ),
        Rule(
            "no-record-no-act",
            "Where the undo record cannot be kept, nothing is done.",
            "Let the HarnessError of act.intend pass, or answer missed; change nothing after it.",
        ),
        Rule(
            "heals-what-it-did",
            "Healing, from the record alone, brings back exactly what was there before, and is verified only then.",
            "Put the prior state (not a default) into the record's data, restore that, look again, then say verified.",
        ),
        Rule(
            "heals-quickly",
            "Healing one record takes less than two seconds.",
            "Wait with a limit, and answer verified=False with a note when it is over.",
        ),
        Rule(
            "heals-twice",
            "Healing what is healed already is verified, changes nothing and raises nothing.",
            "Make the inverse idempotent: look whether there is something to undo.",
        ),
        Rule(
            "heals-when-gone",
            "When the target has gone there is nothing left to undo: verified, with a note, and no exception.",
            'Return Healing(verified=True, note="… is gone") where procs.alive(record.who) is False.',
        ),
        Rule(
            "heals-nobody-else",
            "Healing one record leaves everybody else alone, whoever carries the same name, or the number by now.",
            "Find the target by record.who (pid and start time) only.",
        ),
        Rule(
            "obeys-a-halt",
            "When the act is halted, `inject` and `hold` return within a second.",
            "Wait by act.wait and never by time.sleep, and look at act.halted in every loop.",
        ),
        Rule(
            "heals-after-a-crash",
            "Wherever croupier dies, the records on disk are enough to bring everything back.",
            "Intend everything that is about to change before the first of it changes, and undo intents as well.",
        ),
    )
}
"""The rules for an injector, in the order in which they are tried."""

PROBE_RULES: dict[str, Rule] = {
    one.name: one
    for one in (
        Rule(
            "says-what-it-is",
            "A prober carries kind, spec, summary and example, and its spec is tagged with its kind.",
            'Write `class MyProbe(Probe, Asked, tag="my_probe", tag_field="probe", frozen=True, kw_only=True)` with'
            ' `kind: ClassVar[str] = "my_probe"`, and give the prober every word that the catalogue prints.',
        ),
        Rule(
            "example-loads",
            "The example is YAML that an experiment file may hold as it stands.",
            "Write it as under `steady_state:`, without the dash: `my_probe: {of: web}`.",
        ),
        Rule(
            "answers-what-it-sees",
            "It holds where it should (True), does not where it should not (False), and is None where it cannot tell.",
            "False is a finding about the program under test; what kept you from looking is None.",
        ),
        Rule(
            "gives-a-reason",
            "Every reading has a detail: one line, up to 500 characters, that says what was seen.",
            "Say the value that was read and what was expected: `niceness 10, promised was at most 5`.",
        ),
        Rule(
            "never-raises",
            "A reader answers a Reading, whatever the world does to it; a world it cannot ask is None, never True.",
            "Decorate it with croupier.observe.answer.answering, or catch what may go wrong.",
        ),
        Rule(
            "ends-in-time",
            "A reading takes no longer than the probe's `within`, even when the world hangs.",
            "Give every wait, socket and command what is left of probe.within_ms.",
        ),
    )
}
"""The rules for a prober."""
