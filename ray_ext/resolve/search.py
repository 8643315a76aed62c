"""The search for releases that fit together: conflict-driven clause learning, as in PubGrub, over finite sets.

Each extension has *options*, kept as the bits of an integer: bit 0 leaves it out, the others stand for its releases,
the best first. A *clash* says that certain limits cannot all hold at once ("github-triage is one of these, linear-sync
is none of those"). Where all limits of a clash but one hold, the options within the last one fall away; where all
hold, the search learns a new clash from the steps that led there, and goes back as far as that one allows. A search
without success ends with the clash of nothing at all, whose derivation is the explanation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ray_ext.resolve.rules import Ask, Question, Rules, parsed
from ray_ext.resolve.universe import KnownRelease

__all__ = ["Unanswered", "search"]

_LEFT_OUT = 1

# Random universes of 1,000 releases with the tightest ranges clash 64 times at most; a clash costs up to 3 ms.
_MOST_CLASHES = 1_000


class Unanswered(Exception):
    """No releases answer the question, because ``asks`` exclude each other; without any, the search was given up."""

    def __init__(self, asks: tuple[Ask, ...]) -> None:
        super().__init__(asks)
        self.asks = asks


def search(question: Question) -> dict[str, KnownRelease]:
    """The releases by id that are asked for, with all that these need; newer releases are tried first.

    Pre-releases that no ask names are a last resort. Raises :class:`Unanswered`.
    """
    try:
        return _Search(Rules(question, with_prereleases=False)).run()
    except Unanswered:
        releases = (release for known in question.universe.releases.values() for release in known)
        if not any(parsed(release.version).is_prerelease for release in releases):
            raise
    return _Search(Rules(question)).run()


@dataclass(frozen=True, eq=False, slots=True)
class _Clash:
    """Limits that cannot all hold: because of an ask, or because it follows from two other clashes."""

    limits: Mapping[str, int]
    because: Ask | tuple[_Clash, _Clash]

    def asks(self) -> Iterator[Ask]:
        """All the asks that it follows from."""
        seen: set[_Clash] = set()
        waiting = [self]
        while waiting:
            clash = waiting.pop()
            if clash in seen:
                continue
            seen.add(clash)
            if isinstance(clash.because, Ask):
                yield clash.because
            else:
                waiting.extend(clash.because)


@dataclass(frozen=True, slots=True)
class _Step:
    """The options that an extension had left after one more step, taken at a depth of decisions.

    ``cause``: the clash that it follows from; None for a decision, and for all options at the start.
    """

    left: int
    position: int
    depth: int
    cause: _Clash | None


class _Search:
    """One search; ``run`` may be called once."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._options: dict[str, tuple[KnownRelease, ...]] = {}
        self._refusals: dict[tuple[str, str, bool], int] = {}
        # For each extension that was heard of, in that order, how its options dwindled; the trail tells in which order.
        self._steps: dict[str, list[_Step]] = {}
        self._trail: list[str] = []
        self._depth = 0
        self._clashes: dict[str, list[_Clash]] = {}
        self._asking: set[str] = set()
        self._clash_count = 0

    def run(self) -> dict[str, KnownRelease]:
        """The releases by id; raises Unanswered."""
        for extension, specifier in self._rules.question.asked.items():
            ask = Ask(id=extension, specifier=specifier)
            self._add({extension: self._refused(ask)}, ask)
        self._propagate(self._rules.question.asked)
        while (undecided := self._undecided()) is not None:
            self._depth += 1
            left = self._left(undecided)
            self._leave(undecided, left & -left, None)
            self._propagate([undecided])
        return {
            extension: self._options[extension][self._left(extension).bit_length() - 2]
            for extension in self._steps
            if not self._left(extension) & _LEFT_OUT
        }

    def _undecided(self) -> str | None:
        """The extension that takes part, has several releases left, and was heard of first: dependents go first."""
        for extension in self._steps:
            left = self._left(extension)
            if not left & _LEFT_OUT and left & (left - 1):
                return extension
        return None

    # ---- options

    def _all(self, extension: str) -> int:
        if extension not in self._steps:
            self._options[extension] = self._rules.options(extension)
            everything = (2 << len(self._options[extension])) - 1
            self._steps[extension] = [_Step(everything, -1, 0, None)]
        return self._steps[extension][0].left

    def _left(self, extension: str) -> int:
        return self._steps[extension][-1].left

    def _leave(self, extension: str, left: int, cause: _Clash | None) -> None:
        self._steps[extension].append(_Step(left, len(self._trail), self._depth, cause))
        self._trail.append(extension)

    def _refused(self, ask: Ask) -> int:
        """The options that an ask does not take."""
        key = (ask.id, ask.specifier, ask.is_optional)
        if key not in self._refusals:
            refused = self._all(ask.id)
            if self._rules.is_met_without(ask):
                refused ^= _LEFT_OUT
            for bit, release in enumerate(self._options[ask.id], 1):
                if not self._rules.misfit(ask, release):
                    refused ^= 1 << bit
            self._refusals[key] = refused
        return self._refusals[key]

    # ---- clashes

    def _add(self, limits: Mapping[str, int], because: Ask | tuple[_Clash, _Clash]) -> None:
        clash = self._clash(limits, because)
        if not clash.limits:
            raise Unanswered(tuple(clash.asks()))
        self._keep(clash)

    def _clash(self, limits: Mapping[str, int], because: Ask | tuple[_Clash, _Clash]) -> _Clash:
        """A clash without the limits that hold from the start."""
        return _Clash({each: within for each, within in limits.items() if self._all(each) & ~within}, because)

    def _keep(self, clash: _Clash) -> None:
        for extension in clash.limits:
            self._clashes.setdefault(extension, []).append(clash)

    def _hear(self, extension: str) -> None:
        """Add what the releases of an extension ask for, once it takes part."""
        if extension in self._asking or self._left(extension) & _LEFT_OUT:
            return
        self._asking.add(extension)
        bits = {release.version: 1 << bit for bit, release in enumerate(self._options[extension], 1)}
        for ask in self._rules.asks(self._options[extension]):
            if refused := self._refused(ask):
                self._add({extension: sum(bits[asker.version] for asker in ask.askers), ask.id: refused}, ask)

    def _propagate(self, changed: Iterable[str]) -> None:
        """Draw every conclusion from extensions whose options have changed."""
        waiting = dict.fromkeys(changed)
        while waiting:
            extension = next(iter(waiting))
            del waiting[extension]
            self._hear(extension)
            for clash in self._clashes.get(extension, ()):
                unmet = self._unmet(clash)
                if not unmet:
                    waiting = dict.fromkeys(self._learn(clash).limits)
                    break
                if len(unmet) == 1:
                    left = self._left(unmet[0])
                    remaining = left & ~clash.limits[unmet[0]]
                    if remaining != left:
                        self._leave(unmet[0], remaining, clash)
                        waiting[unmet[0]] = None

    def _unmet(self, clash: _Clash) -> list[str]:
        """The extensions with options outside their limits: two at most, for then nothing follows."""
        unmet: list[str] = []
        for extension, within in clash.limits.items():
            if self._steps[extension][-1].left & ~within:
                unmet.append(extension)
                if len(unmet) == 2:
                    break
        return unmet

    def _learn(self, clash: _Clash) -> _Clash:
        """Find the clash that would have shown the way earlier, and go back to where it does.

        All limits of ``clash`` hold. While its last two came to hold at the same depth, the last one is replaced by
        what it followed from.
        """
        self._clash_count += 1
        if self._clash_count > _MOST_CLASHES:
            raise Unanswered(())
        given = clash
        while clash.limits:
            steps = {each: self._step_within(each, within) for each, within in clash.limits.items()}
            last = max(steps, key=lambda each: steps[each].position)
            depth = max((step.depth for each, step in steps.items() if each != last), default=0)
            cause = steps[last].cause
            if cause is None or steps[last].depth > depth:
                self._go_back(depth)
                if clash is not given:
                    self._keep(clash)
                return clash
            clash = self._combined(clash, cause, last)
        raise Unanswered(tuple(clash.asks()))

    def _combined(self, clash: _Clash, cause: _Clash, extension: str) -> _Clash:
        """What two clashes exclude together, whichever option the extension has that they share."""
        limits = {**clash.limits}
        for each, within in cause.limits.items():
            limits[each] = limits.get(each, -1) & within
        limits[extension] = clash.limits[extension] | cause.limits[extension]
        return self._clash(limits, (clash, cause))

    def _step_within(self, extension: str, within: int) -> _Step:
        return next(step for step in self._steps[extension] if not step.left & ~within)

    def _go_back(self, depth: int) -> None:
        while self._trail and self._steps[self._trail[-1]][-1].depth > depth:
            self._steps[self._trail.pop()].pop()
        self._depth = depth
