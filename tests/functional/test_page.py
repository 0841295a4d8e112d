"""The page in a real browser, against a server that a test makes up."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from tests.functional.browser import Page, browser
from tests.functional.fake_edge import HOSTILE, FakeEdge, version

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOP5 = [
    {"label": "Egyptian cat", "index": 286, "score": 0.7578125, "quantized": 194},
    {"label": "tabby, tabby cat", "index": 282, "score": 0.12109375, "quantized": 31},
    {"label": "tiger cat", "index": 283, "score": 0.0859375, "quantized": 22},
    {"label": "lynx, catamount", "index": 288, "score": 0.01171875, "quantized": 3},
    {"label": HOSTILE, "index": 907, "score": None},
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def tab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    async with browser(chromium, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest_asyncio.fixture(loop_scope="module")
async def edge() -> AsyncIterator[FakeEdge]:
    async with FakeEdge().serve() as fake:
        yield fake


@pytest_asyncio.fixture(loop_scope="module")
async def page(tab: Page, edge: FakeEdge) -> AsyncIterator[Page]:
    """The page, open and with its first figures; whatever a test does, the browser has no complaint."""
    await tab.open(edge.url)
    await tab.evaluate("sessionStorage.clear()")
    await tab.until("document.querySelectorAll('.card').length === 3 && hint.textContent")
    yield tab
    assert tab.complaints == []
    await tab.send("Page.navigate", url="about:blank")


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "a cat's.jpg"
    ramp = np.linspace(0, 255, 300, dtype=np.uint8)
    pixels = np.stack(
        [
            np.broadcast_to(ramp, (200, 300)),
            np.full((200, 300), 90, np.uint8),
            ramp[::-1] + np.zeros((200, 1), np.uint8),
        ],
        -1,
    )
    Image.fromarray(pixels).save(path)
    return path


async def test_it_shows_each_model_with_its_versions_states_devices_and_figures(page: Page) -> None:
    text = await page.text()
    for shown in ("mobilenet", "stable → 2", "edgetpu:0", "loading", "draining", "182.4K", "3 h 24 min", "3 of 3"):
        assert shown in text
    assert await page.evaluate("$('health').textContent") == "ready"
    await page.until("/[1-9]/.test(document.querySelector('path.rate').getAttribute('d'))")


async def test_reasons_notices_and_problems_are_shown_as_text_and_never_as_markup(page: Page) -> None:
    text = await page.text()
    assert f"differ by more than 0.02 {HOSTILE}" in text
    assert "runs on the CPU twin" in text
    assert "aspired.json: want a list of versions" in text
    assert await page.evaluate("document.querySelectorAll('img').length") == 1


async def test_a_picture_is_sent_as_it_is_and_answered_with_labels_and_bars(
    page: Page, edge: FakeEdge, photograph: Path
) -> None:
    edge.replies["mobilenet"] = (200, {"predictions": [TOP5]})
    await page.choose_file("#file", photograph)
    await page.until("!send.disabled && preview.naturalWidth === 300")
    await page.evaluate("send.click()")
    await page.until("document.querySelectorAll('.scores li').length === 5")
    assert edge.requests == [
        ("/v1/models/mobilenet:predict?top=5", "image/jpeg", await asyncio.to_thread(photograph.read_bytes))
    ]
    first, *_, last = await page.evaluate("[...document.querySelectorAll('.scores li')].map(li => li.innerText)")
    assert first.split("\n") == ["Egyptian cat", "75.8 %"]
    assert last.split("\n") == [HOSTILE, "not a number"]
    assert "'@a cat'\\''s.jpg'" in await page.evaluate("command.textContent")


async def test_a_picture_of_another_kind_is_converted_to_one_that_the_server_reads(
    page: Page, edge: FakeEdge, tmp_path: Path
) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "red.gif")
    await page.choose_file("#file", tmp_path / "red.gif")
    await page.until("!send.disabled")
    await page.evaluate("send.click()")
    await page.until("$('answer').children.length")
    _, media_type, body = edge.requests[0]
    assert media_type == "image/png"
    assert np.array_equal(np.asarray(Image.open(BytesIO(body)).convert("RGB"))[5, 5], (255, 0, 0))


async def test_a_picture_to_a_model_that_is_no_classifier_is_answered_plainly(
    page: Page, edge: FakeEdge, photograph: Path
) -> None:
    edge.replies["mobilenet"] = (400, {"error": "top: want a model with one output of class scores"})
    await page.choose_file("#file", photograph)
    await page.until("!send.disabled")
    await page.evaluate("send.click()")
    await page.until("$('answer').children.length")
    assert [path for path, _, _ in edge.requests] == [
        "/v1/models/mobilenet:predict?top=5",
        "/v1/models/mobilenet:predict",
    ]


@pytest.mark.parametrize(
    ("model", "zeros"),
    [
        ("digits", {"instances": [[0, 0, 0]]}),
        ("detector", {"instances": [{"picture": [0, 0], "words": ""}]}),
    ],
)
async def test_json_starts_as_zeros_that_the_model_takes(page: Page, edge: FakeEdge, model: str, zeros: Any) -> None:
    await page.evaluate(f"tryModel('{model}')")
    await page.until("body.value && !send.disabled")
    await page.evaluate("send.click()")
    await page.until("$('answer').children.length")
    path, media_type, body = edge.requests[0]
    assert (path, media_type, json.loads(body)) == (f"/v1/models/{model}:predict", "application/json", zeros)
    assert "75.0 %" in await page.evaluate("$('answer').innerText")


async def test_an_input_of_very_many_numbers_is_filled_in_only_when_asked(page: Page) -> None:
    await page.evaluate("document.querySelector('input[value=json]').click()")
    await page.until("body.placeholder.includes('150528 numbers')")
    assert await page.evaluate("body.value") == ""
    await page.evaluate("hint.querySelector('button').click()")
    assert await page.evaluate("JSON.parse(body.value).instances[0].flat(2).length") == 224 * 224 * 3


async def test_a_chosen_version_is_asked_for_and_a_refusal_is_shown_in_its_words(page: Page, edge: FakeEdge) -> None:
    edge.replies["digits"] = (400, {"error": f"x: want int8 [?,3] {HOSTILE}"})
    await page.evaluate("tryModel('digits')")
    await page.evaluate("pick.value = '7'; pick.dispatchEvent(new Event('change'))")
    await page.until("body.value && !send.disabled")
    await page.evaluate("send.click()")
    await page.until("$('answer').children.length")
    assert edge.requests[0][0] == "/v1/models/digits/versions/7:predict"
    shown = await page.evaluate("$('answer').innerText")
    assert f"x: want int8 [?,3] {HOSTILE}" in shown
    assert "Status 400" in shown


async def test_what_somebody_types_survives_a_swap_of_versions(page: Page, edge: FakeEdge) -> None:
    await page.evaluate("tryModel('digits')")
    await page.until("body.value")
    await page.evaluate("body.value = '{\"instances\":[[1,2,3]]}'; body.dispatchEvent(new Event('input'))")
    edge.models[1]["versions"] = [version(8, "ready"), version(7, "ready")]
    await page.until("[...pick.options].some(o => o.value === '8')")
    assert await page.evaluate("body.value") == '{"instances":[[1,2,3]]}'


async def test_models_come_and_go_and_a_server_without_any_says_how_to_start(page: Page, edge: FakeEdge) -> None:
    edge.models = []
    await page.until("document.body.innerText.includes('No model is served yet')")
    assert await page.evaluate("send.disabled")
    edge.models = [{"name": f"m{i}", "labels": {}, "problem": "", "rate": 0, "p50_ms": 0, "p99_ms": 0,
                    "versions": [version(1, "new")]} for i in range(9)]  # fmt: skip
    await page.until(
        "document.querySelectorAll('article').length === 9 && !filter_hidden()".replace(
            "filter_hidden()", "document.getElementById('filter').hidden"
        )
    )
    assert not await page.evaluate("document.querySelector('.empty')")


async def test_an_unreachable_server_is_said_clearly_and_so_is_its_return(page: Page, edge: FakeEdge) -> None:
    edge.down = True
    await page.until("!banner.hidden && $('health').textContent === 'unreachable'")
    assert "has not answered since" in await page.evaluate("banner.innerText")
    assert "mobilenet" in await page.text()
    edge.down, edge.boot_id = False, "b2"
    await page.until("banner.hidden && $('health').textContent === 'ready'")


async def test_a_server_that_wants_a_token_is_given_one_for_the_life_of_the_tab(page: Page, edge: FakeEdge) -> None:
    edge.token = "s3cret"
    await page.until("login.open")
    await page.evaluate("token.value = 'wrong'; login.querySelector('button').click()")
    await page.until("login.open && $('login-hint').textContent.includes('did not accept')")
    await page.evaluate("token.value = 's3cret'; login.querySelector('button').click()")
    await page.until("!login.open && $('health').textContent === 'ready'")
    await page.open(edge.url)
    await page.until("$('health').textContent === 'ready'")
    assert not await page.evaluate("login.open")
    assert await page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]


async def test_every_control_is_reached_with_the_keyboard(page: Page) -> None:
    focused = "document.activeElement.id || document.activeElement.name || document.activeElement.textContent"
    seen = []
    for _ in range(9):
        await page.press("Tab", 9)
        seen.append(await page.evaluate(focused))
    assert seen == [
        "Try",
        "Try",
        "Try",
        "model",
        "pick",
        "kind",
        "file",
        "The same from a command line",
        "API description",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_it_fits_the_window_in_both_schemes(
    page: Page, edge: FakeEdge, photograph: Path, width: int, scheme: str
) -> None:
    """EDGE_SCREENSHOTS names a directory to keep what is seen, with EDGE_PICTURE as the picture that is sent."""
    edge.replies["mobilenet"] = (200, {"predictions": [TOP5[:4]]})
    picture = Path(os.environ.get("EDGE_PICTURE", photograph))
    await page.choose_file("#file", picture)
    await page.until("!send.disabled")
    await page.evaluate("send.click()")
    await page.until("document.querySelectorAll('.scores li').length === 4")
    # The charts need history: what two minutes of answers would have left.
    await page.evaluate("(async () => { for (let i = 0; i < 119; i++) show(await (await fetch('stats')).json()); })()")
    png = await page.look(width=width, height=900, scheme=scheme)
    shot = Image.open(BytesIO(png)).convert("L")
    assert shot.width == width
    assert (np.asarray(shot)[1, 1] > 200) == (scheme == "light")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    if keep := os.environ.get("EDGE_SCREENSHOTS"):
        await asyncio.to_thread(Path(keep, f"page-{width}-{scheme}.png").write_bytes, png)
