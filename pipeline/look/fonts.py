"""Lines of text on pictures: which font has the letters of a name, and how a name is written that none can show.

Pillow's own font has Latin letters alone, and fonts for all that people call classes and files take more than 100 MB:
so the fonts of this machine are searched, where a name needs them.
"""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.base.errors import UsageError
from pipeline.base.humanize import plural
from pipeline.base.text import composed, printable

if TYPE_CHECKING:
    from PIL import Image, ImageFont

#: A font file, and the number of the font within it; without a path it is Pillow's own.
_Face = tuple[str | None, int]

_OWN: _Face = (None, 0)

#: Where systems keep fonts; searched where there is no fontconfig, which knows them better.
_FOLDERS = (
    "~/.local/share/fonts",
    "~/.fonts",
    "/usr/local/share/fonts",
    "/usr/share/fonts",
    "~/Library/Fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "/mnt/c/Windows/Fonts",
)

_SUFFIXES = (".ttf", ".otf", ".ttc")

#: Fonts that are tried for one letter at most, letters of one question to fontconfig, and seconds that it may take.
_TRIED, _ASKED, _SECONDS = 20, 500, 10.0

#: Pixels in which letters are compared, and the one size of fonts that are coloured pictures, as Noto Color Emoji is.
_PROBE, _COLOURED = 32, 109

#: Pillow's layout of letter after letter, `PIL.ImageFont.Layout.BASIC`; the other one adds a circle to a lone mark.
_BASIC = 0

#: A code point that is never a character (Unicode, section 23.7): a font shows for it what it shows for all it lacks.
_NEVER = "\U0010ffff"


class Lettering:
    r"""Writes lines of text: each letter in the first font that has it, else as its number, such as ``\u5bb6``.

    Fonts are `font`, a file, where one is given; Pillow's own; then those of this machine that have what these lack.
    `lacking` are the letters so far that none has. Raises `UsageError` for a `font` that cannot be read.
    """

    def __init__(self, font: str | None = None) -> None:
        self._faces: list[_Face] = [_OWN]
        self._known: set[str] = set()
        self.lacking: set[str] = set()
        if font is not None:
            given = (os.path.expanduser(font), 0)
            if _glyph(given, _NEVER) is None:
                raise UsageError(f"--font {font}: is no font that can be read; name a .ttf, .otf or .ttc file")
            self._faces.insert(0, given)

    def learn(self, text: str) -> None:
        """Find fonts for all letters of `text`: once for all that is to be written is faster than line by line."""
        new = set(text) - self._known
        self._known |= new
        missing = {letter for letter in new if self._face_of(letter) is None}
        searched = {letter for letter in missing if _stands_alone(letter)}
        for face in _candidates(searched) if searched else ():
            having = {letter for letter in searched if _has(face, letter)}
            if having:
                self._faces.append(face)
                searched -= having  # _candidates goes on with the rest
        self.lacking |= {letter for letter in missing if self._face_of(letter) is None}

    def _face_of(self, letter: str) -> _Face | None:
        return next((face for face in self._faces if _has(face, letter)), None)

    def line(self, text: str) -> str:
        """`text` as it can be written: printable, and each letter that no font has as its number."""
        text = printable(composed(text))
        self.learn(text)
        return "".join(c.encode("unicode_escape").decode() if c in self.lacking else c for c in text)

    def cut(self, text: str, width: float, size: int) -> str:
        """`text` as it can be written, or as much of its beginning as fits into `width` pixels."""
        line = self.line(text)
        if self.length(line, size) <= width:
            return line
        while line and self.length(f"{line}…", size) > width:
            line = line[:-1]
        return f"{line}…"

    def length(self, line: str, size: int) -> float:
        """Pixels that `line`, as `line` or `cut` made it, takes in letters of `size` pixels."""
        return sum(_length(face, part, size) for face, part in self._parts(line))

    def write(self, image: Image.Image, at: tuple[float, float], line: str, size: int, colour: str) -> None:
        """Write `line`, as `line` or `cut` made it, on `image`; `at` is its left end and the top of its letters."""
        from PIL import Image, ImageDraw

        x, baseline = at[0], at[1] + _font(_OWN, size).getmetrics()[0]
        for face, part in self._parts(line):
            length, font = _length(face, part, size), _font(face, size)
            if font.size == size:
                pen = ImageDraw.Draw(image)
                pen.text((x, baseline), part, colour, font, "ls", direction=_direction(font))
            else:
                wide = (max(1, round(font.getlength(part))), sum(font.getmetrics()))
                picture = Image.new("RGBA", wide)
                ImageDraw.Draw(picture).text((0, 0), part, colour, font, embedded_color=True)
                picture = picture.resize((max(1, round(length)), max(1, round(wide[1] * size / font.size))))
                image.paste(picture, (round(x), round(baseline - font.getmetrics()[0] * size / font.size)), picture)
            x += length

    def _parts(self, line: str) -> Iterator[tuple[_Face, str]]:
        """`line` in parts of one font each: a letter stays in that of the one before, where that has it.

        So digits and blanks within a text from right to left are of its part, and come to be where they belong.
        """
        face, faces = self._faces[0], []
        for letter in line:
            if not _is_joint(letter) and (not _has(face, letter) or _font(face, _PROBE).size != _PROBE):
                face = self._face_of(letter) or face
            faces.append(face)
        for face, pairs in itertools.groupby(zip(faces, line, strict=True), key=lambda pair: pair[0]):
            plain = _direction(_font(face, _PROBE)) is None
            yield face, "".join(letter for _, letter in pairs if not (plain and _is_joint(letter)))

    def advice(self) -> list[str]:
        """A sentence on the letters that cannot be written, with the cure; empty where all can."""
        if not self.lacking:
            return []
        count = len(self.lacking)
        what = f"U+{ord(min(self.lacking)):04X}" + (f" and {plural(count - 1, 'more letter')}" if count > 1 else "")
        written = "has them, so their numbers are written" if count > 1 else "has it, so its number is written"
        cure = f"install {', '.join(sorted(set(map(_package, self.lacking))))} (Debian), or name a font with --font"
        return [f"{what}: no font of this machine {written}; {cure}"]


def _package(letter: str) -> str:
    """What lets `letter` be written: Debian's package, and Ubuntu's."""
    if not _stands_alone(letter):
        return "libfribidi0"
    if unicodedata.name(letter, "").startswith(("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO")):
        return "fonts-noto-cjk"
    return "fonts-noto-color-emoji" if unicodedata.category(letter) == "So" else "fonts-noto-core"


def _candidates(missing: set[str]) -> Iterator[_Face]:
    """Fonts of this machine that may have what is `missing`, from which the caller takes what was found."""
    try:
        while missing:
            before = len(missing)
            for face in _fontconfig(sorted(missing)[:_ASKED]):
                yield face
                if len(missing) < before:
                    break
            else:
                return
    except (OSError, subprocess.SubprocessError):
        for folder in map(storage.locate, _FOLDERS):
            names = folder.names() if folder.exists() else ()
            fonts = [name for name in names if name.lower().endswith(_SUFFIXES)]
            # Of a family the plain one has the shortest name.
            for name in sorted(fonts, key=lambda name: (len(os.path.basename(name.replace("-Regular", ""))), name)):
                if not missing:
                    return
                yield folder.join(name), 0


def _fontconfig(letters: list[str]) -> list[_Face]:
    """The fonts that fontconfig takes for those with most of `letters`, best first.

    https://www.freedesktop.org/software/fontconfig/fontconfig-user.html, Font Properties: charset.
    """
    pattern = f"sans-serif:scalable=true:charset={' '.join(f'{ord(letter):x}' for letter in letters)}"
    command = ["fc-match", "--sort", "--format", "%{index} %{file}\n", pattern]
    found = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=True).stdout
    faces = [line.partition(" ") for line in os.fsdecode(found).splitlines()[:_TRIED]]
    return [(path, int(index) & 0xFFFF) for index, _, path in faces]  # above are the styles of a variable font


@functools.cache
def _font(face: _Face, size: int, engine: int | None = None) -> ImageFont.FreeTypeFont:
    """The font `face` in letters of `size` pixels, or in the one size that it has; raises `OSError` for no font."""
    from PIL import ImageFont

    path, index = face
    if path is None:
        own = ImageFont.load_default(size)
        assert isinstance(own, ImageFont.FreeTypeFont)  # Pillow's wheels and all packages of it have FreeType
        return own
    layout = None if engine is None else ImageFont.Layout(engine)
    try:
        return ImageFont.truetype(path, size, index, layout_engine=layout)
    except OSError:
        return ImageFont.truetype(path, _COLOURED, index, layout_engine=layout)


def _glyph(face: _Face, letter: str) -> tuple[tuple[int, int], bytes] | None:
    """What a font shows for a letter by itself: sides in pixels, and a byte a pixel; None where it is no font."""
    try:
        mask = _font(face, _PROBE, _BASIC).getmask(letter)
    except (OSError, ValueError):
        return None
    return mask.size, bytes(mask)


@functools.cache
def _has(face: _Face, letter: str) -> bool:
    """Whether a font shows something of its own for `letter`."""
    if letter.isspace() or _is_joint(letter):
        return True
    shown = _glyph(face, letter) if _stands_alone(letter) else None
    return shown is not None and any(shown[1]) and shown != _glyph(face, _NEVER)


def _is_joint(letter: str) -> bool:
    """Whether a character shows nothing and only changes how its neighbours are shown, as one that joins two does."""
    return unicodedata.category(letter) == "Cf" or "\ufe00" <= letter <= "\ufe0f"


def _direction(font: ImageFont.FreeTypeFont) -> str | None:
    """The direction of a line as Pillow has it: names from right to left are so within lines from left to right."""
    return "ltr" if font.layout_engine else None  # Raqm; the basic one knows no direction


@functools.cache
def _orders() -> bool:
    """Whether Pillow orders and joins letters as they are written: its Raqm needs the FriBiDi of the system."""
    from PIL import features

    return bool(features.check("raqm"))


def _stands_alone(letter: str) -> bool:
    """Whether `letter` comes out right: without Raqm Pillow writes letter after letter, from left to right."""
    ordered = unicodedata.bidirectional(letter) in ("R", "AL", "AN") or unicodedata.category(letter) == "Mc"
    return not ordered or _orders()


def _length(face: _Face, part: str, size: int) -> float:
    font = _font(face, size)
    return float(font.getlength(part, direction=_direction(font))) * size / font.size
