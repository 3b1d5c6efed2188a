"""What the benchmarks in Python share."""

import collections
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Longest wait for an answer. Points that are no heads take long.
PATIENCE = 300
# The benchmark that runs.
NAME = pathlib.Path(sys.argv[0]).stem


def fail(text):
    sys.exit(f"{NAME}: {text}")


def say(text):
    print(f"{NAME}: {text}", file=sys.stderr, flush=True)


def ask(url, method="GET", body=None, headers=None):
    """The body of an answer, read as JSON; anything but success ends the program."""
    data = None if body is None else json.dumps(body).encode()
    headers = dict(headers or {})
    if body is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        fail(f"{method} {url} answers {error.code}: {error.read(500)}")
    return json.loads(text) if text else None


def peers(*names):
    """Folders of what scripts/get-peer gets."""
    command = [ROOT / "scripts/get-peer", *names]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {
        name: pathlib.Path(path)
        for name, path in (line.split("=", 1) for line in lines.splitlines())
    }


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def run(command, env=None):
    """Runs a program that has to succeed."""
    env = os.environ | {"TZ": "UTC"} | (env or {})
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, env=env, text=True, **output)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))}: {done.stdout}")


def mariadb(*arguments):
    """Command and environment of MariaDB's client at the server of scripts/with-servers."""
    server = urllib.parse.urlsplit(os.environ["RATEKITTY_TEST_MARIADB"])
    command = [f"{os.environ['RATEKITTY_MARIADB_BIN']}/bin/mariadb", "--no-defaults"]
    command += ["--host", server.hostname, "--port", str(server.port), "--user", server.username]
    env = {
        "MYSQL_PWD": server.password,
        "LD_LIBRARY_PATH": os.environ.get("RATEKITTY_SERVER_LIBS", ""),
    }
    return [*command, *arguments], os.environ | env


def make_database(database):
    """An empty database in MariaDB: its URL as SQLAlchemy writes it."""
    command, env = mariadb("--execute", f"CREATE DATABASE {database} CHARACTER SET utf8mb4")
    subprocess.run(command, check=True, env=env)
    server = urllib.parse.urlsplit(os.environ["RATEKITTY_TEST_MARIADB"])
    return f"mysql+pymysql://{server.netloc}/{database}"


class Server:
    """A server in the background, with its output in a file."""

    def __init__(self, name, folder, command, port, env=None, ready="/"):
        self.url = f"http://127.0.0.1:{port}"
        log = folder / f"{name}.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"TZ": "UTC"} | (env or {}),
            )
        for _ in range(600):
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                urllib.request.urlopen(self.url + ready, timeout=60).close()
                return
            time.sleep(0.1)
        self.stop()
        fail(f"{name} does not answer:\n{log.read_text(errors='replace')[-3000:]}")

    def memory(self):
        """The most memory that its processes had, in MB. What they share counts for each."""
        return memory(self.process.pid)

    def stop(self):
        stop(self.process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def pids(pid):
    """A process and all that come from it: the workers of uWSGI and of the reference."""
    children = collections.defaultdict(list)
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(") ", 1)[1].split()
            children[int(fields[1])].append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children[one]
    return found


def memory(pid):
    """The most memory that a process and its children had, in MB."""
    total = 0
    for one in pids(pid):
        lines = pathlib.Path(f"/proc/{one}/status").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return total / 1024


def stop(process):
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
