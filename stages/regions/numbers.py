"""The numbers of a selection that a detector's file and then params.yaml or the command line may set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, Protocol

from pairloom.errors import ConfigError
from pairloom.typed import Range, Share, check_ranges
from stages.regions.select import Policy

Nms = Share | tuple[Share, ...] | None


class Given(Protocol):
    """What may set numbers: a detector's entry, or the stage's Config. None leaves what was there."""

    @property
    def min_regions(self) -> int | None: ...
    @property
    def max_regions(self) -> int | None: ...
    @property
    def min_score(self) -> float | None: ...
    @property
    def nms(self) -> float | tuple[float, ...] | None: ...


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Those that a detector's file sets over its policy's own. Null is the policy's."""

    min_regions: Annotated[int, Range(0, 100)] | None = None
    max_regions: Annotated[int, Range(1, 100)] | None = None
    min_score: Share | None = None
    nms: Nms = None

    def __post_init__(self) -> None:
        check_ranges(self)


def applied(policy: Policy, given: Given, where: str) -> Policy:
    """The policy with the numbers that are given.

    Where one end of min_regions to max_regions is given, the other gives way. Raises ConfigError if both are given and
    the least is more than the most, or for a list of thresholds that does not rise or that the rule has no use for.
    """
    chosen: dict[str, Any] = {}
    low, high = given.min_regions, given.max_regions
    if low is not None and high is not None and low > high:
        what = f"regions.min_regions is {low} and regions.max_regions is {high}"
        raise ConfigError(what, where, "set min_regions to at most max_regions")
    if low is not None:
        chosen |= {"min_regions": low, "max_regions": max(low, policy.max_regions)}
    if high is not None:
        chosen |= {"min_regions": min(high, policy.min_regions) if low is None else low, "max_regions": high}
    if given.min_score is not None:
        chosen["min_score"] = given.min_score
    if isinstance(given.nms, tuple):
        _check_steps(policy, given.nms, where)
        chosen |= {"nms": given.nms[0], "steps": given.nms}
    elif given.nms is not None:
        chosen |= {"nms": given.nms, "steps": None}
    return replace(policy, **chosen)


def _check_steps(policy: Policy, steps: tuple[float, ...], where: str) -> None:
    what = f"regions.nms is {list(steps)}"
    if not steps or any(one >= other for one, other in pairwise(steps)):
        raise ConfigError(what, where, "list thresholds that rise, such as [0.5, 0.6, 0.7]")
    if policy.rule not in ("stepped", "class-boxes"):
        raise ConfigError(f"{what}, but this selection has one threshold", where, "set one number")
