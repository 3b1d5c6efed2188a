"""A headless Chromium, driven over WebDriver (https://www.w3.org/TR/webdriver2/)."""

import base64
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

# What a browser asks for by itself is switched off, and no other host is found.
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def call(method, url, body=None, headers=None):
    """Status and JSON body of an answer; of errors, too."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    return status, json.loads(text) if text.startswith(b"{") else None


class Browser:
    """One window. `folder` holds what the browser keeps."""

    def __init__(self, programs, folder):
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        env = os.environ | {"HOME": str(folder), "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
        with (folder / "chromedriver.log").open("wb") as log:
            self.driver = subprocess.Popen(
                [programs / "chromedriver", f"--port={port}"], stdout=log, stderr=log, env=env
            )
        options = {
            "binary": str(programs / "chromium"),
            "args": [*ARGUMENTS, f"--user-data-dir={folder / 'profile'}"],
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self.await_driver()
        made = self.send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = "/session/" + made["sessionId"]

    def await_driver(self):
        for _ in range(300):
            try:
                if call("GET", self.base + "/status")[0] == 200:
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("chromedriver does not answer")

    def send(self, method, path, body=None):
        status, answer = call(method, self.base + path, body)
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status}: {answer}")
        return answer["value"]

    def tell(self, path, body):
        return self.send("POST", self.session + path, body)

    def close(self):
        try:
            self.send("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait(30)

    def open(self, url):
        self.tell("/url", {"url": url})

    def run(self, script, *arguments):
        """What a script gives that the page runs."""
        return self.tell("/execute/sync", {"script": script, "args": list(arguments)})

    def element(self, selector):
        found = self.tell("/element", {"using": "css selector", "value": selector})
        return f"/element/{found[ELEMENT]}"

    def click(self, selector):
        self.tell(self.element(selector) + "/click", {})

    def type(self, selector, text):
        """Text for a field, by its keys; it may end in `\\ue007`, which is Enter."""
        self.tell(self.element(selector) + "/value", {"text": text})

    def text(self, selector):
        """The text that is seen of an element; empty if it is not."""
        script = """const found = document.querySelector(arguments[0])
            return found.checkVisibility() ? found.innerText : ''"""
        return self.run(script, selector)

    def texts(self, selector):
        """The texts of all elements, in their order."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)"
        return self.run(script, selector)

    def table(self, place):
        """The cells of a table's body, by row."""
        script = """return [...document.querySelectorAll(arguments[0] + " tbody tr")]
            .map((row) => [...row.cells].map((cell) => cell.innerText))"""
        return self.run(script, place)

    def resize(self, width, height):
        """Of what the page sees."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)

    def devtools(self, command, parameters):
        return self.tell("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def colours(self, scheme):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", {"features": features})

    def screenshot(self, file):
        """Of the whole page."""
        whole = {"captureBeyondViewport": True}
        shot = self.devtools("Page.captureScreenshot", whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def log(self):
        """What the browser had to say since the last time."""
        return [line["message"] for line in self.tell("/se/log", {"type": "browser"})]

    def until(self, what, holds):
        """Waits until something holds, at most ten seconds."""
        for _ in range(200):
            if holds():
                return
            time.sleep(0.05)
        raise AssertionError(f"timed out waiting for {what}")
