"""A real browser: Debian's chromium or the one that Playwright brings, driven by Playwright (`make test-browser`)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.look.page import page_of
from pipeline.look.view import open_view
from tests.support.helpers import write_file

_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync", "--force-color-profile=srgb")  # fmt: skip


def _cannot(reason: str) -> None:
    if os.environ.get("COCO_DIY_REQUIRE_SERVERS"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium; skipped with the reason where there is none, failed where CI needs it."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        _cannot("needs Playwright: pip install playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=list(_QUIET))
        except Error as error:
            _cannot(f"needs a Chromium: apt-get install chromium ({str(error).splitlines()[0]})")
        yield browser
        browser.close()


#: Images of a large dataset, of which so many are there; three objects each, of COCO's 80 classes.
LARGE, THERE = 118_000, 1_000


@pytest.fixture(scope="session")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 118,000 images in one COCO JSON; those that are there are one and the same file of noise."""
    root = tmp_path_factory.mktemp("large")
    (root / "annotations").mkdir()
    (root / "train2017").mkdir()
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (180, 240, 3)).astype(np.uint8)
    Image.fromarray(noise).save(root / "train2017/000000.jpg", quality=95)
    for i in range(1, THERE):
        os.link(root / "train2017/000000.jpg", root / f"train2017/{i:06d}.jpg")
    images = ",".join(f'{{"id":{i},"file_name":"{i:06d}.jpg","width":240,"height":180}}' for i in range(LARGE))
    boxes = rng.integers(1, 100, (3 * LARGE, 4)).tolist()
    kinds = rng.integers(1, 81, 3 * LARGE).tolist()
    objects = ",".join(
        f'{{"id":{i},"image_id":{i // 3},"category_id":{kind},"bbox":{box},"area":9,"iscrowd":0}}'
        for i, (kind, box) in enumerate(zip(kinds, boxes, strict=True))
    )
    names = ",".join(f'{{"id":{i},"name":"class {i}"}}' for i in range(1, 81))
    text = f'{{"images":[{images}],"annotations":[{objects}],"categories":[{names}]}}'
    write_file(root / "annotations/instances_train2017.json", text)
    page = root / "page.html"
    page.write_bytes(page_of(open_view(str(root), str(root / "cache"))))
    return page


@dataclass
class OpenedPage:
    """A page in the browser, what its console said and what it asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def count(self, query: str) -> int:
        return int(self.page.locator(query).count())


OpenPage = Callable[..., OpenedPage]


@pytest.fixture
def open_page(chromium: Any) -> Iterator[OpenPage]:
    """Open a file in the browser, at some width and scale, light or dark, with or without scripts."""
    contexts = []

    def opener(
        path: Path, *, width: int = 1280, scale: int = 1, script: bool = True, scheme: str = "light"
    ) -> OpenedPage:
        context = chromium.new_context(
            viewport={"width": width, "height": 800},
            device_scale_factor=scale,
            java_script_enabled=script,
            color_scheme=scheme,
        )
        contexts.append(context)
        opened = OpenedPage(context.new_page())
        opened.page.on("console", lambda message: opened.said.append(message.text))
        opened.page.on("pageerror", lambda error: opened.said.append(str(error)))
        opened.page.on("request", lambda request: opened.asked.append(request.url))
        opened.page.goto(path.as_uri())
        return opened

    yield opener
    for context in contexts:
        context.close()
