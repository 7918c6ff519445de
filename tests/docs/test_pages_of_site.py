"""The documentation as a site: every page is in the navigation, every link and anchor leads somewhere, and what is made is fresh.

mkdocs and its theme (100 MB installed, for one command) are not in requirements.lock, so links are looked at here without them;
where they are installed, the site itself is built and searched for what it would load from elsewhere.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from handbook import configuration, one_gpu

REPO = Path(__file__).resolve().parents[2]
DOCS = REPO / "docs"
PAGES = sorted(DOCS.glob("**/*.md"))
_FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


class Settings(yaml.SafeLoader):
    """Reads mkdocs.yml, whose tags name functions of Python."""


Settings.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
SITE = yaml.load((REPO / "mkdocs.yml").read_text(encoding="utf-8"), Settings)


def named(nav):
    """Return the files of a navigation, in order."""
    if isinstance(nav, str):
        return [nav]
    return [file for part in (nav.values() if isinstance(nav, dict) else nav) for file in named(part)]


def anchors(page):
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    found = []
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        found.append(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found


def links(page):
    """Return where a page's relative links lead."""
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))
    return [link for link in _LINK.findall(text) if not re.match(r"[a-z]+:", link)]


def test_every_page_is_in_the_navigation_once():
    assert sorted(named(SITE["nav"])) == [page.relative_to(DOCS).as_posix() for page in PAGES]


def test_a_newcomer_begins_with_what_it_is_and_how_to_start():
    assert named(SITE["nav"])[:2] == ["index.md", "quick_start.md"]


@pytest.mark.parametrize("page", [*PAGES, REPO / "README.md"], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for link in links(page):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert page.name == "README.md" or DOCS in target.parents, f"{link}: the site has the pages of docs/ alone"
        assert not anchor or anchors(target).count(anchor) == 1, link


def test_links_are_found():
    assert len(links(DOCS / "index.md")) > 10
    assert "corpus" in anchors(DOCS / "configuration.md")


def test_the_page_of_settings_is_fresh():
    assert configuration.PAGE.read_text(encoding="utf-8") == configuration.page(), "run `python -m handbook`"


def test_every_setting_is_explained():
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", configuration.page(), re.MULTILINE)
    assert len(rows) > 250
    unsaid = sorted({name for name, meaning in rows if not meaning.strip()})
    assert unsaid == [], "give these fields a docstring"


def test_the_plans_of_one_gpu_are_fresh():
    assert one_gpu.tables() in one_gpu.PAGE.read_text(encoding="utf-8"), "run `python -m handbook`"


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("latex2mathml")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)], cwd=REPO,
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.glob("**/*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', text)
        assert 'class="arithmatex"' not in text, "a formula was not drawn"
    assert (tmp_path / "method.html").read_text(encoding="utf-8").count("<math") > 30
