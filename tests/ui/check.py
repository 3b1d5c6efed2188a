"""Looks at the page /ui as people do: PROGRAM CHROMIUM FOLDER.

Runs below `scripts/with-servers keystone`. PROGRAM is ratekitty's, CHROMIUM holds
chromium and chromedriver; screenshots go to FOLDER, which is made anew. What is shown
comes from the real API: dataframes and scopes are posted, and a processor fails on
them until its Prometheus answers. Names are hostile.

Prints what passed and what failed. Ends with 1 if anything failed.
"""

import contextlib
import datetime
import decimal
import http.server
import json
import os
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from browser import Browser, call, free_port

program, chromium, shots = map(pathlib.Path, sys.argv[1:])
shutil.rmtree(shots, ignore_errors=True)
shots.mkdir(parents=True)
keystone = os.environ["RATEKITTY_TEST_KEYSTONE"]
cloud = json.loads(pathlib.Path(os.environ["RATEKITTY_TEST_CLOUD"]).read_text())

HOSTILE = "<img src=x onerror=document.title='owned'>"
# Has what separates filters.
COMMA = "a project, with a comma: and a colon"
FAILING = f"failing {HOSTILE}"
MENDED = "mended"
ERROR = f"no <b>data</b> {HOSTILE}"
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
HOUR = NOW.replace(minute=0, second=0)
# Days of the dataframes, in the present month, so that they are in the page's window.
MONTH = HOUR.replace(day=1, hour=0)
DAYS = [MONTH + datetime.timedelta(days=day) for day in range(5)]
PROJECTS = [HOSTILE, COMMA, *(f"project-{number:02}" for number in range(12))]
TYPES = ["instance", "<b>volume</b>", "image"]


# --- A Prometheus that fails, until it is told not to --------------------------


class Prometheus(http.server.BaseHTTPRequestHandler):
    is_well = False

    def do_GET(self):
        self.answer(urllib.parse.urlsplit(self.path).query)

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def answer(self, query):
        asked = urllib.parse.parse_qs(query)
        body = {"status": "error", "errorType": "bad_data", "error": ERROR}
        if Prometheus.is_well:
            kind = "matrix" if "start" in asked else "vector"
            body = {"status": "success", "data": {"resultType": kind, "result": []}}
        data = json.dumps(body).encode()
        self.send_response(200 if Prometheus.is_well else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


# --- ratekitty -----------------------------------------------------------------


def configure(folder, prometheus, strategy):
    login = {
        "auth_type": "password",
        "auth_url": keystone,
        "username": "cloudkitty",
        "password": cloud["password"],
        "user_domain_id": "default",
        "project_name": "service",
        "project_domain_id": "default",
    }
    options = {
        "DEFAULT": {"auth_strategy": strategy},
        "keystone_authtoken": login,
        "storage": {"backend": "sql"},
        "ratekitty": {"state_path": folder, "http_retry_budget": 0},
        "orchestrator": {"coordination_url": f"file://{folder}/locks"},
        "fetcher": {"backend": "source"},
        "fetcher_source": {"sources": f"{FAILING},{MENDED}"},
        "collect": {
            "collector": "prometheus",
            "metrics_conf": folder / "metrics.yml",
            "wait_periods": 1,
        },
        "collector_prometheus": {"prometheus_url": prometheus},
    }
    (folder / "metrics.yml").write_text("metrics: {cpu: {unit: u, groupby: [id]}}\n")
    lines = []
    for section, values in options.items():
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items())]
    file = folder / "cloudkitty.conf"
    file.write_text("\n".join(lines) + "\n")
    return [program, "--config-file", file]


def token(user, project):
    login = {"name": user, "domain": {"id": "default"}, "password": cloud["password"]}
    scope = {"project": {"name": project, "domain": {"id": "default"}}}
    identity = {"methods": ["password"], "password": {"user": login}}
    body = json.dumps({"auth": {"identity": identity, "scope": scope}}).encode()
    request = urllib.request.Request(
        keystone + "/auth/tokens", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers["X-Subject-Token"]


def cost(day, project, kind):
    """Twelve hours of a thing: digits that no float has, and one that costs the most."""
    number = PROJECTS.index(project)
    return decimal.Decimal(f"{(15 - number) * (3 - TYPES.index(kind))}.{day + 1}{number:02}5")


def dataframes():
    frames = []
    for day, begin in enumerate(DAYS):
        usage = {}
        for kind in TYPES:
            for project in PROJECTS:
                point = {
                    "vol": {"unit": "u", "qty": 1},
                    "rating": {"price": float(cost(day, project, kind))},
                    "groupby": {"project_id": project},
                    "metadata": {},
                }
                usage.setdefault(kind, []).append(point)
        # An own project for the member, whose costs they may see.
        point = {
            "vol": {"unit": "u", "qty": 1},
            "rating": {"price": 0.25},
            "groupby": {"project_id": cloud["projects"]["alpha"]},
            "metadata": {},
        }
        usage["instance"].append(point)
        period = {
            "begin": begin.isoformat(),
            "end": (begin + datetime.timedelta(hours=1)).isoformat(),
        }
        frames.append({"period": period, "usage": usage})
    return frames


def total(**wanted):
    costs = (
        cost(day, project, kind)
        for day in range(len(DAYS))
        for project in PROJECTS
        for kind in TYPES
        if wanted.get("project", project) == project and wanted.get("kind", kind) == kind
    )
    return sum(costs, decimal.Decimal())


def rounded(number):
    return str(number.quantize(decimal.Decimal("0.01"), decimal.ROUND_HALF_UP))


# --- Checks --------------------------------------------------------------------

passed = failed = 0


def check(what, found, expected=True):
    global passed, failed
    if found == expected:
        passed += 1
        print(f"ok    {what}")
    else:
        failed += 1
        print(f"FAIL  {what}\n  found    {found!r}\n  expected {expected!r}")


def fill(url, admin):
    headers = {"X-Auth-Token": admin}
    status, body = call("POST", url + "/v2/dataframes", {"dataframes": dataframes()}, headers)
    assert status == 204, body
    scopes = {FAILING: 3, MENDED: 3} | {f"scope-{number:02}": number % 7 for number in range(60)}
    for scope, hours in scopes.items():
        last = HOUR - datetime.timedelta(hours=hours + 2)
        body = {"scope_id": scope, "last_processed_timestamp": last.isoformat()}
        status, answer = call("POST", url + "/v2/scope", body, headers)
        assert status == 200, answer
    body = {"scope_id": "scope-00", "active": False}
    assert call("PATCH", url + "/v2/scope", body, headers)[0] == 200


def log_in(browser, token):
    browser.type("#token", token + "\ue007")


def refresh(browser):
    """Looks again, and waits for the answer."""
    browser.run(
        "for (const id of ['looked', 'trouble']) document.getElementById(id).textContent = ''"
    )
    browser.click("#refresh")
    browser.until("an answer", lambda: browser.text("#looked") or browser.text("#trouble"))


def see_tokens(browser, url, admin):
    browser.open(url + "/ui")
    browser.until("a field for the token", lambda: browser.text("#login"))
    check("without a token the page asks for one", browser.text("#trouble"), "")
    check(
        "and shows nothing else",
        [browser.text(f"#{id}") for id in ("admin", "costs", "details")],
        [""] * 3,
    )
    browser.screenshot(shots / "login.png")
    log_in(browser, "no-token")
    browser.until("a refusal", lambda: browser.text("#trouble"))
    check(
        "a bad token is told of", browser.text("#trouble"), "The token is not good, or has ended."
    )
    check("and asked for again", browser.run("return document.activeElement.id"), "token")
    check("a bad token is not kept", browser.run("return sessionStorage.length"), 0)
    log_in(browser, admin)
    browser.until(
        "charts", lambda: browser.run("return document.querySelectorAll('#by-scope rect').length")
    )
    check("a good token brings the field away", browser.text("#login"), "")
    check(
        "the token is in this tab alone",
        browser.run(
            "return [sessionStorage.length, localStorage.length, document.cookie, location.search]"
        ),
        [1, 0, "", ""],
    )
    check("the field is empty", browser.run("return document.querySelector('#token').value"), "")
    # Without a token, and then with a bad one.
    lines = browser.log()
    check("the browser complains of nothing else", ["401" in line for line in lines], [True] * 2)


def see_scopes(browser):
    rows = browser.table("#scopes")
    check("scopes: a page of them", len(rows), 25)
    check("scopes: which", browser.text("#page"), "1 to 25 of 62")
    lags = browser.run("""return [...document.querySelectorAll('#scopes tbody tr')]
        .map((row) => Number(row.cells[4].textContent))""")
    check("scopes: those behind first", lags, sorted(lags, reverse=True))
    check("scopes: periods behind", lags[0], 7)
    browser.click("#after")
    browser.until("the next page", lambda: browser.text("#page") == "26 to 50 of 62")
    browser.click("#after")
    browser.until("the last page", lambda: browser.text("#page") == "51 to 62 of 62")
    last = browser.table("#scopes")[-1]
    check(
        "scopes: one that is switched off last",
        (last[0], last[1], last[5]),
        ("scope-00", "switched off", "–"),
    )
    check(
        "scopes: no page after the last",
        browser.run("return document.querySelector('#after').disabled"),
    )
    browser.type("#search", "<IMG\ue007")
    browser.until("what is searched for", lambda: len(browser.table("#scopes")) == 1)
    check("scopes: found by a part of the name", browser.table("#scopes")[0][0], FAILING)
    check("scopes: no errors of others are left", len(browser.table("#failures")), 1)
    browser.run("document.querySelector('#search').value = ''")
    browser.type("#search", "\ue007")
    browser.until("all", lambda: browser.text("#page") == "1 to 25 of 62")


def see_failures(browser, processor):
    rows = sorted(browser.table("#failures"))
    check("errors: both scopes", [row[0] for row in rows], [FAILING, MENDED])
    check("errors: the stage", {row[2] for row in rows}, {"collect"})
    check("errors: the text, as it is", all(ERROR in row[3] for row in rows))
    check("errors: tries", {row[4] for row in rows}, {"1"})
    processor(1)
    refresh(browser)
    check("errors: tries are counted", {row[4] for row in browser.table("#failures")}, {"2"})
    check(
        "errors: how many",
        "2\nScopes failing" in browser.text("#tiles")
        or "Scopes failing\n2" in browser.text("#tiles"),
    )
    Prometheus.is_well = True
    processor(0)
    refresh(browser)
    check("errors: gone once the scopes are rated", browser.text("#failures"), "No scope fails.")


def see_processors(browser, database):
    check(
        "processors: those that ended with a word are gone",
        browser.text("#processors"),
        "No processor runs.",
    )
    seen = int(time.time())

    def write(sql, *values):
        with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection, connection:
            connection.execute(sql, values)

    write(
        "INSERT INTO ratekitty_processors VALUES (?, ?, 7, '1.0', ?, ?, 10, 1000, '')",
        "a",
        HOSTILE,
        seen - 100,
        seen - 30,
    )
    write(
        "INSERT INTO ratekitty_processors VALUES (?, 'lost', 8, '1.0', ?, ?, 10, 1000, '')",
        "b",
        seen - 9000,
        seen - 7200,
    )
    refresh(browser)
    rows = browser.table("#processors")
    check("processors: hostile hosts are text", rows[0][0], HOSTILE + ", 7")
    check("processors: no rate after one look", rows[0][3], "–")
    check("processors: one that is not seen", rows[1][7].startswith("not seen for 2 h"), True)
    write(
        "UPDATE ratekitty_processors SET seen_epoch = ?, points = 4000, problem = ? WHERE id = 'a'",
        seen,
        "no scopes: <b>",
    )
    refresh(browser)
    rows = browser.table("#processors")
    check(
        "processors: points per second between two looks", rows[0][3:6], ["100.0", "40.0", "4,000"]
    )
    check("processors: what keeps it from rating", rows[0][7], "no scopes: <b>")


def see_costs(browser):
    def marks(id):
        script = "return document.querySelectorAll(arguments[0] + ' rect').length"
        return browser.run(script, f"#{id}")

    check("costs per type: a mark for each day and type", marks("by-type"), len(DAYS) * len(TYPES))
    # Eight and the others.
    check("costs per project: marks", marks("by-scope"), len(DAYS) * 9)
    own = decimal.Decimal("0.25") * len(DAYS)
    expected = [
        [kind, rounded(total(kind=kind) + (own if kind == "instance" else 0))] for kind in TYPES
    ]
    check("costs per type: sums", browser.table("#by-type > table"), expected)
    # The second most cannot be asked for by its name, and is among the others.
    named = [project for project in PROJECTS if project != COMMA][:8]
    others = total() + own - sum(total(project=project) for project in named)
    expected = [[project, rounded(total(project=project))] for project in named] + [
        ["others", rounded(others)]
    ]
    check("costs per project: sums", browser.table("#by-scope > table"), expected)
    check(
        "costs: all together", browser.texts("#by-scope > table tfoot td"), [rounded(total() + own)]
    )
    check("costs: rounded with a word", "rounded to 2 places" in browser.text("#costs-word"))
    browser.click("#by-type summary")
    browser.until("numbers", lambda: browser.table("#by-type details"))
    row = browser.table("#by-type details")[0]
    day = [sum(cost(0, project, kind) for project in PROJECTS) for kind in TYPES]
    day[0] += decimal.Decimal("0.25")
    check(
        "costs: the same numbers in a table",
        row,
        [DAYS[0].date().isoformat(), *map(rounded, day), rounded(sum(day))],
    )
    titles = browser.run(
        "return [...document.querySelectorAll('#by-type rect title')].map((e) => e.textContent)"
    )
    check(
        "costs: a mark tells what it is",
        f"{DAYS[0].date()}\n{TYPES[1]}: {rounded(day[1])}" in titles,
    )
    for places, per in [("", "period"), ("", "day")]:
        script = "for (const [id, value] of arguments[0]) document.getElementById(id).value = value"
        browser.run(script, [["places", places], ["per", per]])
        browser.run("document.querySelector('#costs-word').textContent = ''")
        browser.click("#window button")
        browser.until("costs", lambda: "all digits" in browser.text("#costs-word"))
        sums = browser.texts("#by-scope > table tbody td")
        check(f"costs per {per}: all digits", sums[0], str(total(project=HOSTILE).normalize()))
        check(f"costs per {per}: others, digit for digit", sums[-1], str(others.normalize()))
    browser.run("document.querySelector('#end').value = document.querySelector('#begin').value")
    browser.click("#window button")
    check(
        "costs: a window without time is told of",
        browser.text("#costs-word"),
        "The begin has to be before the end.",
    )
    empty = [["begin", "2019-01-01"], ["end", "2019-02-01"]]
    browser.run(
        "for (const [id, value] of arguments[0]) document.getElementById(id).value = value", empty
    )
    browser.click("#window button")
    browser.until("nothing", lambda: "Nothing was rated" in browser.text("#by-scope"))
    check("costs: nothing is told of", marks("by-scope"), 0)


def see_names(browser):
    check("hostile names are text: the title", browser.run("return document.title"), "ratekitty")
    found = browser.run("return document.querySelectorAll('img, b, iframe, main script').length")
    check("hostile names are text: no elements of theirs", found, 0)


def see_access(browser):
    """Names and headings, for who does not see the page."""
    nameless = browser.run("""const kinds = 'input, select, button, svg, [role=region]'
        return [...document.querySelectorAll(kinds)].filter((e) => !e.textContent.trim()
            && !(e.labels && e.labels.length)
            && !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby'))
        .map((e) => e.outerHTML)""")
    check("every control has a name", nameless, [])
    heads = browser.run(
        "return [...document.querySelectorAll('th')].filter((e) => !e.scope).length"
    )
    check("every head of a table says what it is of", heads, 0)
    check(
        "every table has a caption",
        browser.run("return document.querySelectorAll('table:not(:has(caption))').length"),
        0,
    )


def see_narrow(browser):
    browser.resize(360, 800)
    browser.until(
        "a chart that fits",
        lambda: (
            browser.run("return document.querySelector('#by-type svg').viewBox.baseVal.width") < 400
        ),
    )
    wide = browser.run("return document.documentElement.scrollWidth")
    check("a narrow window is not scrolled sideways", wide <= 360, True)
    browser.screenshot(shots / "narrow.png")
    browser.resize(1280, 900)


def see_trouble(browser, database):
    def rename(old, new):
        with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection, connection:
            connection.execute(f"ALTER TABLE {old} RENAME TO {new}")

    rename("ratekitty_processors", "away")
    refresh(browser)
    check(
        "503 is told of",
        browser.text("#trouble"),
        "503: The service is temporarily unavailable. Try again in 5 s.",
    )
    check("what was there stays", len(browser.table("#scopes")), 25)
    rename("away", "ratekitty_processors")
    refresh(browser)
    check("and is forgotten when it is over", browser.text("#trouble"), "")


def see_as_member(browser, member):
    browser.click("#leave")
    browser.until("the field", lambda: browser.text("#login"))
    check("a token can be forgotten", browser.run("return sessionStorage.length"), 0)
    check(
        "and with it what it showed",
        "scope-06" in browser.run("return document.body.textContent"),
        False,
    )
    browser.run("document.querySelector('#begin').value = arguments[0]", DAYS[0].date().isoformat())
    browser.run(
        "document.querySelector('#end').value = arguments[0]",
        (DAYS[-1].date() + datetime.timedelta(days=1)).isoformat(),
    )
    log_in(browser, member)
    browser.until("costs", lambda: browser.table("#by-type > table"))
    check(
        "a member sees their own costs", browser.table("#by-type > table"), [["instance", "1.25"]]
    )
    hidden = [browser.text(f"#{id}") for id in ("admin", "details", "by-scope")]
    check("and nothing of others", hidden, [""] * 3)
    check("with a word on it", "may not see" in browser.text("#word"))
    browser.screenshot(shots / "member.png")


def see_all(browser, url, database, processor):
    admin, member = token("admin", "admin"), token("alpha-member", "alpha")
    fill(url, admin)
    # It ends with 1: nothing can be collected.
    processor(1)
    browser.resize(1280, 900)
    see_tokens(browser, url, admin)
    see_scopes(browser)
    browser.screenshot(shots / "light.png")
    browser.colours("dark")
    browser.screenshot(shots / "dark.png")
    browser.colours("light")
    see_access(browser)
    see_narrow(browser)
    see_names(browser)
    see_failures(browser, processor)
    see_processors(browser, database)
    see_costs(browser)
    see_names(browser)
    see_trouble(browser, database)
    see_as_member(browser, member)
    lines = [
        line
        for line in browser.log()
        if "status of 403" not in line and "status of 503" not in line
    ]
    check("the browser complains of nothing", lines, [])


def serve(command, log):
    """An API that answers, and its URL."""
    port = free_port()
    arguments = ["api", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("ab") as output:
        api = subprocess.Popen([*command, *arguments], stdout=output, stderr=output)
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return api, f"http://127.0.0.1:{port}"
        assert api.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def stop(process):
    process.terminate()
    process.wait(60)


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Prometheus)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with contextlib.ExitStack() as stack:
        folder = tempfile.TemporaryDirectory(prefix="ratekitty-ui.", ignore_cleanup_errors=True)
        folder = pathlib.Path(stack.enter_context(folder))
        prometheus = f"http://127.0.0.1:{server.server_port}/api/v1"
        command = configure(folder, prometheus, "keystone")

        def processor(expected):
            once = [*command, "processor", "--once"]
            done = subprocess.run(once, capture_output=True, text=True)
            assert done.returncode == expected, done.stdout + done.stderr

        api, url = serve(command, folder / "api.log")
        stack.callback(stop, api)
        browser = Browser(chromium, folder)
        stack.callback(browser.close)
        see_all(browser, url, folder / "cloudkitty.sqlite", processor)
        stop(api)
        refresh(browser)
        trouble = browser.text("#trouble")
        check("an API that is away is told of", "The API does not answer" in trouble)
        own = browser.table("#by-type > table")
        check("and what was there stays", own, [["instance", "1.25"]])
        api, url = serve(configure(folder, prometheus, "noauth"), folder / "api.log")
        stack.callback(stop, api)
        browser.open(url + "/ui")
        browser.until("costs", lambda: browser.table("#by-scope > table"))
        found = [browser.text("#login"), browser.text("#leave"), len(browser.table("#scopes"))]
        check("without Keystone nobody is asked for a token", found, ["", "", 25])


main()
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed or not passed else 0)
