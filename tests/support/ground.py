"""A kind of build with the states that faults begin from, and what must hold after each. No test stands here."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from pipeline.storage.archives import table
from tests.conftest import Run
from tests.support.faults import copy_tree, run_under
from tests.support.helpers import Result
from tests.support.kinds import Kind, spoil


def sound(result: Result, told: str) -> None:
    """However a run ended, it said so in a sentence."""
    assert "Traceback" not in result.err, (told, result.err)
    assert "internal error" not in result.err, (told, result.err)


class Ground:
    """A kind of build, made once without a disturbance, and put back as it was before each fault.

    Its states: ``nothing``; ``built``; ``swapped``, which has other classes; ``under way``, a change to other classes
    that was killed. `state` is the folder in which this machine notes what it wrote.
    """

    def __init__(self, kind: Kind, state: Path, run: Run) -> None:
        self.kind, self._run = kind, run
        self._calls: dict[tuple[str, ...], int] = {}
        self.state = "nothing"
        self.places = [kind.target, kind.work]
        self.all_places = [*self.places, state]
        self.saved = kind.folder.parent / f"{kind.folder.name}-saved"
        self.run(kind.command(words=kind.first))
        self.expected = kind.result()
        assert self.expected
        self._save("built")
        self.swapped = self.expected
        if kind.swapped:
            self.run(kind.command(*kind.swapped))
            self.swapped = kind.result()
            assert self.swapped != self.expected
            self._save("swapped")

    def _save(self, name: str) -> None:
        for number, place in enumerate(self.all_places):
            if place.exists():
                copy_tree(place, self.saved / name / str(number))

    def run(self, words: list[str], code: int | None = 0) -> Result:
        """A plain run; what this process remembers of archives is not to help it."""
        table._TABLES.clear()
        return self._run(*words, code=code)

    def reset(self, state: str) -> None:
        """Target and workdir as they were in that state."""
        if state == "under way" and not (self.saved / state).exists():
            self.reset("built")
            words = [*self.kind.command(*self.kind.swapped), "-q"]
            calls = self.calls(words, Random(0), last=True)
            run_under(self.places, "kill", calls * 2 // 3, words)
            self._save(state)
        self.state = state
        for number, place in enumerate(self.all_places):
            shutil.rmtree(place, ignore_errors=True)
            if (self.saved / state / str(number)).exists():
                copy_tree(self.saved / state / str(number), place)
        if state == "built":
            spoil(self.kind)
        self.kind.refresh()

    def begin(self, rng: Random) -> tuple[list[str], dict[str, bytes], str]:
        """Words of a run to be disturbed and what it must end in: a first one, one again, or one of other classes."""
        how = "repair" if self.kind.first else rng.choice(("first", "swapped" if self.kind.swapped else "again"))
        self.reset("nothing" if how == "first" else "built")
        words = self.kind.command(*(self.kind.swapped if how == "swapped" else ()))
        return words, self.swapped if how == "swapped" else self.expected, f"{self.kind.name}, {how}"

    def calls(self, words: list[str], rng: Random, *, last: bool = False) -> int:
        """One of the file calls of the run, which begins from the state of now, or their number."""
        key = (self.state, *words)
        if key not in self._calls:
            found = run_under(self.places, "count", 0, [*words, "-q"])
            assert found.code == 0, found.err
            self._calls[key] = int(found.out.split()[-1])
            self.reset(self.state)
        return self._calls[key] if last else rng.randint(1, max(self._calls[key], 1))

    def check(self, words: list[str], expected: dict[str, bytes], told: str) -> None:
        """A plain run ends as if nothing had happened, and what vouches for it says so."""
        self.kind.refresh()
        result = self.run(words, code=None)
        assert result.code == 0, (told, result)
        assert self.kind.result() == expected, told
        if self.kind.name != "fetch":
            found = self.run(["verify", words[1], "--deep", "--json"])
            assert found.json["differences"] == {}, told
