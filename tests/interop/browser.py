"""Uses a listing in headless Chromium as a person does who has only a keyboard.

    browser.py CHROMIUM URL

Commands go through a pipe (--remote-debugging-pipe), so nothing but Python's library is needed.
Prints one JSON object: what was seen.
"""

import json
import os
import subprocess
import sys
import tempfile

chromium, url = sys.argv[1:]
to_read, to_write = os.pipe()
from_read, from_write = os.pipe()


def become():
    # 3 and 4 are where Chromium listens and answers.
    os.dup2(to_read, 13)
    os.dup2(from_write, 14)
    os.dup2(13, 3)
    os.dup2(14, 4)


profile = tempfile.TemporaryDirectory()
browser = subprocess.Popen(
    [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--no-proxy-server", "--remote-debugging-pipe",
        "--blink-settings=scriptEnabled=true", f"--user-data-dir={profile.name}", "about:blank",
    ],
    close_fds=False, preexec_fn=become, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)
os.close(to_read)
os.close(from_write)

number = 0
waiting = b""
events = []


def receive():
    global waiting
    while b"\0" not in waiting:
        more = os.read(from_read, 65536)
        if not more:
            raise SystemExit("chromium has ended")
        waiting += more
    message, waiting = waiting.split(b"\0", 1)
    return json.loads(message)


def ask(method, session=None, **parameters):
    global number
    number += 1
    message = {"id": number, "method": method, "params": parameters}
    if session:
        message["sessionId"] = session
    os.write(to_write, json.dumps(message).encode() + b"\0")
    while True:
        answer = receive()
        if answer.get("id") == number:
            if "error" in answer:
                raise SystemExit(f"{method}: {answer['error']}")
            return answer["result"]
        events.append(answer)


def wait(method):
    while True:
        for at, event in enumerate(events):
            if event.get("method") == method:
                del events[: at + 1]
                return event["params"]
        events.append(receive())


target = ask("Target.createTarget", url="about:blank")["targetId"]
session = ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
ask("Page.enable", session)
# The page's own scripts do not run: it must not need any. What is asked here does.
ask("Emulation.setScriptExecutionDisabled", session, value=True)


def look(expression):
    result = ask("Runtime.evaluate", session, expression=expression, returnByValue=True)
    return result["result"].get("value")


def press(key, code):
    text = {"text": "\r"} if key == "Enter" else {}
    shared = {"key": key, "code": key, "windowsVirtualKeyCode": code}
    ask("Input.dispatchKeyEvent", session, type="keyDown", **shared, **text)
    ask("Input.dispatchKeyEvent", session, type="keyUp", **shared)


def follow(name):
    """Goes from link to link until it is at `name`, and opens it."""
    passed = []
    for _ in range(50):
        press("Tab", 9)
        at = look("document.activeElement.textContent")
        passed.append(at)
        if at == name:
            outlined = look("getComputedStyle(document.activeElement).outlineStyle")
            press("Enter", 13)
            wait("Page.loadEventFired")
            return {"passed": passed, "outline": outlined}
    raise SystemExit(f"no {name} among {passed}")


ask("Page.navigate", session, url=url)
wait("Page.loadEventFired")
seen = {
    "title": look("document.title"),
    "rows": look("[...document.querySelectorAll('tbody a')].map(it => it.textContent)"),
    "scripts": look("document.scripts.length"),
    "lang": look("document.documentElement.lang"),
}
seen["folder"] = follow("sub folder/")
seen["inside"] = look("decodeURI(location.pathname)")
seen["file"] = follow("ç.txt")
seen["at"] = look("decodeURI(location.pathname)")
seen["text"] = look("document.body.innerText")
ask("Page.navigate", session, url=url)
wait("Page.loadEventFired")
seen["sort"] = follow("Size")
seen["sorted"] = look("location.search")
print(json.dumps(seen))
ask("Browser.close")
browser.wait(timeout=20)
