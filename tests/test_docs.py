"""The documentation names what exists."""

import re
from pathlib import Path

from trueport.settings import MEANINGS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "ui" / "docs"


def test_every_setting_is_documented() -> None:
    page = (DOCS / "settings.md").read_text()

    assert [name for name in MEANINGS if f"`TRUEPORT_{name}`" not in page] == []


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "LIMITATIONS.md"]
    links = [
        (page.name, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert links == []


def test_the_readme_names_the_commands_that_the_makefile_has() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text()))

    assert {name for name in named if f"\n{name}:" not in makefile} == set()
