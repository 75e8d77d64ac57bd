"""GateFindings -> JUnit XML, which CI systems show as tests.

Source of the shape: Jenkins' junit-10.xsd, and what pytest writes.
"""

import re
from xml.etree import ElementTree

from ..schema.decision import Decision, Outcome
from ..schema.gate import GateFindings
from .gate_words import decision_sentence, gate_facts, gate_sentence, limited, remarks, verdict_word

SUITE = "profkit check"
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write (section 2.2)."""


def render_junit(found: GateFindings) -> bytes:
    """The result as UTF-8: a test suite with a test for each limit.

    A value above its limit is a failure; one that could not be told is skipped, and says why. The
    suite's time is that of the whole check, of which each test has the same part.
    """
    cases = [_case(one) for one in found.decisions]
    if all(one.outcome is not found.outcome for one in found.decisions):
        # As where a limit could not be judged at all: green tests alone would hide that.
        cases.append(_unexplained(found))
    failures = sum(case.find("failure") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    counts = {
        "name": SUITE,
        "tests": str(len(cases)),
        "failures": str(failures),
        "errors": "0",
        "time": f"{found.wall_s:.3f}",
    }
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {**counts, "skipped": str(skipped)})
    for case in cases:
        case.set("time", f"{found.wall_s / len(cases):.3f}")
        suite.append(case)
    output = ElementTree.SubElement(suite, "system-out")
    lines = [f"{verdict_word(found)}: {gate_sentence(found)}", *remarks(found)]
    lines += [f"{name}: {text}" for name, text in gate_facts(found)]
    output.text = _writable("\n".join([*lines, *(f"gap: {gap}" for gap in found.gaps), ""]))
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _case(decision: Decision) -> ElementTree.Element:
    case = _named(limited(decision))
    sentence = _writable(decision_sentence(decision))
    if decision.outcome is Outcome.ABOVE:
        failure = {"message": sentence, "type": "regression"}
        ElementTree.SubElement(case, "failure", failure).text = sentence
    elif decision.outcome is Outcome.INCONCLUSIVE:
        ElementTree.SubElement(case, "skipped", {"message": f"inconclusive: {sentence}"})
    return case


def _unexplained(found: GateFindings) -> ElementTree.Element:
    case = _named("every limit is judged")
    message = _writable(" ".join([gate_sentence(found), *found.gaps]))
    ElementTree.SubElement(case, "skipped", {"message": f"inconclusive: {message}"})
    return case


def _named(name: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", {"classname": SUITE, "name": _writable(name)})


def _writable(text: str) -> str:
    return _FORBIDDEN.sub(" ", text)
