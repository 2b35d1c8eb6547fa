"""How soon a host may be asked again: our own courtesy, what its robots.txt asks for, and what it bears."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_S = 0.05  # before the first refusal a host is taken to bear a request in this time, if we ask faster than that
SLOWEST_S = 30.0
APART_S = 1.0  # between two refusals that count: servers count by the second
CLIMB = 0.1  # requests a second by which the rate grows in each second
STEEPEST = 0.1  # share of the rate by which it grows with one answer


@dataclass
class Pace:
    """The pause from the start of one request to a host to the start of the next, in seconds.

    A refusal (status 429, or 503 with Retry-After) halves the rate, an answer raises it again: additive increase and
    multiplicative decrease, as TCP does, find the rate that a server bears without knowing its rule.
    """

    own_s: float  # what is polite
    asked_s: float = 0.0  # Crawl-delay
    borne_s: float = 0.0  # found by refusals; 0: it has refused nothing
    slowed_at: float = float("-inf")

    @property
    def pause_s(self) -> float:
        return max(self.own_s, self.asked_s, self.borne_s)

    @property
    def imposed(self) -> bool:
        """Whether the host makes us slower than we would be."""
        return self.pause_s > self.own_s

    def refused(self, now: float, started: float) -> None:
        """A request was refused for its rate. started: when it was sent.

        Refusals within a second count once, and so do those of requests that were on their way.
        """
        if started >= self.slowed_at and now >= self.slowed_at + APART_S:
            self.borne_s = min(SLOWEST_S, 2 * max(self.borne_s, self.own_s, FIRST_S))
            self.slowed_at = now

    def bore(self) -> None:
        """A request was answered."""
        if self.borne_s:
            rate = 1 / self.borne_s
            self.borne_s = 1 / (rate + min(CLIMB * self.borne_s, STEEPEST * rate))
            if self.borne_s <= max(self.own_s, FIRST_S / 2):
                self.borne_s = 0.0
