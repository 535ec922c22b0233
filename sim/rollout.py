"""Rollouts on the slow clock: from one version of a model to another, or back (rule 18)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from serve.policy.codes import OUTCOME_OK
from serve.policy.scaling.nanoseconds import SECOND_NS
from serve.policy.scaling.rollout import Count, RollingSettings, given_up, rolled, rolling, split
from sim.agenda import Agenda, Order
from sim.fleet import Fleet
from sim.history import History, Rolled
from sim.plane import BUFFER
from sim.release import Release


@dataclass(frozen=True, slots=True)
class Stage:
    """A share of the traffic that the new version has for a while, once it has the replicas for it."""

    share: float
    hold_ns: int = 0


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """What a rollout does, and when.

    Parameters
    ----------
    to : number of the version, among those of its model.
    rolling : replica by replica; None: in `stages`, the last of which has all of the traffic and holds the replicas of
        the other versions as they were.
    classes : of the plane's requests, those that the new version serves.
    min_ready_ns : how long a replica must have been in rotation before it counts.
    progress_ns : how long none may come to count while some are waited for.
    abort_share : of the new version's requests that may fail, looked at every `check_ns`; None: none is looked at.
    """

    at_ns: int
    to: int
    rolling: RollingSettings | None = None
    stages: Sequence[Stage] = (Stage(1.0),)
    classes: Sequence[int] = ()
    min_ready_ns: int = 0
    progress_ns: int = 600 * 10**9
    abort_share: float | None = None
    check_ns: int = 10 * 10**9


class Rollout(ABC):
    """One that is under way; see `Rolling` and `Staged`."""

    def __init__(self, plan: RolloutPlan, release: Release, agenda: Agenda, history: History, why: str = "") -> None:
        self._plan, self._release, self._agenda, self._history = plan, release, agenda, history
        self._why = why  # another one was given up, which this one takes back
        self._new = release.fleets[plan.to]
        self._old = [fleet for number, fleet in enumerate(release.fleets) if number != plan.to]
        self._before = release.shares
        self._asked = self._over = False
        self._available, self._progressed_ns = 0, self._now_ns
        self._counted = self._outcomes()

    @staticmethod
    def begin(plan: RolloutPlan, release: Release, agenda: Agenda, history: History, why: str = "") -> None:
        """From now on it is under way; one that still was is left where it is."""
        if release.under_way is not None:
            release.under_way.end("another one began")
        kind = Staged if plan.rolling is None else Rolling
        begun = release.under_way = kind(plan, release, agenda, history, why)
        begun.step()
        if plan.abort_share is not None:
            begun.check_later()

    @property
    def _now_ns(self) -> int:
        return self._new.now_ns

    @abstractmethod
    def step(self) -> None:
        """Do what there is to be done now."""

    @abstractmethod
    def roll_back(self, why: str) -> None:
        """What was begun is taken back, for a reason."""

    # -- when to look -------------------------------------------------------------------------------------

    def look_again(self) -> None:
        """Something has changed: it is looked at when all else of this instant has been done."""
        if not self._asked:
            self._asked = True
            self._agenda.at(self._now_ns, Order.ROLLOUT, self._look)

    def _look(self) -> None:
        self._asked = False
        if not self._over:
            self.step()

    def _look_at(self, at_ns: int) -> None:
        self._agenda.at(at_ns, Order.ROLLOUT, self.look_again)

    def check_later(self) -> None:
        """The new version's requests are looked at in a while."""
        self._agenda.at(self._now_ns + self._plan.check_ns, Order.ROLLOUT, self._check)

    def _check(self) -> None:
        if self._over:
            return
        self.give_up(0)
        if not self._over:
            self.check_later()

    # -- how it stands ------------------------------------------------------------------------------------

    def count(self, fleet: Fleet) -> Count:
        """Of the replicas that a version is to have those that count, and the others."""
        since_ns = self._now_ns - self._plan.min_ready_ns
        staying = [r.rotated_ns for r in fleet.replicas.values() if not r.leaving and r.rotated_ns is not None]
        available = sum(rotated_ns <= since_ns for rotated_ns in staying)
        return Count(available, max(0, fleet.wanted - available))

    def is_waited_for(self, fleet: Fleet) -> bool:
        """Whether requests wait at the router for a replica of a version: its last one must not go."""
        waits = self._release.plane.scrape(BUFFER - fleet.plan.group).gauges.waiting > 0
        if waits:
            self._look_at(self._now_ns + SECOND_NS)
        return waits

    def note_progress(self) -> None:
        """Replicas that have come to count since are progress; of those that will, when is known."""
        available = self.count(self._new).available
        if available > self._available:
            self._progressed_ns = self._now_ns
        self._available = available
        for replica in self._new.rotation:
            assert replica.rotated_ns is not None
            counts_ns = replica.rotated_ns + self._plan.min_ready_ns
            if counts_ns > self._now_ns:
                self._look_at(counts_ns)

    def wait(self) -> None:
        """Replicas are waited for, but not for ever."""
        if self._now_ns < self._progressed_ns + self._plan.progress_ns:
            self._look_at(self._progressed_ns + self._plan.progress_ns)
        self.give_up(self._now_ns - self._progressed_ns)

    def give_up(self, waited_ns: int) -> None:
        """It is rolled back if it has waited for too long, or too many requests have failed."""
        counts = self._outcomes()
        answered = sum(counts) - sum(self._counted)
        failed = answered - (counts[OUTCOME_OK] - self._counted[OUTCOME_OK])
        share = 1.0 if self._plan.abort_share is None else self._plan.abort_share
        why = given_up(waited_ns, self._plan.progress_ns, failed, answered, share)
        if why and not self._why:
            self.end(why)
            self.roll_back(why)

    def _outcomes(self) -> list[int]:
        """Requests of the new version that have come to their end, by outcome."""
        counts: list[int] = self._release.plane.outcomes()[list(self._plan.classes)].sum(axis=0).tolist()
        return counts

    def end(self, given_up: str = "") -> None:
        """It is over."""
        self._over, self._release.under_way = True, None
        if not self._why:
            self._history.rollouts.append(Rolled(self._now_ns, given_up))


class Rolling(Rollout):
    """Replica by replica; requests go to the versions by how many of their replicas are in rotation."""

    def step(self) -> None:
        """Start and drain as many as the bounds allow."""
        wanted, settings = self._release.wanted, self._plan.rolling
        assert settings is not None
        self.note_progress()
        if self._new.wanted > wanted:
            self._new.resize(wanted)
        counts = [self.count(fleet) for fleet in self._old]
        old = Count(sum(count.available for count in counts), sum(count.other for count in counts))
        step = rolling(settings, wanted, old, self.count(self._new))
        if step.start:
            self._new.resize(self._new.wanted + step.start)
        self._shrink(step.end_other + step.drain)
        rotation = [len(fleet.rotation) for fleet in self._release.fleets]
        if any(rotation):
            self._release.route(rotation)
        if rolled(wanted, Count(0, sum(fleet.wanted for fleet in self._old)), self.count(self._new)):
            self._finish()
        else:
            self.wait()

    def _shrink(self, count: int) -> None:
        """So many replicas of other versions go, of the last version first; of each one stays until a new one counts
        and nobody waits for it."""
        for fleet in reversed(self._old):
            stays = self.is_waited_for(fleet) or self.count(self._new).available == 0
            less = min(count, fleet.wanted - stays)
            if less > 0:
                fleet.resize(fleet.wanted - less)
                count -= less

    def _finish(self) -> None:
        """When the last old replica has left the rotation, all requests are the new version's."""
        if any(fleet.rotation for fleet in self._old):
            return
        self._release.route([float(fleet is self._new) for fleet in self._release.fleets])
        self.end()

    def roll_back(self, why: str) -> None:
        """The version that had most of the traffic comes back as this one came."""
        back = max(range(len(self._before)), key=lambda number: self._before[number])
        plan = replace(self._plan, to=back, abort_share=None)
        Rollout.begin(plan, self._release, self._agenda, self._history, why)


class Staged(Rollout):
    """By shares of the traffic: a canary's, or all of it at once (blue/green)."""

    def __init__(self, plan: RolloutPlan, release: Release, agenda: Agenda, history: History, why: str = "") -> None:
        super().__init__(plan, release, agenda, history, why)
        self._stage = 0
        self._holds = False

    def step(self) -> None:
        """Have the replicas that the stage needs; once they are there, its traffic."""
        self.note_progress()
        self._resize()
        if self._holds:
            return
        stage = self._plan.stages[self._stage]
        if self.count(self._new).available < self._wanted(stage.share)[self._plan.to]:
            self.wait()
            return
        self._release.route(self._shares(stage.share))
        self._holds = True
        self._agenda.at(self._now_ns + stage.hold_ns, Order.ROLLOUT, self._next)
        self._resize()

    def _next(self) -> None:
        """A stage has lasted for its time."""
        if self._over:
            return
        if self._stage + 1 == len(self._plan.stages) and any(self.is_waited_for(fleet) for fleet in self._old):
            self._agenda.at(self._now_ns + SECOND_NS, Order.ROLLOUT, self._next)
            return
        self._stage, self._holds = self._stage + 1, False
        self._progressed_ns = self._now_ns
        if self._stage == len(self._plan.stages):
            self.end()
            self._release.spread()
        else:
            self.step()

    def _resize(self) -> None:
        """Each version has the replicas for its share; the new one for that of the stage which it prepares for, and the
        others keep theirs while the last one holds."""
        share = self._plan.stages[self._stage].share
        wanted = split(self._release.wanted, self._release.shares)
        wanted[self._plan.to] = self._wanted(share)[self._plan.to]
        for number, fleet in enumerate(self._release.fleets):
            keeps = fleet is not self._new and share == 1.0
            fleet.resize(max(wanted[number], min(fleet.wanted, self._release.wanted)) if keeps else wanted[number])

    def _wanted(self, share: float) -> list[int]:
        return split(self._release.wanted, self._shares(share))

    def _shares(self, share: float) -> list[float]:
        """By version, where the new one has a share of the traffic and the others divide the rest as before."""
        others = sum(self._before) - self._before[self._plan.to]
        rest = [0.0 if others == 0 else (1 - share) * before / others for before in self._before]
        rest[self._plan.to] = share
        return rest

    def roll_back(self, why: str) -> None:
        """Traffic and replicas are as they were before."""
        self._release.route(self._before)
        self._release.spread()
