"""What tests/http/test_page.py runs in an environment of its own: a browser, told by lines of JSON what to do.

A line holds steps; the line that it answers with holds what they found, or the error that stopped them.
"""

import json
import sys
import time
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, Page, sync_playwright

WAIT_MS = 60_000
WATCH = """
window.painted = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", (event) => {
      const came = performance.now();
      const result = JSON.parse(event.data).results?.[0];
      if (!result || result.is_final || !result.alternatives[0].transcript) return;
      requestAnimationFrame(() => setTimeout(() => painted.push({
        sent: result.alternatives[0].transcript,
        shown: document.getElementById("live").textContent,
        ms: performance.now() - came,
      })));
    });
  }
};
"""
"""Notes what of each partial result is on the screen once the next frame is painted, and after how long."""


def do(page: Page, step: list[Any]) -> Any:
    name, *given = step
    if name == "text":
        return page.inner_text(given[0])
    if name == "rows":
        rows = page.locator(f"{given[0]} tbody tr")
        return [rows.nth(i).locator("td").all_inner_texts() for i in range(rows.count())]
    if name == "axe":
        return [
            [one["id"], [node["target"] for node in one["nodes"]]] for one in Axe().run(page).response["violations"]
        ]
    if name == "until":
        return until(page, *given)
    if name == "wait":
        return page.wait_for_selector(given[0], timeout=WAIT_MS) and None
    if name == "evaluate":
        return page.evaluate(given[0])
    if name == "files":
        return page.set_input_files(given[0], given[1])
    if name == "press":
        return page.keyboard.press(given[0])
    if name == "offline":
        return page.context.set_offline(given[0])
    if name == "screenshot":
        return page.screenshot(path=given[0], full_page=True) and None
    return {"goto": page.goto, "click": page.click, "fill": page.fill, "type": page.type}[name](*given) and None


def until(page: Page, selector: str, text: str) -> None:
    """Waits until an element's text has this in it."""
    deadline_s = time.monotonic() + WAIT_MS / 1000
    while text not in (page.text_content(selector) or ""):
        if time.monotonic() > deadline_s:
            raise Error(f"{selector} has no {text}: {page.text_content(selector)}")
        page.wait_for_timeout(20)


def told(call: dict[str, Any]) -> list[Any]:
    """What the steps found, and which addresses were asked for something."""
    flags = [
        "--no-sandbox", "--disable-background-networking", "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={call['microphone']}",
    ]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=call["browser"], args=flags)
        context = browser.new_context(
            color_scheme=call.get("scheme", "light"),
            viewport={"width": call.get("width", 1280), "height": 900},
            reduced_motion="reduce",
            permissions=["microphone"],
        )
        context.add_init_script(WATCH + call.get("script", ""))
        page = context.new_page()
        addresses: list[str] = []
        problems: list[str] = []
        page.on("request", lambda request: addresses.append(request.url))
        page.on("websocket", lambda socket: addresses.append(socket.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        found = [do(page, step) for step in call["steps"]]
        browser.close()
    return [found, addresses, problems]


for line in iter(sys.stdin.readline, ""):
    call = json.loads(line)
    try:
        result: dict[str, Any] = {"responses": told(call)}
    except Error as error:
        result = {"code": type(error).__name__, "details": error.message}
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
