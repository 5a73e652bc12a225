"""The documentation is complete, its links lead somewhere, and its generated pages are what the program says now."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from shown import pages

from croupier.model import journal, verdict
from croupier.model.errors import CroupierError
from croupier.registry import built_in

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
REFERENCE = DOCS / "reference"
PAGES = {str(page.relative_to(REPOSITORY)): page for page in pages(REPOSITORY)}


def make_docs() -> Any:
    spec = importlib.util.spec_from_file_location("make_docs", REPOSITORY / "tools" / "make_docs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATED = make_docs().pages()


def reference(name: str) -> str:
    return (REFERENCE / name).read_text()


def headings(text: str) -> set[str]:
    return set(re.findall(r"^#+ (.+)$", text, re.MULTILINE))


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert reference(name) == GENERATED[name], f"docs/reference/{name} is out of date: make docs"


def test_every_fault_and_probe_is_in_the_reference() -> None:
    known = built_in()
    assert set(known.fault_types) <= headings(reference("faults.md"))
    assert set(known.probe_types) <= headings(reference("probes.md"))


def test_every_command_is_in_the_reference() -> None:
    assert set(make_docs().parsers()) <= headings(reference("commands.md"))


def test_every_event_is_in_the_reference() -> None:
    tags = {one.__struct_config__.tag for one in get_args(journal.AnyEvent)}
    assert tags <= headings(reference("events.md"))


def test_every_key_of_the_file_has_a_section_that_says_what_it_means() -> None:
    module = make_docs()
    shared = {name for name, _, _ in module.SECTIONS}
    written = module.schema(built_in())["$defs"]
    kinds = {one.__name__ for one in (*built_in().fault_types.values(), *built_in().probe_types.values())}
    inner = {
        name.rpartition("/")[2]
        for kind in kinds
        for name in re.findall(r"#/\$defs/\w+", str(written[kind]))
    }  # fmt: skip
    assert set(written) - {"probe", "invariant"} <= shared | kinds | inner


@pytest.mark.parametrize("name", ["experiment-keys.md", "faults.md", "probes.md"])
def test_every_key_says_what_it_means(name: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\|([^|]*)\|$", GENERATED[name], re.MULTILINE)
    assert rows
    assert not [key for key, meaning in rows if not meaning.strip()]


def test_every_exit_code_is_in_the_reference() -> None:
    def below(kind: type[CroupierError]) -> set[type[CroupierError]]:
        return {kind}.union(*(below(one) for one in kind.__subclasses__()))

    codes = {one.exit_code for one in below(CroupierError)} | set(verdict.EXIT_CODES.values())
    assert codes <= {int(code) for code in re.findall(r"^\| `(\d+)` \|", reference("exit-codes.md"), re.MULTILINE)}


def test_every_environment_variable_is_in_the_reference() -> None:
    used = {
        name
        for file in (REPOSITORY / "src").rglob("*.py")
        for name in re.findall(r"\b(?:CROUPIER_[A-Z_]+[A-Z]|XDG_[A-Z_]+|NO_COLOR)\b", file.read_text())
    }
    assert used
    assert used <= set(re.findall(r"\b[A-Z][A-Z_]+\b", reference("environment.md")))


def test_every_dependency_has_its_page_of_decision() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=\[]", one)[0].replace(".", "-") for one in project["dependencies"]}
    assert names <= {page.stem for page in (DOCS / "decisions").glob("*.md")}


def test_every_page_of_the_documentation_is_reached_from_its_first() -> None:
    seen: set[Path] = set()
    waiting = [DOCS / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.is_relative_to(DOCS):
            continue
        seen.add(page)
        waiting += [target for target, _ in links(page)]
    assert {page for page in PAGES.values() if page.is_relative_to(DOCS)} <= seen


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_link_leads_somewhere(name: str) -> None:
    for target, anchor in links(PAGES[name]):
        assert target.exists(), f"{name} links to {target}"
        if anchor:
            module = make_docs()
            assert anchor in {module._anchor(plain(one)) for one in headings(target.read_text())}, f"{target}#{anchor}"


def links(page: Path) -> list[tuple[Path, str]]:
    """Where a page links to within the repository: the file, and the heading or ""."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = [one for one in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", one)]
    parts = [one.partition("#") for one in found]
    return [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in parts]


def plain(heading: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")


def test_the_documentation_says_croupier_s_own_words() -> None:
    """Words of the glossary that the program itself uses as names."""
    glossary = reference("glossary.md")
    for phase in get_args(journal.Phase):
        assert phase in glossary
    for word in (*get_args(journal.Result), *get_args(journal.Outcome), *verdict.EXIT_CODES):
        assert word in glossary
