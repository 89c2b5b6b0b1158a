"""A picture within the text of a terminal: kitty's protocol, iTerm2's and sixels; pure.

https://sw.kovidgoyal.net/kitty/graphics-protocol/, https://iterm2.com/documentation-images.html and DEC's VT330/VT340
Programmer Reference Manual, volume 2, chapter 14.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.look.thumbnails import encoded

if TYPE_CHECKING:
    from PIL import Image

#: Bytes of base64 that kitty takes at once.
_CHUNK = 4096


def protocol_of(environment: Mapping[str, str]) -> str | None:
    """The protocol of the terminal that these variables name: kitty, iterm2, sixel, or None."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "KITTY_WINDOW_ID" in environment or "kitty" in term or program == "ghostty" or "ghostty" in term:
        return "kitty"
    if program in ("iTerm.app", "WezTerm", "vscode", "mintty") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    if "sixel" in term or term.startswith(("foot", "mlterm", "yaft", "contour")):
        return "sixel"
    return None


def inline(sheet: Image.Image, protocol: str) -> bytes:
    """The bytes that show `sheet` in a terminal of `protocol`, on lines of its own."""
    if protocol == "sixel":
        return _sixel(sheet) + b"\n"
    data = encoded(sheet, ".png")
    text = base64.b64encode(data)
    if protocol == "iterm2":
        return b"\x1b]1337;File=inline=1;size=%d:%s\x07\n" % (len(data), text)
    parts = [text[i : i + _CHUNK] for i in range(0, len(text), _CHUNK)]
    last = len(parts) - 1
    sent = [
        b"\x1b_G%sm=%d;%s\x1b\\" % (b"a=T,f=100," if not i else b"", i < last, part) for i, part in enumerate(parts)
    ]
    return b"".join(sent) + b"\n"


def _sixel(sheet: Image.Image) -> bytes:
    """Sixels of 256 colours: rows of six pixels, of each the columns of one colour after another, runs shortened."""
    import numpy as np
    from PIL import Image

    flat = sheet.quantize(256, dither=Image.Dither.NONE)
    palette = flat.getpalette() or []
    pixels = np.asarray(flat)
    used = np.unique(pixels).tolist()
    out = [b'\x1bPq"1;1;%d;%d' % flat.size]
    out += [b"#%d;2;%d;%d;%d" % (i, *(round(c * 100 / 255) for c in palette[3 * i : 3 * i + 3])) for i in used]
    for top in range(0, flat.height, 6):
        band = pixels[top : top + 6]
        lines = []
        for colour in np.unique(band).tolist():
            bits = ((band == colour) * (1 << np.arange(len(band)))[:, None]).sum(axis=0)
            edges = np.flatnonzero(np.diff(bits, prepend=-1))
            counts = np.diff(edges, append=len(bits))
            line = b"".join(
                b"!%d%c" % (n, 63 + b) if n > 3 else bytes([63 + b]) * n
                for n, b in zip(counts.tolist(), bits[edges].tolist(), strict=True)
            )
            lines.append(b"#%d%s" % (colour, line))
        out.append(b"$".join(lines) + b"-")
    return b"".join(out) + b"\x1b\\"
