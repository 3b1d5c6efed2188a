"""A catch-up: ratekitty between the raw floor and the reference, or alone as work grows.

usage: scripts/with-servers mariadb -- python3 benches/catchup.py PROGRAM

PROGRAM is ratekitty's, built for release. A real Prometheus has servers, volumes
and traffic of some projects. The storage is the suite's double of Loki or a real one,
a process of its own and new for each run, as is the state database. In turns,

1. ratekitty collects, rates and pushes everything: `processor --once`;
2. the floor, `benches/floor.rs`, reads the same values in one range query for each
   metric, and pushes the lines that ratekitty pushed;
3. ratekitty reads alone: it has no prices, and an expression skips every point;
4. the reference's processor does what ratekitty did, until the states of all scopes
   have arrived. It is given fewer hours, as it takes minutes, and compared by point.

Prints medians, ratios and the goals beside them. Prints no figure if a total in the
storage is not what the samples amount to.

Without a MariaDB the reference is left out, and the state is in SQLite.

`BENCH_PROJECTS` (20), `BENCH_SERVERS` (20 in each) and `BENCH_HOURS` (505) set the
size, `BENCH_RUNS` (3) the number of rounds, `BENCH_REFERENCE_HOURS` (48) the hours
of the reference; `BENCH_REFERENCE=0` leaves it out.

`BENCH_LOKI` is the path of a real Loki's program, such as of Grafana's package: everything
that is pushed goes there instead of to the double, but for the reading alone. It has the
settings of `devstack/loki/loki-single.yaml` with higher limits of rate.
`BENCH_CONTENT_TYPE` (`application/json`) is how ratekitty pushes; the floor and the
reference push JSON.

With `BENCH_GROWTH=1`, ratekitty runs alone: over more and more scopes, points and
periods. Prints a table, and draws it into `docs/img/growth.svg`, or into
`BENCH_PLOT`.

With `BENCH_STEADY=1`, it runs alone, too: one cycle over the one period that is due of
each of `BENCH_PROJECTS` (10,000) scopes, with 500 points each.
"""

import collections
import contextlib
import datetime
import decimal
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from common import ROOT, Server, ask, fail, free_port, make_database, mariadb, memory, peers, pids
from common import run, say, stop
from plot import plot


def number(name, default):
    return int(os.environ.get(name, default))


PROJECTS, SERVERS = number("BENCH_PROJECTS", 20), number("BENCH_SERVERS", 20)
HOURS, ROUNDS = number("BENCH_HOURS", 505), number("BENCH_RUNS", 3)
LOKI = os.environ.get("BENCH_LOKI")
if LOKI and not os.access(LOKI, os.X_OK):
    fail(f"BENCH_LOKI: {LOKI} is no program")
CONTENT_TYPE = os.environ.get("BENCH_CONTENT_TYPE", "application/json")
REFERENCE_HOURS = min(number("BENCH_REFERENCE_HOURS", 48), HOURS)
HAS_MARIADB = "RATEKITTY_TEST_MARIADB" in os.environ
HAS_REFERENCE = HAS_MARIADB and os.environ.get("BENCH_REFERENCE") != "0"
PLOT = pathlib.Path(os.environ.get("BENCH_PLOT", ROOT / "docs/img/growth.svg"))

# Goals: the reference's multiples of ours, our multiples of the floor, MB.
WALL, CPU, FLOOR, READING, MEMORY = 20, 100, 1.3, 1.5, 128
# Of one cycle: seconds, MB.
CYCLE, CYCLE_MEMORY = 180, 256

# What grows, one at a time: projects, servers of each, hours.
GROWTH = [
    ("scopes", [(projects, 1, 4) for projects in (10, 100, 1_000, 10_000)]),
    ("points", [(10, servers, 4) for servers in (1, 10, 100, 1_000)]),
    ("periods", [(10, 10, hours) for hours in (4, 20, 100, 500)]),
]

PERIOD = 3600
STEP = 300
# Below the five minutes that an instant query looks back.
ALIVE_STEP = 240

METRICS = """
metrics:
  openstack_instance:
    {unit: instance, alt_name: instance, groupby: [id], metadata: [flavor_name]}
  openstack_volume_gb:
    {unit: GiB, alt_name: volume.size, groupby: [id], metadata: [volume_type]}
  openstack_net_out_bytes_total:
    unit: KiB
    alt_name: network.outgoing.bytes
    factor: 1/1024
    groupby: [id]
    extra_args: {range_function: delta}
"""
# The same values without grouping, by which nothing is added up.
QUERIES = [
    f"max_over_time(openstack_instance[{PERIOD}s])",
    f"max_over_time(openstack_volume_gb[{PERIOD}s])",
    f"delta(openstack_net_out_bytes_total[{PERIOD}s])",
]

FLAVORS = {"m1.tiny": "0.05", "m1.small": "0.1", "m1.medium": "0.2", "c2.large": "0.65"}
VOLUME, TRAFFIC = "0.0005", "0.002"
START = "start: 2000-01-01T00:00:00"
MAPPINGS = "\n".join(
    f"            - {{value: {flavor}, type: flat, cost: '{cost}', {START}}}"
    for flavor, cost in FLAVORS.items()
)
PRICES = f"""
modules: {{hashmap: {{enabled: true}}}}
hashmap:
  services:
    - name: instance
      fields:
        - name: flavor_name
          mappings:
{MAPPINGS}
    - name: volume.size
      mappings: [{{type: flat, cost: '{VOLUME}', {START}}}]
    - name: network.outgoing.bytes
      mappings: [{{type: flat, cost: '{TRAFFIC}', {START}}}]
"""

# Seconds; MB; requests and bytes that Prometheus and Loki saw, and their CPU seconds.
Figure = collections.namedtuple(
    "Figure", "wall cpu memory queries answers pushes pushed prometheus_cpu loki_cpu"
)
Thing = collections.namedtuple("Thing", "project id flavor size rate")
# Sums of a type.
Total = collections.namedtuple("Total", "points qty price")


# --- What is rated ----------------------------------------------------------


class Cloud:
    """Projects with servers, each with a volume and traffic, up to the last full hour."""

    metrics, prices = METRICS, PRICES

    def __init__(self, projects, servers, hours):
        self.projects, self.servers, self.hours = projects, servers, hours
        self.end = int(time.time()) // PERIOD * PERIOD
        self.begin = self.end - hours * PERIOD

    @property
    def points(self):
        return len(QUERIES) * self.projects * self.servers * self.hours

    def things(self):
        """All servers, the same each time."""
        choice = random.Random(7)
        for _ in range(self.projects):
            project = f"{choice.getrandbits(128):032x}"
            for _ in range(self.servers):
                thing = f"{choice.getrandbits(128):032x}"
                flavor, size = choice.choice(list(FLAVORS)), choice.choice([10, 20, 50, 100])
                # Whole KiB, so that totals are whole numbers.
                yield Thing(project, thing, flavor, size, 1024 * choice.randrange(1, 90))

    def scopes(self):
        return list(dict.fromkeys(thing.project for thing in self.things()))

    def totals(self, hours):
        """What some hours amount to, by type."""
        sums = collections.defaultdict(decimal.Decimal)
        for thing in self.things():
            traffic = thing.rate * PERIOD // STEP // 1024
            sums["instance"] += 1
            sums["instance", "price"] += decimal.Decimal(FLAVORS[thing.flavor])
            sums["volume.size"] += thing.size
            sums["network.outgoing.bytes"] += traffic
        sums["volume.size", "price"] = sums["volume.size"] * decimal.Decimal(VOLUME)
        traffic = sums["network.outgoing.bytes"]
        sums["network.outgoing.bytes", "price"] = traffic * decimal.Decimal(TRAFFIC)
        points = self.projects * self.servers * hours
        return {
            kind: Total(points, float(sums[kind] * hours), float(sums[kind, "price"] * hours))
            for kind in ("instance", "volume.size", "network.outgoing.bytes")
        }

    def write(self, path, ahead):
        """Samples as OpenMetrics. By the projects, scopes are found for some hours to come."""
        times = [str(at) for at in range(self.begin, self.end, STEP)]
        alive = range(self.end - PERIOD, self.end + ahead * PERIOD, ALIVE_STEP)
        with path.open("w") as file:

            def series(labels, values, times):
                file.write("".join(f"{labels} {value} {at}\n" for value, at in zip(values, times)))

            file.write("# TYPE openstack_instance gauge\n")
            for thing in self.things():
                labels = f'project_id="{thing.project}",id="{thing.id}",flavor_name="{thing.flavor}"'
                series(f"openstack_instance{{{labels}}}", itertools.repeat(1), times)
            file.write("# TYPE openstack_volume_gb gauge\n")
            for thing in self.things():
                labels = f'project_id="{thing.project}",id="v{thing.id[1:]}",volume_type="ssd"'
                series(f"openstack_volume_gb{{{labels}}}", itertools.repeat(thing.size), times)
            file.write("# TYPE openstack_net_out_bytes counter\n")
            for thing in self.things():
                labels = f'project_id="{thing.project}",id="{thing.id}"'
                counter = itertools.count(0, thing.rate)
                series(f"openstack_net_out_bytes_total{{{labels}}}", counter, times)
            file.write("# TYPE openstack_project gauge\n")
            for project in self.scopes():
                labels = f'openstack_project{{project_id="{project}"}}'
                series(labels, itertools.repeat(1), alive)
            file.write("# EOF\n")


class ManyPoints(Cloud):
    """Projects with servers only, of which as many kinds of points are made."""

    kinds = ["instance", *(f"instance.{number}" for number in range(2, 6))]
    metrics = "metrics:\n  openstack_instance:\n" + "".join(
        f"    - {{unit: instance, alt_name: {kind}, groupby: [id], metadata: [flavor_name]}}\n"
        for kind in kinds
    )
    prices = "modules: {hashmap: {enabled: true}}\nhashmap:\n  services:\n" + "".join(
        f"    - name: {kind}\n      fields:\n        - name: flavor_name\n          mappings:\n{MAPPINGS}\n"
        for kind in kinds
    )

    @property
    def points(self):
        return len(self.kinds) * self.projects * self.servers * self.hours

    def totals(self, hours):
        prices = sum(decimal.Decimal(FLAVORS[thing.flavor]) for thing in self.things())
        points = self.projects * self.servers * hours
        return {kind: Total(points, float(points), float(prices * hours)) for kind in self.kinds}

    def write(self, path, ahead):
        alive = range(self.end - PERIOD, self.end + ahead * PERIOD, ALIVE_STEP)
        times = range(self.begin, self.end, STEP)
        with path.open("w") as file:
            for name, things, times in (
                ("openstack_instance", self.things(), times),
                ("openstack_project", self.scopes(), alive),
            ):
                file.write(f"# TYPE {name} gauge\n")
                for thing in things:
                    labels = (
                        f'project_id="{thing}"'
                        if isinstance(thing, str)
                        else f'project_id="{thing.project}",id="{thing.id}",flavor_name="{thing.flavor}"'
                    )
                    file.write("".join(f"{name}{{{labels}}} 1 {at}\n" for at in times))
            file.write("# EOF\n")


# --- Who takes part ---------------------------------------------------------


def cpu(pid):
    """CPU seconds of a process, its children, and those that have ended."""
    total = 0
    for one in pids(pid):
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(") ", 1)[1].split()
        total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


class Prometheus(Server):
    """One that has the samples of a cloud."""

    def __init__(self, folder, cloud, ahead):
        samples, blocks = folder / "samples.om", folder / "prometheus"
        say(f"{cloud.points:,} points: making samples")
        cloud.write(samples, ahead)
        # In long blocks, as old ones are; else promtool reads the file for every two hours.
        command = [ROOT_OF["prometheus"] / "promtool", "tsdb", "create-blocks-from", "openmetrics"]
        run([*command, "--max-block-duration=486h", "--quiet", samples, blocks])
        samples.unlink()
        config = folder / "prometheus.yml"
        config.write_text("global: {}\n")
        port = free_port()
        command = [ROOT_OF["prometheus"] / "prometheus", f"--config.file={config}"]
        command += [f"--storage.tsdb.path={blocks}", "--storage.tsdb.retention.time=100y"]
        # Nothing is to be compacted while others are measured.
        command += ["--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        super().__init__("prometheus", folder, command, port, ready="/-/ready")

    def counts(self):
        """Requests to its API, and bytes of the answers."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()

        def total(name):
            found = (line for line in lines if line.startswith(name) and '"/api/v1/' in line)
            return sum(float(line.rsplit(" ", 1)[1]) for line in found)

        return total("prometheus_http_requests_total{"), total(
            "prometheus_http_response_size_bytes_sum{"
        )


class Loki:
    """What is stored in one, whichever it is."""

    def totals(self, begin, end):
        """What is stored of a time, by type."""

        def query(what):
            text = f"sum by (t) ({what.replace('RANGE', f'[{end - begin}s]')})"
            parameters = {"query": text, "time": end * 10**9 - 1}
            url = f"{self.api}/query?{urllib.parse.urlencode(parameters)}"
            rows = ask(url, headers={"X-Scope-OrgID": "cloudkitty"})["data"]["result"]
            return {row["metric"]["t"]: float(row["value"][1]) for row in rows}

        stream = '{service="cloudkitty"} | json t="type"'
        points = query(f"count_over_time({stream} RANGE)")
        qty, price = (
            query(f'sum_over_time({stream}, v="{field}" | unwrap v RANGE)')
            for field in ("qty", "price")
        )
        return {kind: Total(points[kind], qty[kind], price[kind]) for kind in points}


class Double(Loki):
    """The suite's double, without a line."""

    def __init__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([ROOT_OF["loki_double"]], text=True, **pipes)
        self.api = self.process.stdout.readline().strip()

    def tell(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else fail("the double of Loki has ended")

    def counts(self):
        """Pushes, bytes of their bodies, lines."""
        said = self.tell("count")
        return said["pushes"], said["body_bytes"], said["entries"]

    def keep(self, path):
        """Writes all lines into a file."""
        self.tell(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process)


class RealLoki(Server, Loki):
    """A Loki without a line. How long the bodies are that it gets, it does not tell."""

    numbers = itertools.count(1)
    # A cloud is caught up with at once, not at the pace of its usage.
    limits = ["ingestion-rate-limit-mb", "ingestion-burst-size-mb"]
    stream_limits = ["per-stream-rate-limit", "per-stream-rate-limit-burst"]

    def __init__(self, folder):
        name = f"loki{next(self.numbers)}"
        self.data, port, grpc = folder / name, free_port(), free_port()
        env = {
            "LOKI_HTTP_PORT": str(port),
            "LOKI_GRPC_PORT": str(grpc),
            "LOKI_DATA_DIR": str(self.data),
            "LOKI_CHUNKS_DIR": str(self.data / "chunks"),
        }
        command = [LOKI, f"-config.file={ROOT}/devstack/loki/loki-single.yaml", "-log.level=warn"]
        command += ["-config.expand-env=true"]
        command += [f"-distributor.{limit}=4096" for limit in self.limits]
        command += [f"-ingester.{limit}=4GB" for limit in self.stream_limits]
        super().__init__(name, folder, command, port, env, ready="/ready")
        self.api = f"{self.url}/loki/api/v1"

    def counts(self):
        """Pushes, None, lines."""
        found = collections.Counter()
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            for line in answer.read().decode().splitlines():
                name, _, value = line.rpartition(" ")
                if 'route="loki_api_v1_push"' in name or name.startswith("loki_distributor_lines"):
                    found[name.partition("{")[0]] += float(value)
        return (
            found["loki_request_duration_seconds_count"],
            None,
            found["loki_distributor_lines_received_total"],
        )

    def stop(self):
        super().stop()
        shutil.rmtree(self.data, ignore_errors=True)


def new_loki(folder, is_real=True):
    return RealLoki(folder) if LOKI and is_real else Double()


class State:
    """A state database without scopes, and the configuration of a program that has it."""

    numbers = itertools.count(1)

    def __init__(self, folder, cloud, prometheus, loki, more):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="run.", dir=folder))
        self.config = self.folder / "cloudkitty.conf"
        self.cloud = cloud
        self.client = None
        self.name = f"catchup_{next(State.numbers)}"
        if HAS_MARIADB:
            url = make_database(self.name)
            command, env = mariadb("--batch", "--skip-column-names", "--unbuffered", self.name)
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self.client = subprocess.Popen(command, env=env, text=True, **pipes)
        else:
            url = f"sqlite:///{self.folder}/state.sqlite"
        (self.folder / "metrics.yml").write_text(cloud.metrics)
        (self.folder / "locks").mkdir()
        first = datetime.datetime.fromtimestamp(cloud.begin, datetime.timezone.utc).isoformat()
        self.config.write_text(f"""
[DEFAULT]
transport_url = fake://
[database]
connection = {url}
[storage]
version = 2
backend = loki
[storage_loki]
url = {loki.api}
{more.get("storage_loki", "")}
[fetcher]
backend = prometheus
[fetcher_prometheus]
metric = openstack_project
prometheus_url = {prometheus.url}/api/v1
[collector_prometheus]
prometheus_url = {prometheus.url}/api/v1
[collect]
collector = prometheus
wait_periods = 1
metrics_conf = {self.folder}/metrics.yml
[orchestrator]
coordination_url = file://{self.folder}/locks
max_workers_reprocessing = 0
{more.get("orchestrator", "")}
[ratekitty]
state_path = {self.folder}
first_period_begin = {first}
""")
        self.ratekitty("dbsync", "upgrade")

    def ratekitty(self, *arguments):
        run([PROGRAM, "--config-file", self.config, *arguments])

    def ask(self, sql):
        """The only row of an answer."""
        if self.client is None:
            with contextlib.closing(sqlite3.connect(self.folder / "state.sqlite")) as database:
                return database.execute(sql).fetchone()
        self.client.stdin.write(f"{sql};\n")
        self.client.stdin.flush()
        return tuple(map(int, self.client.stdout.readline().split()))

    def begin_at(self, begin):
        """Makes the states of all scopes say that a time is the next one."""
        last = moment(begin - PERIOD)
        rows = (
            f"('{scope}', 'project_id', 'prometheus', 'prometheus', '{last}', 1)"
            for scope in self.cloud.scopes()
        )
        columns = "identifier, scope_key, fetcher, collector, last_processed_timestamp, active"
        command, env = mariadb(self.name, "--execute")
        sql = f"INSERT INTO cloudkitty_storage_states ({columns}) VALUES {', '.join(rows)}"
        run([*command, sql], env)

    def arrived(self, begin):
        """How many scopes have rated the period that begins at a time."""
        where = f"last_processed_timestamp >= '{moment(begin)}'"
        return self.ask(f"SELECT COUNT(*) FROM cloudkitty_storage_states WHERE {where}")[0]

    def must_have_arrived(self):
        arrived = self.arrived(self.cloud.end - PERIOD)
        if arrived != self.cloud.projects:
            fail(f"{arrived} of {self.cloud.projects} scopes have arrived")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.client is not None:
            stop(self.client)
            command, env = mariadb("--execute", f"DROP DATABASE {self.name}")
            run(command, env)


def moment(epoch):
    """As databases have it."""
    return f"{datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc):%Y-%m-%d %H:%M:%S}"


# --- One run ----------------------------------------------------------------


class Meter:
    """What Prometheus and Loki do from now on."""

    def __init__(self, prometheus, loki):
        self.prometheus, self.loki = prometheus, loki
        self.before = self.now()

    def now(self):
        pushes, pushed, _ = self.loki.counts()
        processes = cpu(self.prometheus.process.pid), cpu(self.loki.process.pid)
        return *self.prometheus.counts(), pushes, pushed or 0, *processes

    def figure(self, wall, cpu_seconds, megabytes):
        done = [now - before for now, before in zip(self.now(), self.before)]
        return Figure(wall, cpu_seconds, megabytes, *done)


def compare(who, loki, cloud, hours):
    """Ends the program if the storage has other points than the samples amount to."""
    found, wanted = loki.totals(cloud.begin, cloud.end), cloud.totals(hours)

    def alike(one, other):
        return abs(one - other) <= 1e-9 * abs(other)

    def same(kind):
        return kind in found and all(map(alike, found[kind], wanted[kind]))

    (*_, stored), points = loki.counts(), sum(total.points for total in wanted.values())
    if found.keys() != wanted.keys() or not all(map(same, wanted)) or stored != points:
        fail(f"{who} stored {stored} entries,\n{found}\nbut the samples are {points} points,\n{wanted}")


def tail(log):
    return log.read_text(errors="replace")[-3000:]


def run_ratekitty(folder, cloud, prometheus, is_whole=True, keep=None):
    """A catch-up by ratekitty, or its reading alone; keeps the lines of a double in a file."""
    more = {"storage_loki": f"content_type = {CONTENT_TYPE}"}
    if not is_whole:
        more["orchestrator"] = "skip_datapoints_expression = True"
    with (
        new_loki(folder, is_real=is_whole and keep is None) as loki,
        State(folder, cloud, prometheus, loki, more) as state,
    ):
        if is_whole:
            prices = state.folder / "prices.yml"
            prices.write_text(cloud.prices)
            state.ratekitty("rules", "import", prices)
        log = state.folder / "ratekitty.log"
        command = [PROGRAM, "--config-file", state.config, "processor", "--once"]
        with log.open("wb") as output:
            meter = Meter(prometheus, loki)
            begin = time.monotonic()
            files = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            process = subprocess.Popen(command, env=os.environ | {"TZ": "UTC"}, **files)
            try:
                # Its most memory is no less than this process had at the start.
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                raise
            wall = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        used = usage.ru_utime + usage.ru_stime
        figure = meter.figure(wall, used, usage.ru_maxrss / 1024)
        if process.returncode != 0:
            fail(f"ratekitty ends with {process.returncode}:\n{tail(log)}")
        state.must_have_arrived()
        if is_whole:
            compare("ratekitty", loki, cloud, cloud.hours)
        elif loki.counts()[-1] != 0:
            fail("ratekitty stored points that it was to skip")
        if keep is not None:
            loki.keep(keep)
    return figure


def run_floor(folder, cloud, prometheus, lines):
    """Reading and pushing by a bare client: both together, and each alone."""
    with new_loki(folder) as loki:
        command = [ROOT_OF["floor"], f"{prometheus.url}/api/v1", loki.api, lines]
        command += [str(cloud.begin + PERIOD), str(cloud.end), str(PERIOD), *QUERIES]
        meter = Meter(prometheus, loki)
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        said = json.loads(done.stdout)
        if said["values"] != cloud.points:
            fail(f"the floor read {said['values']} values of {cloud.points}")
        (reading, reading_cpu), (pushing, pushing_cpu) = said["reading"], said["pushing"]
        # Its memory holds all the bodies, which says nothing.
        figure = meter.figure(reading + pushing, reading_cpu + pushing_cpu, 0)
        compare("the floor", loki, cloud, cloud.hours)
    return figure, reading, pushing


def buffer_size(points):
    """The divisor nearest to 1,000: what is left in the buffer at the end would be lost."""
    divisors = (size for size in range(1, points + 1) if points % size == 0)
    return min(divisors, key=lambda size: abs(size - 1000))


def run_reference(folder, cloud, prometheus):
    """A catch-up by the reference: the figure, and wall and CPU until its first period."""
    size = buffer_size(len(QUERIES) * cloud.servers * REFERENCE_HOURS)
    more = {"storage_loki": f"buffer_size = {size}"}
    begin, last = cloud.end - REFERENCE_HOURS * PERIOD, cloud.end - PERIOD
    with new_loki(folder) as loki, State(folder, cloud, prometheus, loki, more) as state:
        prices = state.folder / "prices.yml"
        prices.write_text(cloud.prices)
        state.ratekitty("rules", "import", prices)
        state.begin_at(begin)
        log = state.folder / "reference.log"
        program = ROOT_OF["cloudkitty-venv"] / "bin/cloudkitty-processor"
        env = os.environ | {"TZ": "UTC", "PYTHONWARNINGS": "ignore"}
        with log.open("wb") as output:
            meter = Meter(prometheus, loki)
            started = time.monotonic()
            files = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            process = subprocess.Popen([program, "--config-file", state.config], env=env, **files)
            workers = []
            try:
                first = None
                while first is None or state.arrived(last) < cloud.projects:
                    if process.poll() is not None:
                        fail(f"the reference ends with {process.returncode}:\n{tail(log)}")
                    time.sleep(0.1)
                    wall = time.monotonic() - started
                    if first is None and state.arrived(begin):
                        first = wall, cpu(process.pid)
                wall = time.monotonic() - started
                figure = meter.figure(wall, cpu(process.pid), memory(process.pid))
            finally:
                with contextlib.suppress(OSError):
                    workers = pids(process.pid)[1:]
                stop(process)
                for worker in workers:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGKILL)
        if "Traceback" in log.read_text(errors="replace"):
            fail(f"the reference failed:\n{tail(log)}")
        compare("the reference", loki, cloud, REFERENCE_HOURS)
    return figure, first


# --- Beside the floor and the reference -------------------------------------


def scaled(figure, first):
    """What the reference would need for all hours: its start once, the rest by point."""
    factor = HOURS / REFERENCE_HOURS
    rest = (getattr(figure, name) * factor for name in Figure._fields[3:])
    wall, used = (
        begin + (whole - begin) * factor
        for whole, begin in zip((figure.wall, figure.cpu), first)
    )
    return Figure(wall, used, figure.memory, *rest)


def median(figures):
    return Figure(*map(statistics.median, zip(*figures)))


def beside(folder):
    cloud = Cloud(PROJECTS, SERVERS, HOURS)
    ours, alone, floors, theirs = [], [], [], []
    lines = folder / "lines"
    with Prometheus(folder, cloud, 24) as prometheus:
        say("the lines that are pushed")
        run_ratekitty(folder, cloud, prometheus, keep=lines)
        for round_number in range(ROUNDS):

            def turn(who):
                say(f"round {round_number + 1} of {ROUNDS}: {who}")

            turn("ratekitty")
            ours.append(run_ratekitty(folder, cloud, prometheus))
            turn("the floor")
            floors.append(run_floor(folder, cloud, prometheus, lines))
            turn("ratekitty, reading alone")
            alone.append(run_ratekitty(folder, cloud, prometheus, is_whole=False))
            if alone[-1].answers < 0.9 * ours[-1].answers:
                fail("ratekitty did not read everything when it was to read alone")
            if HAS_REFERENCE:
                turn(f"the reference, {REFERENCE_HOURS} hours")
                theirs.append(run_reference(folder, cloud, prometheus))
    columns = [
        ("floor", median([figure for figure, *_ in floors])),
        ("ratekitty", median(ours)),
        ("reading alone", median(alone)),
    ]
    if theirs:
        columns.append((f"ref., {REFERENCE_HOURS} h", median([figure for figure, _ in theirs])))
        all_hours = [scaled(*one) for one in theirs]
        if REFERENCE_HOURS < HOURS:
            columns.append((f"ref., {HOURS} h *", median(all_hours)))
    text = [
        f"{cloud.points:,} points: {PROJECTS} scopes, {SERVERS} servers each, {len(QUERIES)} metrics, "
        f"{HOURS} hours; medians of {ROUNDS} rounds",
        f"state in {'MariaDB' if HAS_MARIADB else 'SQLite'}, storage in {STORAGE}, ratekitty pushes {CONTENT_TYPE}",
        "",
        f"{'':<26}" + "".join(f"{name:>15}" for name, _ in columns),
    ]
    for name, field, unit, digits in [
        ("wall, s", "wall", 1, 2),
        ("CPU, s", "cpu", 1, 2),
        ("memory, MB", "memory", 1, 0),
        ("queries to Prometheus", "queries", 1, 0),
        ("bytes of answers, MB", "answers", 1e6, 1),
        ("pushes to Loki", "pushes", 1, 0),
        ("bytes of pushes, MB", "pushed", 1e6, 1),
        ("CPU of Prometheus, s", "prometheus_cpu", 1, 2),
        ("CPU of Loki, s", "loki_cpu", 1, 2),
    ]:
        values = (getattr(figure, field) / unit for _, figure in columns)
        # Not measured: the floor's memory, and how long the bodies are that a real Loki gets.
        unknown = {"memory", "pushed"}
        cells = ("-" if field in unknown and not value else f"{value:,.{digits}f}" for value in values)
        text.append(f"{name:<26}" + "".join(f"{cell:>15}" for cell in cells))
    reading = [reading for _, reading, _ in floors]
    pushing = [pushing for *_, pushing in floors]
    text.append(
        f"\nfloor: reading {statistics.median(reading):.2f} s, pushing {statistics.median(pushing):.2f} s"
    )
    if theirs:
        first = statistics.median([first[0] for _, first in theirs])
        text.append(
            f"reference: {columns[3][1].wall:.1f} s for {REFERENCE_HOURS} hours, {first:.1f} s of them until "
            "its first period"
        )
        if REFERENCE_HOURS < HOURS:
            text.append(
                f"* not measured: start of the reference once, the rest times {HOURS} / {REFERENCE_HOURS}"
            )

    def ratio(name, ones, others, goal):
        value = statistics.median(one / other for one, other in zip(ones, others))
        text.append(f"{name:<40}{value:>8.2f}   goal {goal}")

    wall, used = [one.wall for one in ours], [one.cpu for one in ours]
    text += ["", "ratios, medians of the rounds'"]
    if theirs:
        ratio("wall: reference to ratekitty", [one.wall for one in all_hours], wall, f"{WALL} at least")
        ratio("CPU: reference to ratekitty", [one.cpu for one in all_hours], used, f"{CPU} at least")
    ratio("wall: ratekitty to floor", wall, [one.wall for one, *_ in floors], f"{FLOOR} at most")
    ratio("reading alone: ratekitty to floor", [one.wall for one in alone], reading, f"{READING} at most")
    most = max(one.memory for one in ours + alone)
    text.append(f"{'most memory of ratekitty':<40}{most:>8.0f}   goal {MEMORY} MB at most")
    return text


# --- Growth -----------------------------------------------------------------


def growth(folder):
    text = [
        "| grows | scopes | points | periods | wall, s | points/s | CPU, s | memory, MB | queries | pushes |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    panels = []
    for name, sizes in GROWTH:
        drawn = []
        for size in sizes:
            cloud = Cloud(*size)
            with (
                tempfile.TemporaryDirectory(prefix="size.", dir=folder) as place,
                Prometheus(pathlib.Path(place), cloud, 6) as prometheus,
            ):
                say(f"{cloud.projects:,} scopes, {cloud.servers:,} servers each, {cloud.hours:,} hours")
                runs = [
                    run_ratekitty(pathlib.Path(place), cloud, prometheus) for _ in range(ROUNDS)
                ]
            one = median(runs)
            grown = {"scopes": cloud.projects, "points": cloud.points, "periods": cloud.hours}
            drawn.append((grown[name], one.wall))
            cells = [
                name,
                *(f"{value:,}" for value in grown.values()),
                f"{one.wall:.2f}",
                f"{cloud.points / one.wall:,.0f}",
                f"{one.cpu:.2f}",
                *(f"{value:,.0f}" for value in (one.memory, one.queries, one.pushes)),
            ]
            text.append(f"| {' | '.join(cells)} |")
        (*_, (projects, servers, hours)) = sizes
        fixed = {
            "scopes": f"scopes (1 server each, {hours} hours)",
            "points": f"points ({projects} scopes, {hours} hours)",
            "periods": f"periods ({projects} scopes, {servers} servers each)",
        }
        panels.append((fixed[name], drawn))
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    PLOT.write_text(plot("ratekitty catching up", "seconds", panels))
    say(f"drawn into {PLOT}")
    return text


# --- One cycle ---------------------------------------------------------------


def steady(folder):
    cloud = ManyPoints(number("BENCH_PROJECTS", 10_000), 100, 1)
    with Prometheus(folder, cloud, 24) as prometheus:
        runs = []
        for round_number in range(ROUNDS):
            say(f"round {round_number + 1} of {ROUNDS}")
            runs.append(run_ratekitty(folder, cloud, prometheus))
    one = median(runs)
    return [
        f"{cloud.points:,} points of one period: {cloud.projects:,} scopes, {len(cloud.kinds)} metrics; "
        f"medians of {ROUNDS} rounds",
        f"wall {one.wall:.1f} s (goal {CYCLE}), CPU {one.cpu:.1f} s, memory {one.memory:.0f} MB "
        f"(goal {CYCLE_MEMORY}), {one.queries:.0f} queries, {one.answers / 1e6:.0f} MB of answers, "
        f"{one.pushes:.0f} pushes" + (f", {one.pushed / 1e6:.0f} MB" if one.pushed else ""),
        f"CPU of Prometheus {one.prometheus_cpu:.1f} s, of Loki {one.loki_cpu:.1f} s",
    ]


def built(*names):
    """Programs of benches/, built for release."""
    command = ["cargo", "build", "--release", "--locked", "--message-format=json"]
    command += [argument for name in names for argument in ("--bench", name)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found = map(json.loads, done.stdout.splitlines())
    return {
        one["target"]["name"]: pathlib.Path(one["executable"])
        for one in found
        if one.get("executable") and one["target"]["name"] in names
    }


if len(sys.argv) != 2:
    fail("usage: scripts/with-servers mariadb -- python3 benches/catchup.py PROGRAM")
PROGRAM = pathlib.Path(sys.argv[1]).resolve()
STORAGE = "a real Loki" if LOKI else "the suite's double of Loki"
IS_GROWTH = os.environ.get("BENCH_GROWTH") == "1"
IS_STEADY = os.environ.get("BENCH_STEADY") == "1"
# A stop ends the servers, too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
ROOT_OF = built("loki_double", "floor") | peers("prometheus")
if IS_GROWTH or IS_STEADY:
    measure = growth if IS_GROWTH else steady
else:
    measure = beside
    if HAS_REFERENCE:
        ROOT_OF |= peers("cloudkitty-venv")
    else:
        say("the reference is left out")

with tempfile.TemporaryDirectory(prefix="ratekitty-catchup.") as name:
    lines = measure(pathlib.Path(name))
print("\n".join(lines))
