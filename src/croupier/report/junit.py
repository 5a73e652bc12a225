"""JUnit XML, as build servers read it: one test case for the verdict, and one for each invariant.

A broken promise is a `failure`; what could not be told is an `error` of type `unknown`, so that no build server takes
a round that proved nothing for a success. (Element and attribute names are those of the Jenkins xUnit schema.)
"""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree as xml

from croupier.model.verdict import Finding, Verdict

from .summary import summary
from .text import clean, seconds


def junit(verdict: Verdict) -> bytes:
    """The verdict as one test suite, UTF-8 with an XML declaration."""
    title = clean(verdict.title) or "croupier"
    suite = xml.Element("testsuite", name=title, hostname="localhost", time=f"{verdict.lasted_us / 1e6:.3f}")
    if verdict.started_utc:
        suite.set("timestamp", clean(verdict.started_utc[:19]))
    _properties(suite, verdict)
    _whole(suite, title, verdict)
    names: Counter[str] = Counter()
    for finding in verdict.findings:
        names[finding.invariant] += 1
        _case(suite, title, finding, names[finding.invariant])
    for kind, element in (("tests", "testcase"), ("failures", "testcase/failure"), ("errors", "testcase/error")):
        suite.set(kind, str(len(suite.findall(element))))
    suite.set("skipped", "0")
    xml.SubElement(suite, "system-out").text = clean(summary(verdict))
    suites = xml.Element("testsuites", name="croupier")
    suites.append(suite)
    xml.indent(suites)
    document: bytes = xml.tostring(suites, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _properties(suite: xml.Element, verdict: Verdict) -> None:
    said = {
        "seed": verdict.seed,
        "run": verdict.run,
        "verdict": verdict.verdict,
        "outcome": verdict.outcome,
        "hypothesis": verdict.hypothesis,
        "landed": verdict.landed,
        "missed": verdict.missed,
        "refused": verdict.refused,
        "unsure": verdict.unsure,
        "acknowledgements": verdict.acks,
        "replay": f"croupier replay {verdict.run}",
    }
    inside = xml.SubElement(suite, "properties")
    for name, value in said.items():
        xml.SubElement(inside, "property", name=name, value=clean(str(value)))


def _whole(suite: xml.Element, title: str, verdict: Verdict) -> None:
    case = xml.SubElement(suite, "testcase", classname=title, name="verdict", time=f"{verdict.lasted_us / 1e6:.3f}")
    reasons = clean("\n".join(verdict.reasons))
    first = clean(verdict.reasons[0]) if verdict.reasons else verdict.verdict
    if verdict.verdict == "violated":
        xml.SubElement(case, "failure", type="violated", message=first).text = reasons
    elif verdict.verdict == "unknown":
        xml.SubElement(case, "error", type="unknown", message=first).text = reasons
    elif verdict.unhealed:
        unhealed = clean("\n".join(verdict.unhealed))
        xml.SubElement(case, "error", type="unhealed", message="something is still disturbed").text = unhealed


def _case(suite: xml.Element, title: str, finding: Finding, nth: int) -> None:
    name = clean(finding.invariant) + (f" ({nth})" if nth > 1 else "")
    case = xml.SubElement(suite, "testcase", classname=title, name=name)
    detail = clean(finding.detail) or ("broken" if finding.held is False else "could not be told")
    if finding.held is False:
        xml.SubElement(case, "failure", type="violated", message=detail).text = _evidence(finding)
    elif finding.held is None:
        xml.SubElement(case, "error", type="unknown", message=detail).text = _evidence(finding)


def _evidence(finding: Finding) -> str:
    lines = [finding.detail, f"asked at {seconds(finding.at_us)}"]
    if finding.after_injection:
        lines.append(f"injection {finding.after_injection} came before it")
    if finding.look_at:
        lines.append(f"look at {finding.look_at}")
    return clean("\n".join(lines))
