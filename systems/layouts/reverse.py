r"""A layout read backwards: what a published file would call our tensors, and what it would hold.

A rule's expression becomes a name again by putting the groups of our name into it. That works for expressions of plain
text, escapes, `(?:a|b)` and `(?:a)?` around groups that our name has; what comes out is checked against the rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, equal

from trainer.published import Layout, Rule


@dataclass(frozen=True)
class Given:
    """What a file of the layout holds. left_over: our names without a place there; unequal: of these, copies that the
    file has once but that are not equal here."""

    tensors: Mapping[str, Tensor]
    sources: Mapping[str, tuple[str, ...]]  # published name -> ours
    left_over: tuple[str, ...]
    unequal: tuple[str, ...]


def give(own: Mapping[str, Tensor], layout: Layout, prefixed: bool = True) -> Given:
    """Our tensors by the layout's names. prefixed: whether what a name may begin with is written."""
    found: dict[str, list[tuple[Rule, str]]] = {}
    rules = [Backwards.of(rule, place) for rule in layout.rules if rule.written for place in rule.places]
    for backwards in rules:
        for name in own:
            published = backwards.name_of(name, prefixed)
            if published is not None:
                found.setdefault(published, []).append((backwards.rule, name))
    tensors, sources, unequal = {}, {}, []
    for published, entries in found.items():
        names = [name for _, name in entries]
        value = _joined([(rule, own[name]) for rule, name in entries])
        if value is None:
            unequal += names
            continue
        tensors[published], sources[published] = value.contiguous(), tuple(names)
    used = {name for names in sources.values() for name in names}
    left_over = tuple(name for name in own if name not in used)
    return Given(tensors, sources, left_over, tuple(name for name in unequal if name not in used))


def _joined(entries: list[tuple[Rule, Tensor]]) -> Tensor | None:
    """The published tensor. None where ours do not say one."""
    rules, values = [rule for rule, _ in entries], [value for _, value in entries]
    if rules[0].change is None:
        return values[0] if all(equal(value, values[0]) for value in values) else None
    back = next((rule.back for rule in rules if rule.back is not None), None)
    return None if back is None else back(values)


@dataclass(frozen=True)
class Backwards:
    """One place of a rule, ready to be read backwards."""

    rule: Rule
    place: str
    ours: re.Pattern[str]
    numbers: tuple[int, ...]  # of the rule's groups, in the order in which our names have them
    pieces: tuple[str, ...]  # of the rule's expression

    @classmethod
    def of(cls, rule: Rule, place: str) -> Backwards:
        pieces = _pieces(rule.name)
        groups = [piece for piece in pieces if _captures(piece)]
        parts = re.split(r"\\(\d)", place)  # text, group, text, group …
        numbers = tuple(int(number) for number in parts[1::2])
        captured = [f"({re.sub(r'[(](?![?])', '(?:', groups[number - 1][1:])}" for number in numbers]
        pattern = "".join(a + b for a, b in zip(map(re.escape, parts[::2]), [*captured, ""], strict=True))
        return cls(rule, place, re.compile(pattern), numbers, tuple(pieces))

    def name_of(self, ours: str, prefixed: bool = True) -> str | None:
        """The published name that becomes `ours`. None if there is none."""
        match = self.ours.fullmatch(ours)
        if match is None:
            return None
        values = dict(zip(self.numbers, match.groups(), strict=True))
        name, number = "", 0
        for piece in self.pieces:
            number += _captures(piece)
            name += values.get(number, "") if _captures(piece) else _plain(piece, prefixed)
        found = re.fullmatch(self.rule.name, name)
        return name if found is not None and found.expand(self.place) == ours else None


def _captures(piece: str) -> bool:
    return piece.startswith("(") and not piece.startswith("(?:")


def _pieces(expression: str) -> list[str]:
    """An expression cut at its outer brackets. These stay with a question mark that follows."""
    pieces, start, depth = [], 0, 0
    for place, sign in enumerate(expression):
        if sign == "(":
            if not depth:
                pieces.append(expression[start:place])
                start = place
            depth += 1
        elif sign == ")":
            depth -= 1
            if not depth:
                end = place + 1 + expression[place + 1 : place + 2].count("?")
                pieces.append(expression[start:end])
                start = end
    return [*pieces, expression[start:]]


def _plain(piece: str, prefixed: bool) -> str:
    """What stands there as text: of alternatives the first, nothing of what is optional unless `prefixed`."""
    if piece.startswith("(?:"):
        if piece.endswith("?") and not prefixed:
            return ""
        piece = piece.removesuffix("?")[3:-1].partition("|")[0]
    return piece.replace("\\", "")
