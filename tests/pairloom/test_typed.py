"""Settings from YAML: what is converted, what is refused, and that a refusal names setting, value and cure."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
import sympy  # type: ignore[import-untyped]
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pairloom.errors import ConfigError
from pairloom.typed import Positive, Range, Share, build, check_ranges, describe, hints_of, ranges_in

HERE = "params.yaml, section example"
ROOMS = ("pairloom", "formats", "stages", "trainer", "systems", "pipeline")


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: Positive
    norm: Literal["l2", "linf"] = "l2"


@dataclass(frozen=True, kw_only=True)
class Example:
    name: str
    share: Share = 0.5
    count: Annotated[int, Range(0, 16)] | None = 3
    sides: tuple[int, ...] = (1, 2)
    pair: tuple[Share, float] = (0.0, -1.0)
    kind: Literal["a", "b"] = "a"
    probs: Positive | Literal["full", "none"] | None = None
    frequency: Positive | Share = 1
    inner: Inner | None = None
    margins: Mapping[str, float] = dataclasses.field(default_factory=dict)
    on: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)


SHARES = st.floats(0, 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
GOOD = st.fixed_dictionaries(
    {"name": st.text("abc é")},
    optional={
        "share": SHARES | st.sampled_from([0, 1]),
        "count": st.none() | st.integers(0, 16),
        "sides": st.lists(st.integers()),
        "pair": st.tuples(SHARES, NUMBERS).map(list),
        "kind": st.sampled_from("ab"),
        "probs": st.none() | st.integers(1) | st.sampled_from(["full", "none"]),
        "frequency": st.integers(1) | SHARES,
        "inner": st.none() | st.fixed_dictionaries({"width": st.integers(1)}, optional={"norm": st.just("linf")}),
        "margins": st.dictionaries(st.text("xyz", min_size=1), NUMBERS | st.integers(-9, 9)),
        "on": st.booleans(),
    },
)
# Of each setting, values that it must not have.
BAD: dict[str, st.SearchStrategy[Any]] = {
    "name": st.none() | st.integers() | st.lists(st.text()),
    "share": st.none() | st.booleans() | st.floats(min_value=1, exclude_min=True) | st.integers(2) | st.just(-0.1),
    "count": st.booleans() | st.text() | st.integers(17) | st.integers(max_value=-1) | SHARES,
    "sides": st.integers() | st.text() | st.lists(st.text(), min_size=1) | st.lists(SHARES, min_size=1),
    "pair": st.lists(SHARES).filter(lambda found: len(found) != 2) | st.just([2.0, 0.0]) | st.just(["a", 0.0]),
    "kind": st.none() | st.sampled_from(["c", "A", 1, True]),
    "probs": st.just("half") | st.integers(max_value=0) | st.booleans() | SHARES,
    "frequency": st.integers(max_value=0) | st.floats(min_value=1, exclude_min=True) | st.none() | st.booleans(),
    "inner": st.just({}) | st.just({"width": 0}) | st.just({"width": 1, "norm": "l1"}) | st.integers() | st.just([]),
    "margins": st.just({"a": "b"}) | st.integers() | st.none() | st.lists(st.integers()),
    "on": st.none() | st.integers() | st.sampled_from(["yes", "true"]),
}


@given(GOOD)
def test_what_yaml_holds_is_what_the_dataclass_holds(section: dict[str, Any]) -> None:
    built = build(Example, yaml.safe_load(yaml.safe_dump(section)), HERE)
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in section.items()}
    if given.get("inner"):
        given["inner"] = Inner(**given["inner"])
    assert built == Example(**given)  # absent settings have their defaults
    assert type(built.share) is float
    assert all(type(margin) is float for margin in built.margins.values())
    assert build(Example, section, HERE) == pickle.loads(pickle.dumps(built))


@pytest.mark.parametrize("name", BAD)
@given(data=st.data())
def test_a_wrong_value_is_refused_with_setting_value_and_cure(name: str, data: st.DataObject) -> None:
    section = data.draw(GOOD) | {name: data.draw(BAD[name])}
    with pytest.raises(ConfigError) as caught:
        build(Example, section, HERE)
    what, where, fix = caught.value.args
    assert name in what
    assert where == HERE
    assert fix.startswith("set it to ") or what == "the settings inner.width are missing"


@given(GOOD, st.text())
def test_an_unknown_setting_is_refused_by_its_name(section: dict[str, Any], key: str) -> None:
    if key not in {item.name for item in dataclasses.fields(Example)}:
        with pytest.raises(ConfigError) as caught:
            build(Example, section | {key: 1}, HERE)
        assert caught.value.args[0] == f"there is no setting {key}"
        assert "frequency" in caught.value.args[2]


@pytest.mark.parametrize(
    ("section", "what", "fix"),
    [
        ({}, "the settings name are missing", "add them"),
        ({"count": 17}, "count is 17", "set it to int (from 0 to 16) or null"),
        ({"frequency": 0}, "frequency is 0", "set it to int (1 or more) or float (from 0 to 1)"),
        ({"kind": "c"}, "kind is 'c'", "set it to one of 'a', 'b'"),
        ({"sides": [1, "2"]}, "sides[1] is '2'", "set it to int"),
        ({"pair": [0.5]}, "pair is [0.5]", "set it to list of 2: float (from 0 to 1) and float"),
        ({"inner": {"width": 0}}, "inner.width is 0", "set it to int (1 or more)"),
        ({"inner": {"wide": 1}}, "there is no setting inner.wide", "use one of norm, width"),
        ({"inner": {}}, "the settings inner.width are missing", "add them"),
        ({"inner": 3}, "inner is 3", "set it to mapping or null"),
        ({"margins": {"a": "b"}}, "margins.a is 'b'", "set it to float"),
    ],
)
def test_messages_read_like_this(section: dict[str, Any], what: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Example, ({"name": "x"} if section else {}) | section, HERE)
    assert caught.value.args == (what, HERE, fix)


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"share": float("nan")}, {"probs": 0}, {"kind": "c"}, {"count": 17}])
def test_a_value_from_code_is_held_to_the_same_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))} is ") as caught:
        Example(name="x", **wrong)
    assert caught.value.args[1] == f"{__name__}.Example"
    with pytest.raises(ConfigError):
        dataclasses.replace(Example(name="x"), **wrong)


QUARTERS = st.integers(-8, 8).map(lambda number: number / 4)


LEFT, RIGHT = st.sampled_from(["least", "above"]), st.sampled_from(["most", "below"])


@given(LEFT, QUARTERS | st.none(), RIGHT, QUARTERS | st.none(), QUARTERS)
def test_a_range_holds_what_an_interval_of_sympy_contains(
    left: str, low: float | None, right: str, high: float | None, value: float
) -> None:
    ends = (-sympy.oo if low is None else low, sympy.oo if high is None else high)
    interval = sympy.Interval(*ends, left_open=left == "above", right_open=right == "below")
    assert (value in Range(**{left: low, right: high})) == bool(interval.contains(value))


def test_ranges_and_types_are_said_in_words() -> None:
    said = [Range(0, 1), Range(1), Range(above=0), Range(0, below=1), Range(above=0, most=1), Range(most=3)]
    words = ["from 0 to 1", "1 or more", "above 0", "0 or more, below 1", "above 0, at most 1", "at most 3"]
    assert list(map(str, said)) == words
    assert describe(tuple[int, ...]) == "list of int"
    assert describe(tuple[float, float]) == "list of 2: float"


def settings_classes() -> Iterator[type[Any]]:
    """Every dataclass of the project's modules that has a field with a range."""
    for room in map(importlib.import_module, ROOMS):
        for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            module = None if found.name.endswith("__main__") else importlib.import_module(found.name)
            kinds = [kind for kind in vars(module or object).values() if dataclasses.is_dataclass(kind)]
            own = [kind for kind in kinds if isinstance(kind, type) and kind.__module__ == found.name]
            yield from (kind for kind in own if any(map(_ranges, _hints(kind))))


def _hints(kind: type[Any]) -> list[Any]:
    try:
        return list(hints_of(kind).values())
    except NameError:  # its types are imported for mypy alone: no class of settings
        return []


def _ranges(hint: Any) -> bool:
    return next(ranges_in(hint), None) is not None


def test_every_class_with_ranges_checks_them_when_it_is_made_in_code() -> None:
    kinds = list(settings_classes())
    assert len(kinds) > 30
    for kind in kinds:
        assert "check_ranges" in kind.__post_init__.__code__.co_names, kind
