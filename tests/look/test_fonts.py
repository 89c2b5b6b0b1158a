"""Names on pictures: a font of the machine has their letters, or they are numbers; never boxes, never backwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from pipeline import storage
from pipeline.base.errors import UsageError
from pipeline.base.text import composed, printable
from pipeline.look import fonts
from pipeline.look.fonts import Lettering
from tests.conftest import Run
from tests.support.helpers import PROJECT

CYRILLIC, HEBREW = "велосипед", "שלום"

#: A font with Cyrillic and Hebrew letters, which Debian's desktop and its Chromium bring.
_DEJAVU = "DejaVuSans.ttf"

_FOLDERS = fonts._FOLDERS


@pytest.fixture
def dejavu() -> Path:
    """The file of a font with letters that Pillow's own lacks."""
    for folder in map(storage.locate, _FOLDERS):
        for name in folder.names() if folder.exists() else ():
            if name.endswith(_DEJAVU):
                return Path(folder.join(name))
    pytest.skip(f"needs {_DEJAVU} (Debian: fonts-dejavu-core)")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any font."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(fonts, "_FOLDERS", ())


def drawn(letters: Lettering, text: str, size: int = 30) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """What is written: the columns from the first to the last with ink."""
    image = Image.new("L", (900, 60))
    letters.write(image, (5, 10), letters.line(text), size, "white")
    pixels = np.asarray(image)
    columns = np.flatnonzero(pixels.any(axis=0))
    return pixels[:, columns[0] : columns[-1] + 1] if len(columns) else pixels[:, :0]


@given(st.text(max_size=40))
def test_what_is_written_can_be_read(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        patch.setattr(fonts, "_FOLDERS", ())
        letters = Lettering()
        line = letters.line(text)
        own = ImageFont.load_default(24)
        never = bytes(own.getmask("\U0010ffff"))
        shown = {c for c in line if not c.isspace() and not fonts._is_joint(c)}
        assert not [c for c in shown if bytes(own.getmask(c)) == never or own.getmask(c).getbbox() is None]
        if not letters.lacking:
            assert line == printable(composed(text))
        assert len(letters.advice()) == bool(letters.lacking)
        assert letters.length(letters.cut(text, 80, 11), 11) <= max(80, letters.length("…", 11))


@pytest.mark.usefixtures("alone")
def test_without_a_font_names_are_numbers() -> None:
    letters = Lettering()
    assert letters.line("家 cat") == "\\u5bb6 cat"
    assert "U+5BB6: no font" in str(letters.advice())
    assert "fonts-noto-cjk" in str(letters.advice())
    letters.line(f"🚲 {CYRILLIC}")
    assert "fonts-noto-cjk, fonts-noto-color-emoji, fonts-noto-core" in str(letters.advice())


@pytest.mark.parametrize("fontconfig", [True, False])
def test_fonts_of_the_machine_are_found(dejavu: Path, fontconfig: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if fontconfig and shutil.which("fc-match") is None:
        pytest.skip("needs fc-match (Debian: fontconfig)")
    if not fontconfig:
        monkeypatch.setenv("PATH", "/nowhere")
    letters = Lettering()
    assert letters.line(CYRILLIC) == CYRILLIC
    assert letters.advice() == []
    assert drawn(letters, CYRILLIC).any()
    # The letters are those of a font that has them: each differs from its neighbours, as no boxes do.
    assert len({drawn(letters, letter).tobytes() for letter in CYRILLIC}) == len(set(CYRILLIC))


@pytest.mark.usefixtures("alone")
def test_a_font_that_is_named_is_taken(dejavu: Path, tmp_path: Path) -> None:
    letters = Lettering(str(dejavu))
    assert letters.line(CYRILLIC) == CYRILLIC
    assert not np.array_equal(drawn(letters, "cat"), drawn(Lettering(), "cat"))
    for path in (tmp_path / "gone.ttf", tmp_path, Path(__file__)):
        with pytest.raises(UsageError, match="is no font that can be read"):
            Lettering(str(path))


@pytest.mark.usefixtures("alone")
def test_from_right_to_left(dejavu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = Lettering(str(dejavu))
    if fonts._orders():
        whole, first, last = (drawn(letters, text) for text in (HEBREW, HEBREW[0], HEBREW[-1]))
        assert np.array_equal(whole[:, -first.shape[1] :], first)
        assert np.array_equal(whole[:, : last.shape[1]], last)
        # A line begins at its left, whatever it begins with; its Latin letters are where they are without the name.
        latin = drawn(letters, "jpg")
        assert np.array_equal(drawn(letters, f"{HEBREW}.jpg")[:, -latin.shape[1] :], latin)
        assert np.array_equal(drawn(letters, f"jpg.{HEBREW}")[:, : latin.shape[1]], latin)
    fonts._has.cache_clear()
    monkeypatch.setattr(fonts, "_orders", lambda: False)
    letters = Lettering(str(dejavu))
    assert letters.line(f"{CYRILLIC} {HEBREW}") == CYRILLIC + " \\u05e9\\u05dc\\u05d5\\u05dd"
    assert "libfribidi0" in str(letters.advice())
    fonts._has.cache_clear()


@pytest.mark.usefixtures("alone")
def test_show_says_what_it_could_not_write(run: Run, tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "tests/sample/detect", tmp_path / "set")
    names = yaml.safe_load((PROJECT / "conf/coco.yaml").read_text())["names"] | {1: "自転車"}
    (tmp_path / "set/data.yaml").write_text(yaml.safe_dump({"names": names}, allow_unicode=True))
    words = ("show", tmp_path / "set", "-o", tmp_path / "x.png", "--workdir", tmp_path / "w")
    (warning,) = run(*words, "--json").json["warnings"]
    assert "fonts-noto-cjk" in warning
    assert "no font that can be read" in run(*words, "--font", tmp_path / "gone.ttf", code=2).err
