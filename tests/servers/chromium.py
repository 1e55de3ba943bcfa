"""A headless Chromium for the tests, spoken to by its DevTools protocol over a pair of pipes: no driver, no library.

``python tests/servers/chromium.py --find`` prints where it is, or fails.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-pipe"),
)


def find() -> str | None:
    """Return where Chromium is."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Chromium:
    """One page of one browser with an empty profile. What it asks the network for is in ``requested``."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="reconcile-chromium-")
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        joined = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", joined, find() or "", *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._answers = os.fdopen(self._from, "rb")
        self._session: str | None = None
        self._last = 0
        self._held = b""
        self.requested: list[str] = []
        self.said: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def open(self, path: Path) -> None:
        """Open a file and wait until it is loaded."""
        self.visit(path.as_uri())

    def visit(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        self.requested.clear()
        self.said.clear()
        self.call("Page.navigate", url=url)
        while self._note(self._next()) != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Return the value of an expression, a promise's too, in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def key(self, key: str, text: str = "") -> None:
        """Press a key."""
        code = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39}.get(key, 0)
        pressed = {"key": key, "windowsVirtualKeyCode": code} | ({"text": text} if text else {})
        self.call("Input.dispatchKeyEvent", type="keyDown", **pressed)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def prefer(self, scheme: str, *, media: str = "") -> None:
        """Prefer ``light`` or ``dark``, on the screen or in ``print``."""
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def scripts(self, *, allowed: bool) -> None:
        """Let pages run scripts, or not."""
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def screenshot(self, path: Path, width: int = 1280, height: int | None = None, top: int = 0) -> None:
        """Save what the page looks like, all of it or a part."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": width, "height": height or size["height"] - top, "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window this size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def close(self) -> None:
        """End the browser."""
        self._session = None
        with suppress(AssertionError, OSError):  # it may end before it answers
            self.call("Browser.close")
        self._process.wait(30)
        self._answers.close()
        os.close(self._to)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _note(self, event: dict[str, Any]) -> str | None:
        if event.get("method") == "Network.requestWillBeSent":
            self.requested.append(event["params"]["request"]["url"])
        if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.said.append(json.dumps(event["params"]))
        return event.get("method")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            more = self._answers.read1(1 << 20)
            assert more, "Chromium ended"
            self._held += more
        message, _end, self._held = self._held.partition(b"\0")
        return json.loads(message)


if __name__ == "__main__":
    place = find()
    sys.exit(print(place) if place else 1)  # noqa: T201
