"""A page in headless Chromium, driven over a pipe (the DevTools protocol): sizes, color schemes, what it logs and loads."""
import base64
import json
import os
import shutil
import subprocess
import tempfile

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe"]


def find_chromium():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """`with Browser() as page:`; page.logs and page.requests hold what the pages since the last open() said and loaded."""

    def __enter__(self):
        self.profile = tempfile.TemporaryDirectory()
        from_browser, to_us = os.pipe()
        from_us, to_browser = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        command = 'exec 3<&%d 4>&%d; exec "$0" "$@"' % (from_us, to_us)
        self.process = subprocess.Popen(["bash", "-c", command, find_chromium(), *FLAGS, f"--user-data-dir={self.profile.name}"],
                                        pass_fds=(from_us, to_us), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(from_us)
        os.close(to_us)
        self.reader, self.writer = os.fdopen(from_browser, "rb"), os.fdopen(to_browser, "wb")
        self.last_id, self.session, self.buffer = 0, None, b""
        self.logs, self.requests, self.events = [], [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self.session = None
        try:
            self.call("Browser.close")
        finally:
            self.process.wait(30)
            self.profile.cleanup()

    def message(self):
        while b"\0" not in self.buffer:
            piece = os.read(self.reader.fileno(), 1 << 16)
            if not piece:
                raise RuntimeError("chromium ended")
            self.buffer += piece
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def take(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.logs.append([argument.get("value") for argument in params["args"]])
        elif method == "Runtime.exceptionThrown":
            self.logs.append(params["exceptionDetails"])
        elif method == "Log.entryAdded":
            self.logs.append(params["entry"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method:
            self.events.append(method)

    def call(self, method, **params):
        self.last_id += 1
        command = {"id": self.last_id, "method": method, "params": params}
        if self.session:
            command["sessionId"] = self.session
        self.writer.write(json.dumps(command).encode() + b"\0")
        self.writer.flush()
        while True:
            message = self.message()
            if message.get("id") == self.last_id:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.take(message)

    def open(self, path, width=1200, scheme="light", media=""):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.logs, self.requests, self.events = [], [], []
        self.call("Page.navigate", url=f"file://{path}")
        while "Page.loadEventFired" not in self.events:
            self.take(self.message())

    def evaluate(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def move_to(self, x, y):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path, whole=True, **clip):
        shot = {"captureBeyondViewport": whole}
        if whole and not clip:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"]}
        if clip:
            shot["clip"] = {"scale": 1, **clip}
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot", format="png", **shot)["data"]))

    def pdf(self):
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])
