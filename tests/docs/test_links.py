"""Whatever README and docs point at is there: files, folders, headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, text_of

# Files that a reader makes by following the page.
READERS_OWN = {"conf/dataset/shop.yaml", "conf/dataset/visits.yaml", "conf/loss/hinge.yaml"}


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ +(.*)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.replace(" ", "-"))
    return found


def links(page: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    return [link for link in found if not link.startswith(("http://", "https://"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        good = target.exists() and target.is_relative_to(ROOT)
        if good and anchor:
            good = anchor in anchors(target)
        if not good:
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_exist(page: Path) -> None:
    rooms = "p_rnn|conf|tests|scripts|examples|docs"
    files = rf"(?<![\w/.])(?:{rooms})/[\w/.-]*\.(?:py|yaml|md|cpp|h|sh|csv|svg|ipynb)\b"
    folders = rf"`((?:{rooms})/(?:[\w-]+/)*)`"
    text = text_of(page)
    named = {*re.findall(files, text), *re.findall(folders, text)} - READERS_OWN
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    missing = [page for page in PAGES if page.parent == ROOT / "docs" and page not in linked]
    assert not missing


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


def test_a_broken_anchor_would_be_seen() -> None:
    assert "the-setting-compile" in anchors(ROOT / "docs" / "speed.md")
    assert "no-such-heading" not in anchors(ROOT / "docs" / "speed.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_say_what_they_answer_and_where_to_go_next(page: Path) -> None:
    text = text_of(page)
    if "\nThis page " not in text:  # README, the notebook, notes of developers
        assert page.name not in ("quickstart.md", "data.md", "models.md", "results.md", "paper.md")
        return
    title, sentence, *_ = text.split("\n\n")
    assert title.startswith("# ")
    assert sentence.startswith("This page ")
    assert text.rsplit("\n---\n", 1)[1].startswith("Next: ")
