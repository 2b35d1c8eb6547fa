"""The result of `diff` for a terminal: settings first, then counts, then examples."""

from __future__ import annotations

from typing import Any

SHOWN = 60  # characters of a value


def diff_text(facts: dict[str, Any]) -> str:
    lines = [f"A: {facts['a']}", f"B: {facts['b']}"]
    for side in ("a", "b"):
        lines += [f"only in {side.upper()}: {name}" for name in facts[f"only_{side}"]]
    for table in facts["tables"]:
        if not table["equal"]:
            lines += ["", *_table(table)]
    equal = [table["name"] for table in facts["tables"] if table["equal"]]
    lines += ["", f"equal: {', '.join(equal)}"] if equal else []
    return "\n".join([*lines, "", "nothing differs" if facts["equal"] else "they differ"])


def _table(table: dict[str, Any]) -> list[str]:
    some, others = table["rows"]
    both = table["equal_rows"] + table["changed"]
    lines = [f"{table['name']}: {some:,} rows and {others:,}"]
    lines += [f"  one is unfinished: {'A' if not table['complete'][0] else 'B'}"] if not all(table["complete"]) else []
    for title in ("settings", "made_by", "metadata", "schema"):
        lines += [
            f"  {title.replace('_', ' ')}  {key}: {_short(a)} → {_short(b)}" for key, (a, b) in table[title].items()
        ]
    for key, facts in table["vocabularies"].items():
        names = f"{facts['names'][0]:,} → {facts['names'][1]:,} names"
        lines.append(f"  {key}  {names}: {facts['only_a']:,} only in A, {facts['only_b']:,} only in B, "
                     f"{facts['renumbered']:,} with another number")  # fmt: skip
    lines += [f"  left out  {reason}: {a or 0:,} → {b or 0:,}" for reason, (a, b) in table["left_out"].items()]
    lines.append(f"  rows  {both:,} in both, {table['changed']:,} of them changed; "
                 f"{table['only_a']:,} only in A, {table['only_b']:,} only in B")  # fmt: skip
    lines += (
        [f"  rows  {table['moved']:,} lie elsewhere: in another shard, or in another order"] if table["moved"] else []
    )
    for column, facts in table["columns"].items():
        largest = f", numbers by {facts['largest']:.4g} at most" if facts["largest"] else ""
        lines.append(f"  column {column}  differs in {facts['rows']:,} rows{largest}")
    return [*lines, *_parts(table), *_examples(table)]


def _parts(table: dict[str, Any]) -> list[str]:
    lines = []
    if boxes := table.get("boxes"):
        moved = ", ".join(f"{count:,} {step}" for step, count in boxes["moved_by_iou"].items())
        mean = f", mean IoU {boxes['mean_iou_of_moved']:.3f}" if boxes["moved"] else ""
        lines.append(f"  boxes  differ in {boxes['images']:,} images: {boxes['moved']:,} moved ({moved}{mean}), "
                     f"{boxes['only_a']:,} only in A, {boxes['only_b']:,} only in B, "
                     f"{boxes['renamed']:,} with another class")  # fmt: skip
    for name in ("negatives", "similar"):
        lists = table.get(name)
        if lists and lists["lists"] and lists["equal"] < lists["lists"]:
            lines.append(f"  {name}  {lists['equal_share']:.1%} of {lists['lists']:,} lists are equal, "
                         f"{lists['shared_share'] or 0:.1%} of A's captions in them are in B's, too")  # fmt: skip
    return lines


def _examples(table: dict[str, Any]) -> list[str]:
    titles = {"changed": "changed", "only_a": "only in A", "only_b": "only in B"}
    return [
        f"  {title}, such as {', '.join(table['examples'][key])}"
        for key, title in titles.items()
        if table["examples"][key]
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
