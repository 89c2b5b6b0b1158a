"""One damage to something that we keep, then each command that may meet it. No test stands here.

What is damaged: everything in the workdir (index, plans, caches, records of runs), below a target's ``.coco-diy``, what
is at a target but labels and images (archives, annotations, YAML), and what this machine noted of its manifests. A
command that changes the target must end in the bytes of a fresh build; one that does not must say what is wrong, or
be right; and the build after it must be right.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.support.faults import DAMAGES, Damage
from tests.support.ground import Ground, sound

#: The commands that follow a damage, see `Damages`.
HOWS = ("again", "swapped", "verify", "repair", "plan", "stats", "stats of the target", "status")

#: Exit code of a command that another run is in the way of.
IN_USE = 5

#: What `verify` says nothing of: no file of the subset hangs by them.
_NO_PART = ("runs/", "lock", "tmp/", "splits.csv", "problems.parquet")


class Damages:
    """Damages of the files of a kind of build, and what must hold when a command follows."""

    def __init__(self, ground: Ground) -> None:
        self.ground, self.kind = ground, ground.kind
        self._facts: dict[str, Any] = {}

    def states(self, how: str) -> tuple[str, ...]:
        """What may be damaged before `how`."""
        if self.kind.swapped and how != "again":
            return ("built", "built", "under way")
        return ("built",)

    def files(self) -> list[Path]:
        """Files that we keep, now."""
        found = []
        for place in self.ground.all_places:
            for path in sorted(place.rglob("*")):
                below = path.relative_to(place).parts
                if path.is_file() and not {"labels", "images"} & set(below[:1]):
                    found.append(path)
        return found

    def donors(self, files: list[Path]) -> dict[Path, list[Path]]:
        """By file of `files`: those akin to it, of this build and of the one with other classes."""
        found: dict[Path, list[Path]] = {}
        for number, place in enumerate(self.ground.all_places):
            saved = [self.ground.saved / state / str(number) for state in ("built", "swapped")]
            for path in (p for p in files if p.is_relative_to(place)):
                below = path.relative_to(place)
                found[path] = sorted(
                    other
                    for folder in (place, *saved)
                    for other in (folder / below.parent).glob(f"*{below.suffix}")
                    if other.is_file() and other != path
                )
        return found

    def do_one(self, rng: Random, how: str) -> str:
        """Damage a file, run the command `how`, and check; returns what was done, in a sentence."""
        if not self.kind.swapped and (how != "repair" or self.kind.first is None):
            how = "again"
        state = rng.choice(self.states(how))
        wanted = self._undisturbed(how, state)
        self.ground.reset(state)
        places = [self.kind.target, self.kind.target, self.kind.work, self.kind.work, self.ground.all_places[-1]]
        place = rng.choice(places)
        files = [path for path in self.files() if path.is_relative_to(place)] or self.files()
        hows = tuple(d for d in DAMAGES if d != "folder" or self.kind.at_store is None)
        damage = Damage.drawn(rng, files, self.donors(files), hows)
        damage.do(rng)
        self.kind.refresh()
        told = f"{self.kind.name}, {state}: {self._name(damage.path)}: {damage.how}, then {how}"
        self._follow(how, state, damage, wanted, told)
        return told

    def _name(self, path: Path) -> str:
        place = next(p for p in self.ground.all_places if path.is_relative_to(p))
        return f"{place.name}/{path.relative_to(place)}"

    def _words(self, how: str, state: str) -> list[str]:
        kind = self.kind
        more = kind.swapped if how == "swapped" or (how == "again" and state == "under way") else []
        if how in ("again", "swapped"):
            return kind.command(*more)
        target = kind.config["target"]["root"]
        return {
            "verify": ["verify", target, "--deep", "--json"],
            "repair": kind.command(words=["verify", "{config}", "--deep", "--repair", "--json"]),
            "plan": kind.command("--json", words=["plan", "{config}"]),
            "stats": kind.command("--json", words=["stats", "{config}"]),
            "stats of the target": ["stats", target, "--json"],
            "status": ["status", target, "--json"],
        }[how]

    def _undisturbed(self, how: str, state: str) -> dict[str, Any]:
        """What the command prints where nothing is damaged."""
        key = f"{how}, {state}"
        if how in ("again", "swapped"):
            return {}
        if key not in self._facts:
            self.ground.reset(state)
            result = self.ground.run(self._words(how, state), code=None)
            self._facts[key] = json.loads(result.out) | {"exit_code": result.code}
        found: dict[str, Any] = self._facts[key]
        return found

    def _follow(self, how: str, state: str, damage: Damage, wanted: dict[str, Any], told: str) -> None:
        ground, kind = self.ground, self.kind
        result = ground.run(self._words(how, state), code=None)
        sound(result, told)
        expected, words = ground.expected, kind.command()
        if damage.path.name == "lock" and kind.at_store is not None:
            # Nobody knows whose it is: it ends by itself two minutes after the last sign of life.
            assert result.code != IN_USE or "is in use by another process" in result.err, (told, result)
            damage.path.unlink(missing_ok=True)
            kind.refresh()
            result = ground.run(self._words(how, state), code=None)
        if result.code == 1 and damage.path.name == "splits.csv" and how == "swapped":
            # There are groups that only it may know of: what mends it is for the user to decide.
            assert "the split table is damaged; restore it, or delete it" in result.err, (told, result)
            damage.path.unlink()
        elif how in ("again", "swapped", "repair"):
            assert result.code == 0, (told, result.code, result.err, result.out)
            if how == "swapped":
                expected, words = ground.swapped, self._words(how, state)
            kind.refresh()
            assert kind.result() == expected, f"{told}: other bytes"
        elif how == "verify":
            self._check_verify(state, damage, wanted, json.loads(result.out), told)
        elif how == "stats of the target" and result.code:
            assert "build" in result.err, (told, result.err)
        else:
            facts = json.loads(result.out)
            for key in {"stats": ("subset",), "stats of the target": ("subset",), "plan": ("subset",)}.get(how, ()):
                assert facts.get(key) == wanted.get(key), (told, key, facts.get(key), wanted.get(key), result.err)
            if how == "status":
                invented = [run for run in facts["recent"] if run not in wanted["recent"]]
                assert not invented, (told, invented)
        if kind.at_store is not None and "manifest/" in told and how not in ("swapped", "repair"):
            # A build that has nothing to do reads no parts from a store: `verify` names one, and a repair mends it.
            ground.run(kind.command(words=["verify", "{config}", "--repair"]))
        ground.check(words, expected, f"{told}, then build")

    def _check_verify(
        self, state: str, damage: Damage, wanted: dict[str, Any], found: dict[str, Any], told: str
    ) -> None:
        """A damage at the target is among the differences, or the sentence names the file that it is about."""
        if not damage.path.is_relative_to(self.kind.target):
            assert found.get("differences") == wanted.get("differences"), (told, found)
            return
        name = str(damage.path.relative_to(self.kind.target))
        if name.removeprefix(".coco-diy/").startswith(_NO_PART):
            return
        if "intent" in name:
            return
        assert found["exit_code"] == 1, (told, found)
        if state == "under way":  # that the run did not end is said of all that it touches
            return
        if "listed" in found:
            assert name in {d["path"] for d in found["listed"]}, (told, found)
        else:
            assert ".coco-diy" in found["error"], (told, found)
