"""Pages of rows: the overview, a table's rows as the form wants them, one row, and pictures."""

from __future__ import annotations

from inspection.browse import finding, left_out
from inspection.browse.cards import as_json, cards, media_type, thumbnail
from inspection.browse.data import Data, Place, Table
from inspection.browse.doubts import tags_of
from inspection.browse.selection import ORDERS, Selection
from inspection.browse.site import PAGE, WAIT_S, Answer, Elsewhere, Query, Sent, Shown, Site, query_string, whole
from inspection.info import table_info
from pairloom.errors import InputError


def overview(site: Site, query: Query) -> Answer:
    number, data = site.dataset(query)
    tables = [{"name": stage, **table_info(folder, data.flow)} for stage, folder in data.found.tables.items()]
    return Shown("overview", {"d": data, "n": number, "tables": tables})


def pictures(site: Site, query: Query) -> Answer:
    number, data = site.dataset(query)
    table = data.table(query.get("t") or data.default_table())
    selection, page = Selection.read(query), whole(query, "page", 0)
    places, total, looked, finished = chosen(site, data, table, selection, page)
    values = {
        "d": data, "n": number, "t": table, "s": selection, "page": page, "pages": PAGE, "orders": ORDERS,
        "cards": cards(data, table, data.rows(table, places)), "total": total, "looked": looked, "finished": finished,
        "more": (page + 1) * PAGE < total or not finished,
    }  # fmt: skip
    if query.get("part"):
        return Shown("cards", values)
    return Shown("pictures", values | {"choices": choices(data, table)})


def chosen(
    site: Site, data: Data, table: Table, selection: Selection, page: int, count: int = PAGE
) -> tuple[list[Place], int, int, bool]:
    """(places of the page's rows, rows found so far, rows looked at, whether these are all)."""
    condition, order = expressions(data, table, selection)
    if not condition and not order:
        return table.places(page * count, count), table.folder.rows, table.folder.rows, True
    scan = site.scans.get(data, table, condition, order)
    places = scan.places(page * count, count, WAIT_S)
    if scan.error:
        raise scan.error
    return places, scan.count, scan.looked, scan.finished


def expressions(data: Data, table: Table, selection: Selection) -> tuple[str, str]:
    """(condition, order) in SQL."""
    columns = table.every_column
    owner = columns.get("class_ids")
    names = data.vocabulary(owner) if owner else {}
    return selection.condition(columns, names), selection.ordering(names)


def choices(data: Data, table: Table) -> dict[str, list[str]]:
    """What the form offers: vocabularies, and values of the first rows."""
    columns = table.every_column
    owner = columns.get("class_ids")
    names = data.vocabulary(owner) if owner else {}
    first = data.rows(table, table.places(0, 200), ("source", "licence", "split", "captions", "tags"))
    captions = [caption for row in first for caption in row.get("captions") or []]
    found = {name: {row.get(name) for row in first} for name in ("source", "licence", "split")}
    found |= {name: {caption.get(name) for caption in captions} for name in ("lang", "kind")}
    found["tag"] = {tag["text"] for row in first for tag in row.get("tags") or []}
    if "split" in columns:
        found["split"] |= {name.rpartition("-")[0] for name in table.folder.shards.column("name")}
    offered = {name: sorted(filter(None, values)) for name, values in found.items()}
    return offered | {"cls": names.get("names of classes", []), "attribute": names.get("names of attributes", [])}


def row(site: Site, query: Query) -> Answer:
    number, data = site.dataset(query)
    table = data.table(query.get("t") or data.default_table())
    shard, place = query.get("shard", ""), whole(query, "row", 0)
    rows = data.rows(table, [(shard, place)]) if shard in set(table.folder.shards.column("name")) else []
    if not rows:
        fix = "name a shard of the table, and a row of it"
        raise InputError(f"there is no row {place} in shard {shard!r}", str(table.folder.path), fix)
    card = cards(data, table, rows)[0]
    stated = str(rows[0].get("url") or "")
    steps = left_out.way(data, shard, card.image_id, stated)
    tags = table.every_column.get("tags")
    own = {text for text, _ in card.tags}
    ids = {bytes.fromhex(one.image_id) for caption in card.captions for one in caption.hard}
    named = tags_of(data, tags, ids) if tags else {}
    shared = {one: sorted(own & theirs) for one, theirs in named.items()}
    values = {"d": data, "n": number, "t": table, "card": card, "steps": steps, "json": as_json(rows[0])}
    return Shown("row", values | {"shared": shared, "own": own})


def find(site: Site, query: Query) -> Answer:
    """A row by the beginning of its image_id, its url, or shard:row, left out or not, else words of captions."""
    number, data = site.dataset(query)
    wanted = query.get("q", "").strip()
    if not wanted:
        return Elsewhere(f"pictures?{query_string({'d': number})}")
    found = finding.find(data, wanted) if finding.names_a_row(wanted) else None
    if found:
        where = {"d": number, "t": found.stage, "shard": found.shard, "row": str(found.row)}
        return Elsewhere(f"{'left' if found.left_out else 'row'}?{query_string(where)}")
    if ":" in wanted and " " not in wanted:
        fix = "name an image_id in hex or its beginning, a url, or shard:row such as 00000:17"
        raise InputError(f"there is no row {wanted!r}", str(data.root), fix)
    return Elsewhere(f"pictures?{query_string({'d': number, 'words': wanted})}")


def by_image(site: Site, query: Query) -> Answer:
    """The picture of an image, wherever it lies."""
    _, data = site.dataset(query)
    image_id = query.get("id", "")
    if not left_out.HEX_ID.fullmatch(image_id):
        raise InputError(f"{image_id[:40]!r} is no image_id", "the address", "write 32 digits, 0 to 9 and a to f")
    table = data.table(query.get("t") or data.default_table())
    place = places_of(data, table, {bytes.fromhex(image_id)}).get(image_id)
    if place is None:
        raise InputError(f"there is no picture of {image_id}", str(data.root), "it may be a link, or not in this table")
    stage, shard, at = place
    return image(site, {**query, "t": stage, "shard": shard, "row": str(at)})


def places_of(data: Data, table: Table, ids: set[bytes]) -> dict[str, tuple[str, str, int]]:
    """image_id in hex -> stage, shard and row of its picture."""
    if table.pictures is None:
        return {}
    found = data.locate(table.pictures, ids)
    return {image_id.hex(): (table.pictures.path.name, *place) for image_id, place in found.items()}


def image(site: Site, query: Query) -> Answer:
    """The picture of a row; with w at most so many pixels a side."""
    _, data = site.dataset(query)
    table = data.table(query.get("t", ""))
    shard, place, width = query.get("shard", ""), whole(query, "row", 0), whole(query, "w", 0)
    known = shard in set(table.folder.shards.column("name"))
    found = data.picture(table.folder, shard, place) if known and "image" in table.columns else None
    if not found:
        raise InputError("there is no picture of this row", f"{table.folder.path}, {shard}:{place}", "it may be a link")
    if width:
        try:
            return Sent(*thumbnail(found, min(width, 1600)), keep=True)
        except OSError:  # damaged: the browser shows what it can
            return Sent(found, media_type(found), keep=True)
    return Sent(found, media_type(found), keep=True)
