"""The API under load: ours beside the reference's, then ours on a million points.

usage: scripts/with-servers mariadb -- python3 benches/api_load.py PROGRAM

PROGRAM is ratekitty's, built for release. `wrk` asks for one URL at a time over
64 connections that stay open.

1. Scopes and rules are put into MariaDB over our API. The reference's API serves
   them with uWSGI, in 2 processes, and ours beside it. Both must answer the same
   before and after. They are measured in turns. Where a URL has `{}`, each request
   asks for another page: requests for the same at the same time would share an answer.
2. A million points are put into SQLite over our API. What it answers must be what
   was put in, before and after. It is started anew for each URL, so that its
   memory is told for each. Summaries are asked for twice: where sums are kept, and
   where each is computed.

Prints medians, and the goals beside them. Prints no figure if an answer differs,
or if one request fails.

`BENCH_RUNS` (3) sets the number of rounds, `BENCH_SECONDS` (10) their length,
`BENCH_HOURS` (100) the hours that have points, 10,000 each.
"""

import collections
import datetime
import decimal
import glob
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

from common import PATIENCE, Server, ask, fail, free_port, make_database, peers, run, say

CONNECTIONS = 64
ROUNDS = int(os.environ.get("BENCH_RUNS", "3"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "10"))

# Goals: requests per second as a multiple of the reference's, milliseconds, MB.
TIMES_REFERENCE, P99, MEMORY = 20, 50, 100

SCOPES = 300
MAPPINGS = 300
SHARED = ["/v2/scope?limit=100", "/v2/scope?limit=100&offset={}", "/v1/rating/modules", "/v2/rating/modules"]

PROJECTS, THINGS = 25, 100
HOURS = int(os.environ.get("BENCH_HOURS", "100"))
BEGIN = datetime.datetime(2026, 10, 1, tzinfo=datetime.timezone.utc)
# Price of a unit, by type.
PRICES = {
    "instance": "0.125",
    "network.incoming.bytes": "0.002",
    "network.outgoing.bytes": "0.01",
    "volume.size": "0.0005",
}
FLAVORS = 10
POINTS = len(PRICES) * PROJECTS * THINGS * HOURS

# What wrk says at its end; times are microseconds.
DONE = """
function done(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  print(string.format("%d %d %d %d %d", summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99)))
end
"""

# The beginnings of pages, for which wrk asks in turn.
OFFSETS = SCOPES - 100
EACH = """
local at = 0
local path = "%s"
function request()
  at = (at + 1) %% %d
  local asked = string.gsub(path, "{}", at)
  return wrk.format("GET", asked)
end
"""

Figure = collections.namedtuple("Figure", "rate p50 p99")


def configure(folder, database, storage):
    """Writes the configuration of a program into its folder."""
    folder.mkdir()
    file = folder / "cloudkitty.conf"
    paste = ROOT_OF["cloudkitty-sdist"] / "etc/cloudkitty/api_paste.ini"
    file.write_text(
        f"[DEFAULT]\nauth_strategy = noauth\ntransport_url = fake://\napi_paste_config = {paste}\n"
        f"[database]\nconnection = {database}\n[storage]\nversion = 2\nbackend = {storage}\n"
    )
    return file


def ratekitty(folder, config, keeps_sums=True):
    port = free_port()
    command = [PROGRAM, "--config-file", config, "api", "--host", "127.0.0.1", "--port", str(port)]
    env = {} if keeps_sums else {"OS_RATEKITTY__SUMMARY_CACHE": "0"}
    return Server("ratekitty", folder, command, port, env)


def reference(folder):
    port = free_port()
    command = [ROOT_OF["openstack-venv"] / "bin/uwsgi", "--http-socket", f"127.0.0.1:{port}"]
    command += ["--home", ROOT_OF["cloudkitty-venv"], "--module", "cloudkitty.wsgi.api:application"]
    # Each process makes its own connections to the database. One thread each, as
    # DevStack has it: with more, it answers less.
    command += ["--master", "--processes", "2", "--enable-threads", "--lazy-apps"]
    command += ["--need-app", "--die-on-term", "--disable-logging", "--buffer-size", "65535"]
    # It closes connections after each answer, and has to say so.
    command += ["--add-header", "Connection: close"]
    # The reference looks for its configuration below its home.
    (folder / ".cloudkitty").symlink_to(folder)
    return Server("reference", folder, command, port, {"HOME": str(folder)})


def load(url, seconds):
    """Asks for a URL over all connections for some time."""
    folder = ROOT_OF["wrk"]
    libs = ":".join(glob.glob(str(folder.parent / "lib/*-linux-gnu")))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(DONE)
        if "{}" in url:
            script.write(EACH % (urllib.parse.urlsplit(url)._replace(scheme="", netloc="").geturl(), OFFSETS))
        script.flush()
        command = [folder / "wrk", "--threads", "1", "--connections", str(CONNECTIONS)]
        command += ["--duration", f"{seconds}s", "--timeout", f"{PATIENCE}s"]
        command += ["--script", script.name, url.format(0)]
        env = os.environ | {"LD_LIBRARY_PATH": libs}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    requests, duration, failed, p50, p99 = map(int, done.stdout.splitlines()[-1].split())
    if failed or not requests:
        fail(f"{url}: {requests} answers, {failed} failures:\n{done.stdout}")
    return Figure(requests / duration * 1e6, p50 / 1e3, p99 / 1e3)


def median(figures):
    return Figure(*map(statistics.median, zip(*figures)))


# --- Beside the reference ---------------------------------------------------


def scope_id(number):
    return f"project-{number:03}"


def put_scopes(url):
    for scope in range(SCOPES):
        body = {
            "scope_id": scope_id(scope),
            "scope_key": "project_id",
            "fetcher": "prometheus",
            "collector": "prometheus",
            "last_processed_timestamp": (BEGIN + scope * datetime.timedelta(hours=1)).isoformat(),
        }
        ask(f"{url}/v2/scope", "POST", body)


def put_rules(url):
    hashmap = f"{url}/v1/rating/module_config/hashmap"
    kinds = len(PRICES)
    for kind in PRICES:
        service = ask(f"{hashmap}/services", "POST", {"name": kind})["service_id"]
        body = {"service_id": service, "name": "flavor"}
        field = ask(f"{hashmap}/fields", "POST", body)["field_id"]
        for value in range(MAPPINGS // kinds):
            body = {"field_id": field, "value": f"flavor-{value}", "cost": "0.25", "type": "flat"}
            ask(f"{hashmap}/mappings", "POST", body)
    ask(f"{url}/v2/rating/modules/hashmap", "PUT", {"enabled": True, "priority": 3})


def compare(ours, theirs):
    for path in SHARED:
        for path in {path.format(offset) for offset in (0, OFFSETS // 2)}:
            answers = ask(ours.url + path), ask(theirs.url + path)
            if answers[0] != answers[1]:
                fail(f"GET {path}: ours is\n{answers[0]}\nthe reference's is\n{answers[1]}")


def beside_reference(folder):
    url = make_database("api_load")
    config = configure(folder / "ours", url, "sql")
    run([PROGRAM, "--config-file", config, "dbsync", "upgrade"])
    # What is asked for is not in its storage of dataframes.
    configure(folder / "theirs", url, "loki")
    figures = collections.defaultdict(list)
    with ratekitty(folder, config) as ours, reference(folder / "theirs") as theirs:
        say(f"{SCOPES} scopes and {MAPPINGS} mappings go into MariaDB")
        put_scopes(ours.url)
        put_rules(ours.url)
        compare(ours, theirs)
        for number in range(ROUNDS):
            for path in SHARED:
                for server in (ours, theirs):
                    who = "ratekitty" if server is ours else "reference"
                    say(f"round {number + 1} of {ROUNDS}, {who}, GET {path}")
                    figures[path, server is ours].append(load(server.url + path, SECONDS))
        compare(ours, theirs)
        memory = ours.memory(), theirs.memory()
    lines = [
        f"{'MariaDB, beside the reference':<35}{'requests/s':>11}{'reference':>11}{'ratio':>7}{'goal':>6}"
        f"{'p50':>8}{'ref.':>8}{'p99':>8}{'ref.':>8}{'goal':>6} ms"
    ]
    for path in SHARED:
        we, they = median(figures[path, True]), median(figures[path, False])
        lines.append(
            f"{'GET ' + path:<35}{we.rate:>11,.0f}{they.rate:>11,.0f}"
            f"{we.rate / they.rate:>7.0f}{TIMES_REFERENCE:>6}"
            f"{we.p50:>8.1f}{they.p50:>8.1f}{we.p99:>8.1f}{they.p99:>8.1f}{P99:>6}"
        )
    lines.append(
        f"{'memory':<35}{memory[0]:>8.0f} MB{memory[1]:>8.0f} MB"
        f"{memory[1] / memory[0]:>7.1f}  goal {MEMORY} MB at most"
    )
    return lines


# --- A million points ------------------------------------------------------


def quantity(kind, number, hour):
    """Servers and volumes are the same in each hour, traffic is not."""
    if kind == "instance":
        return decimal.Decimal(1)
    if kind == "volume.size":
        return decimal.Decimal(10 + number % THINGS)
    return decimal.Decimal((number * 7919 + hour * 104729) % 4_000_000).scaleb(-3)


def put_points(url):
    """Puts in the points, hour by hour; their sums by type, project and flavor."""
    sums = collections.defaultdict(lambda: [0, 0])
    for hour in range(HOURS):
        begin = BEGIN + datetime.timedelta(hours=hour)
        calendar = {
            "week_of_the_year": begin.strftime("%U"),
            "day_of_the_year": str(begin.timetuple().tm_yday),
            "month": str(begin.month),
            "year": str(begin.year),
        }
        usage = {}
        for kind, price in PRICES.items():
            points = usage[kind] = []
            for number in range(PROJECTS * THINGS):
                project, flavor = scope_id(number // THINGS), f"flavor-{number % FLAVORS}"
                qty = quantity(kind, number, hour)
                rate = qty * decimal.Decimal(price)
                points.append(
                    {
                        "vol": {"unit": "unit", "qty": str(qty)},
                        "rating": {"price": str(rate)},
                        "groupby": {"id": f"{kind}-{number}", "project_id": project} | calendar,
                        "metadata": {"flavor": flavor},
                    }
                )
                row = sums[kind, project, flavor]
                row[0] += qty
                row[1] += rate
        period = {
            "begin": begin.isoformat(),
            "end": (begin + datetime.timedelta(hours=1)).isoformat(),
        }
        ask(f"{url}/v2/dataframes", "POST", {"dataframes": [{"period": period, "usage": usage}]})
    return sums


def summary_is(sums, *places):
    """Whether an answer has these sums, by some of type, project and flavor."""
    wanted = collections.defaultdict(lambda: [0, 0])
    for key, (qty, rate) in sums.items():
        row = wanted[tuple(key[place] for place in places)]
        row[0] += qty
        row[1] += rate
    wanted = [[float(qty), float(rate), *key] for key, (qty, rate) in sorted(wanted.items())]

    def check(answer):
        rows = [row[2:] for row in answer["results"]]
        return rows == wanted and answer["total"] == len(wanted)

    return check


def page_is_first(answer):
    """Whether it is the first page: one type of the first project in the first hour."""
    (frame,) = answer["dataframes"]
    ids = [point["groupby"]["id"] for point in frame["usage"]["instance"]]
    is_first = list(frame["usage"]) == ["instance"] and frame["period"]["begin"] == BEGIN.isoformat()
    return answer["total"] == POINTS and is_first and ids == [f"instance-{n}" for n in range(100)]


def scopes_are_first(answer):
    return [scope["scope_id"] for scope in answer["results"]] == [scope_id(n) for n in range(100)]


def million_points(folder):
    config = configure(folder / "sqlite", f"sqlite:///{folder}/points.sqlite", "sql")
    run([PROGRAM, "--config-file", config, "dbsync", "upgrade"])
    say(f"{POINTS:,} points go into SQLite")
    with ratekitty(folder, config) as server:
        put_scopes(server.url)
        started = time.monotonic()
        sums = put_points(server.url)
        say(f"that took {time.monotonic() - started:.0f} s")
    end = BEGIN + datetime.timedelta(hours=HOURS)
    window = f"begin={BEGIN:%Y-%m-%dT%H:%M:%SZ}&end={end:%Y-%m-%dT%H:%M:%SZ}"
    works = [
        ("summary by type", f"/v2/summary?{window}&groupby=type", summary_is(sums, 0)),
        (
            "summary by type and project",
            f"/v2/summary?{window}&groupby=type,project_id",
            summary_is(sums, 0, 1),
        ),
        ("summary by flavor", f"/v2/summary?{window}&groupby=flavor", summary_is(sums, 2)),
        ("100 dataframes", f"/v2/dataframes?{window}&limit=100", page_is_first),
        ("100 scopes", "/v2/scope?limit=100", scopes_are_first),
    ]
    lines = [
        f"{f'SQLite, {POINTS:,} points':<38}{'requests/s':>11}{'alone':>9}{'p50':>11}{'p99':>11}"
        f"{'goal':>6} ms{'memory':>8}{'goal':>6} MB"
    ]
    # Goals are for what is asked again; what is asked for the first time is told, too.
    computed = [(f"{name}, computed", *rest) for name, *rest in works if name.startswith("summary")]
    for name, path, is_right in works + computed:
        with ratekitty(folder, config, not name.endswith(", computed")) as server:

            def check():
                answer = ask(server.url + path)
                if not is_right(answer):
                    fail(f"GET {path} answers {str(answer)[:3000]}")

            times = []
            for _ in range(3):
                started = time.monotonic()
                check()
                times.append(time.monotonic() - started)
            alone = statistics.median(times)
            # Long enough for each connection to have answers, within reason.
            seconds = max(SECONDS, min(100, int(3 * CONNECTIONS * alone / 2)))
            rounds = ROUNDS if seconds <= 6 * SECONDS else 1
            say(f"{name}: {rounds} rounds of {seconds} s")
            figure = median([load(server.url + path, seconds) for _ in range(rounds)])
            check()
            lines.append(
                f"{name:<38}{figure.rate:>11,.1f}{alone * 1000:>9,.1f}{figure.p50:>11,.1f}"
                f"{figure.p99:>11,.1f}{P99:>6}   {server.memory():>8.0f}{MEMORY:>6}"
            )
    return lines


if len(sys.argv) != 2:
    fail("usage: scripts/with-servers mariadb -- python3 benches/api_load.py PROGRAM")
PROGRAM = pathlib.Path(sys.argv[1]).resolve()
# A stop ends the servers, too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
ROOT_OF = peers("wrk", "cloudkitty-venv", "cloudkitty-sdist", "openstack-venv")

with tempfile.TemporaryDirectory(prefix="ratekitty-load.") as name:
    for part in (beside_reference, million_points):
        print("\n".join(part(pathlib.Path(name))), flush=True)
        print()
