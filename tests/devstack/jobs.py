#!/usr/bin/env python3
"""jobs.py [CHECKOUT] : checks the jobs of zuul.d and their playbooks.

Zuul's own parser reads them, with its schema: unknown keys, wrong types, keys that are there
twice, bad regular expressions. What it leaves to a running Zuul is checked here: parents,
nodesets, playbooks, queues, pipelines and the jobs in them, the settings of the DevStack plugin
that jobs set. ansible-playbook checks the syntax of the playbooks.

Each check is printed; the last line is "N passed, N failed".
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import types

from zuul import configloader, model

CHECKOUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2])

# What a Zuul with the projects of OpenStack has, as far as it is used here.
PARENTS = {"base", "devstack-tempest"}
NODESETS = {"ubuntu-noble"}
PROJECTS = {
    "openstack/aetos",
    "openstack/cloudkitty-tempest-plugin",
    "openstack/devstack",
    "openstack/devstack-plugin-prometheus",
    "openstack/python-cloudkittyclient",
    "openstack/python-observabilityclient",
    "openstack/ratekitty",
}
PIPELINES = {"check", "gate"}
# Variables that the roles of devstack-tempest read, and our playbooks.
VARIABLES = {
    "devstack_plugins",
    "devstack_services",
    "devstack_localrc",
    "tempest_plugins",
    "tempest_test_regex",
    "tempest_concurrency",
    "tox_envlist",
    "ratekitty_command",
}
# What must be tested, by words in the names of jobs, and the settings that make it so.
WANTED = {
    "storage-loki": {"CLOUDKITTY_STORAGE_BACKEND": "loki", "RATEKITTY_LOKI_MODE": "single"},
    "storage-loki-microservices": {
        "CLOUDKITTY_STORAGE_BACKEND": "loki",
        "RATEKITTY_LOKI_MODE": "microservices",
    },
    "fetcher-collector-prometheus": {
        "CLOUDKITTY_FETCHER": "prometheus",
        "CLOUDKITTY_COLLECTOR": "prometheus",
    },
    "fetcher-keystone-collector-aetos": {
        "CLOUDKITTY_FETCHER": "keystone",
        "CLOUDKITTY_COLLECTOR": "aetos",
    },
}

passed = failed = 0


def check(what, wrong=None):
    """Counts and prints one check; `wrong` says what is wrong with it, if anything."""
    global passed, failed
    if isinstance(wrong, (list, set)):
        wrong = "; ".join(sorted(map(str, wrong)))
    if wrong:
        failed += 1
        print(f"FAIL  {what}: {' '.join(str(wrong).split())}")
    else:
        passed += 1
        print(f"ok    {what}")


def plain(value):
    """Zuul's own kinds of text and mappings as Python's."""
    if hasattr(value, "items"):
        return {str(key): plain(inner) for key, inner in value.items() if not str(key).startswith("_")}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, str) else value


def as_list(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def read():
    """All stanzas, parsed by Zuul: kind, configuration and what Zuul made of it."""
    nobody = types.SimpleNamespace(connections={}, getSource=lambda name: None)
    context = configloader.ParseContext(nobody, None, None, None)
    parsers = {
        "job": context.job_parser,
        "nodeset": context.nodeset_parser,
        "queue": context.queue_parser,
        "project": context.project_parser,
    }
    stanzas = []
    files = sorted((CHECKOUT / "zuul.d").glob("*.yaml"))
    check("zuul.d has files", None if files else "none")
    for file in files:
        source = model.SourceContext(
            "opendev.org/openstack/ratekitty", "openstack/ratekitty", "opendev", "master", f"zuul.d/{file.name}"
        )
        try:
            data = configloader.safe_load_yaml(file.read_text(), source)
            for entry in data:
                if len(entry) != 1:
                    raise ValueError(f"{list(entry)} in one entry")
            check(f"{file.name} is a list of stanzas")
        except Exception as error:  # Zuul's, PyYAML's and Python's
            check(f"{file.name} is a list of stanzas", error)
            continue
        for entry in data:
            ((kind, stanza),) = entry.items()
            name = stanza.get("name", "openstack/ratekitty")
            if kind not in parsers:
                check(f"{file.name}: {kind} {name}", "such a stanza is not checked here")
                continue
            given = plain(stanza)
            try:
                made = parsers[kind].fromYaml(stanza)
                check(f"Zuul reads {kind} {name}")
            except Exception as error:
                check(f"Zuul reads {kind} {name}", error)
                continue
            stanzas.append((str(kind), given, made))
    check("Zuul has no warnings", [str(error) for error in context.error_list])
    return stanzas


def of(stanzas, kind):
    return [given for other, given, _ in stanzas if other == kind]


def inherited(job, jobs, key):
    """A mapping of a job with that of its parents under it, as Zuul merges them."""

    def merge(under, over):
        result = dict(under)
        for name, value in over.items():
            if isinstance(value, dict) and isinstance(result.get(name), dict):
                value = merge(result[name], value)
            result[name] = value
        return result

    parent = jobs.get(job.get("parent"))
    return merge(inherited(parent, jobs, key) if parent else {}, job.get(key, {}))


def check_jobs(stanzas):
    jobs = {}
    for job in of(stanzas, "job"):
        check(f"job {job['name']} is there once", "twice" if job["name"] in jobs else None)
        jobs[job["name"]] = job
    nodesets = {nodeset["name"] for nodeset in of(stanzas, "nodeset")}
    settings = (CHECKOUT / "devstack/settings").read_text()
    known_settings = set(re.findall(r"^([A-Z0-9_]+)=", settings, re.M))

    for name, job in jobs.items():
        wrong = set()
        if not re.fullmatch(r"ratekitty(-[a-z0-9]+)+", name):
            wrong.add("its name does not begin with ratekitty-")
        if name in PARENTS:
            wrong.add("takes a name of others")
        if job.get("parent") not in PARENTS | set(jobs):
            wrong.add(f"parent {job.get('parent')} is not there")
        seen, parent = {name}, job.get("parent")
        while parent in jobs and parent not in seen:
            seen.add(parent)
            parent = jobs[parent].get("parent")
        if parent in seen:
            wrong.add("is its own parent")
        nodeset = job.get("nodeset")
        if isinstance(nodeset, str) and nodeset not in NODESETS | nodesets:
            wrong.add(f"nodeset {nodeset} is not there")
        if not job.get("description"):
            wrong.add("no description")
        for project in as_list(job.get("required-projects")):
            project = project["name"] if isinstance(project, dict) else project
            if project not in PROJECTS:
                wrong.add(f"project {project} is not known")
        for role in as_list(job.get("roles")):
            if role.get("zuul") not in PROJECTS:
                wrong.add(f"roles of {role} are not known")
        for dependency in as_list(job.get("dependencies")):
            dependency = dependency["name"] if isinstance(dependency, dict) else dependency
            if dependency not in jobs:
                wrong.add(f"waits for {dependency}, which is not there")
        wrong |= {f"variable {v} is read by nobody" for v in set(job.get("vars", {})) - VARIABLES}
        check(f"job {name}", wrong)

        for key in ("pre-run", "run", "post-run", "cleanup-run"):
            for playbook in as_list(job.get(key)):
                path = playbook["name"] if isinstance(playbook, dict) else playbook
                there = (CHECKOUT / path).is_file()
                check(f"job {name}: {key} {path}", None if there else "there is no such file")

        localrc = inherited(job, jobs, "vars").get("devstack_localrc", {})
        check(f"job {name} sets settings of the plugin", set(localrc) - known_settings)

        own = {
            project["name"] if isinstance(project, dict) else project
            for ancestor in seen
            for project in as_list(jobs[ancestor].get("required-projects"))
        }
        plugins = inherited(job, jobs, "vars").get("devstack_plugins", {})
        check(
            f"job {name} has the projects of its plugins",
            {url for url in plugins.values() if url.removeprefix("https://opendev.org/") not in own},
        )
        # A file that only some jobs look at must be there.
        for key in ("files", "irrelevant-files"):
            for pattern in as_list(job.get(key)):
                pattern = pattern["regex"] if isinstance(pattern, dict) else pattern
                tracked = [p for p in FILES if re.match(pattern, p)]
                check(f"job {name}: {key} {pattern}", None if tracked else "matches no file")
    return jobs


def files_of_checkout():
    """Paths of the checkout, but for what is built."""
    found = []
    for folder, folders, names in os.walk(CHECKOUT):
        folders[:] = [f for f in folders if f not in (".git", "target", ".quickstart")]
        here = pathlib.Path(folder).relative_to(CHECKOUT)
        found += [str(here / name) for name in names]
    return found


FILES = files_of_checkout()


def check_project(stanzas, jobs):
    projects = of(stanzas, "project")
    check("there is one project", None if len(projects) == 1 else len(projects))
    queues = {queue["name"] for queue in of(stanzas, "queue")}
    for project in projects:
        pipelines = {
            key: value
            for key, value in project.items()
            if key not in ("name", "queue", "templates", "vars", "description", "default-branch", "merge-mode")
        }
        check("the project's queue is there", None if project.get("queue") in queues else project.get("queue"))
        check("its pipelines are check and gate", set(pipelines) ^ PIPELINES)
        for pipeline, content in pipelines.items():
            names = []
            for entry in as_list(content.get("jobs")):
                names += list(entry) if isinstance(entry, dict) else [entry]
            check(f"{pipeline}: no job is there twice", {n for n in names if names.count(n) > 1})
            check(f"{pipeline}: its jobs are there", set(names) - set(jobs))
            check(
                f"{pipeline}: no abstract job is run",
                {n for n in names if jobs.get(n, {}).get("abstract")},
            )
            idle = {n for n, job in jobs.items() if not job.get("abstract")} - set(names)
            check(f"{pipeline}: it runs each job", idle)
            for words, wanted in WANTED.items():
                matching = [n for n in names if n.endswith(words)]
                settings = [inherited(jobs[n], jobs, "vars").get("devstack_localrc", {}) for n in matching if n in jobs]
                good = any(wanted.items() <= given.items() for given in settings)
                check(f"{pipeline}: tempest on {words}", None if good else f"{matching} set {settings}")
            commands = {inherited(jobs[n], jobs, "vars").get("ratekitty_command") for n in names if n in jobs}
            check(
                f"{pipeline}: tests, lints and this check",
                {"make test", "make lint", "scripts/check-devstack"} - commands,
            )


def check_playbooks(jobs):
    ansible = pathlib.Path(sys.executable).with_name("ansible-playbook")
    used = {
        playbook["name"] if isinstance(playbook, dict) else playbook
        for job in jobs.values()
        for key in ("pre-run", "run", "post-run", "cleanup-run")
        for playbook in as_list(job.get(key))
    }
    there = {p for p in FILES if p.startswith("playbooks/") and p.endswith((".yaml", ".yml"))}
    check("each playbook is run by a job", there - used)
    for playbook in sorted(there):
        with tempfile.TemporaryDirectory() as scratch:
            run = subprocess.run(
                [ansible, "--syntax-check", "--inventory", "localhost,", CHECKOUT / playbook],
                capture_output=True,
                text=True,
                env={**os.environ, "HOME": scratch, "ANSIBLE_LOCAL_TEMP": scratch, "ANSIBLE_NOCOLOR": "1"},
            )
        check(f"Ansible reads {playbook}", run.stdout + run.stderr if run.returncode else None)
    # Variables of the jobs that the playbooks take are set by each job that runs them.
    for name, job in jobs.items():
        if job.get("abstract"):
            continue
        variables = inherited(job, jobs, "vars")
        ancestors, parent = [job], jobs.get(job.get("parent"))
        while parent:
            ancestors.append(parent)
            parent = jobs.get(parent.get("parent"))
        taken = set()
        for ancestor in ancestors:
            for playbook in as_list(ancestor.get("run")):
                text = (CHECKOUT / playbook).read_text() if (CHECKOUT / playbook).is_file() else ""
                taken |= {v for v in re.findall(r"{{\s*(\w+)", text) if v != "zuul"}
        check(f"job {name} sets what its playbooks take", taken - set(variables))
    # Commands of the jobs can be run.
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), re.M))
    for name, job in jobs.items():
        command = job.get("vars", {}).get("ratekitty_command")
        if command:
            words = command.split()
            good = words[1] in targets if words[0] == "make" else os.access(CHECKOUT / words[0], os.X_OK)
            check(f"job {name}: {command}", None if good else "cannot be run")


def main():
    stanzas = read()
    jobs = check_jobs(stanzas)
    check_project(stanzas, jobs)
    check_playbooks(jobs)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0 or passed == 0)


if __name__ == "__main__":
    main()
