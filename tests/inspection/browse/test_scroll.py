"""Ten thousand rows scroll by in a real browser: all are seen in their order, and few of them are nodes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pairloom.store.folder import Header
from pairloom.store.writing import Writer, write_shard
from schemas.urls import URLS
from tests.inspection.browse.conftest import Looked
from tests.inspection.browse.site import shown

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ROWS, SHARDS = 10_000, 4
# Scrolls to the end again and again, and keeps each row's title when it first comes; most: cards at a time.
SCROLL = """async () => {
    const seen = new Set(), started = performance.now();
    let most = 0;
    while (performance.now() - started < 240000) {
        const cards = document.querySelectorAll(".card");
        most = Math.max(most, cards.length);
        for (const card of cards) seen.add(card.querySelector(".words [dir]").textContent);
        if (document.querySelector("[data-last]")) break;
        window.scrollTo(0, document.documentElement.scrollHeight);
        await new Promise(resolve => setTimeout(resolve, 5));
    }
    return {seen: [...seen], most};
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("long") / "data"
    write(root / "urls")
    with shown(root) as found:
        yield found


def write(folder: Path) -> None:
    """A list whose row n says `row n of many`. It has no pictures, each of which would be a request more."""
    writer = Writer.open(folder, Header(URLS.name, URLS.version, "sample", 1, {}))
    writer.begin([])
    each = ROWS // SHARDS
    for shard in range(SHARDS):
        numbers = range(shard * each, (shard + 1) * each)
        table = URLS.table(
            url=[f"https://sample.invalid/{n}.jpg" for n in numbers],
            captions=[[{"text": f"row {n} of many", "lang": "en"}] for n in numbers],
            extra=[[]] * each,
        )
        writer.record(write_shard(folder, f"{shard:05d}", table))
    writer.finish()


@pytest.mark.long
def test_ten_thousand_rows_scroll_and_few_are_there_at_a_time(looked: Looked) -> None:
    page = looked.open("pictures")
    found = page.evaluate(SCROLL)
    assert found["seen"] == [f"row {n} of many" for n in range(ROWS)]
    assert found["most"] < 800
    page.evaluate("window.scrollTo(0, 0)")  # and back: what was given back comes again
    page.get_by_text("row 0 of many", exact=True).wait_for()
    assert page.get_by_text("row 9999 of many", exact=True).count() == 0
    assert page.locator(".card").count() < 800
    assert looked.console == []
