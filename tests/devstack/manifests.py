#!/usr/bin/env python3
"""manifests.py [CHECKOUT] : checks the deployments of Loki in devstack/loki.

* Manifests: each document against the JSON schema of its kind (kubernetes-validate, strict),
  and what schemas do not say: names, selectors, ports, volumes, references.
* Configuration of Loki: keys that a Loki was tried with, each explained in README.md; the
  settings that docs/storage-loki.md asks for; variables that are set wherever they are used.
* Both: the addresses in the configuration, with the environment of the manifests, are
  services that lead to pods that listen there; so are the URLs for [storage_loki] in the
  documentation.

Each check is printed; the last line is "N passed, N failed".
"""

import pathlib
import re
import sys
from urllib.parse import urlsplit

import kubernetes_validate
import yaml

CHECKOUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2])
LOKI = CHECKOUT / "devstack/loki"
# Oldest and newest release of Kubernetes whose schemas must fit.
KUBERNETES = ("1.29", kubernetes_validate.latest_version())

# Keys that were accepted by Loki 3.4.6 with -verify-config, which refuses unknown ones. A new
# one is tried in the same way and added here.
TRIED = set(
    """
    auth_enabled server.http_listen_address server.http_listen_port server.grpc_listen_address
    server.grpc_listen_port server.http_server_read_timeout server.http_server_write_timeout
    server.grpc_server_max_recv_msg_size server.grpc_server_max_send_msg_size
    analytics.reporting_enabled common.path_prefix common.instance_addr
    common.replication_factor common.persist_tokens common.ring.kvstore.store
    common.compactor_address common.compactor_grpc_address memberlist.bind_port
    memberlist.advertise_addr memberlist.advertise_port memberlist.join_members
    schema_config.configs.from schema_config.configs.store schema_config.configs.object_store
    schema_config.configs.schema schema_config.configs.index.prefix
    schema_config.configs.index.period storage_config.filesystem.directory
    storage_config.aws.endpoint storage_config.aws.region storage_config.aws.bucketnames
    storage_config.aws.insecure storage_config.aws.s3forcepathstyle
    storage_config.tsdb_shipper.index_gateway_client.server_address
    chunk_store_config.chunk_cache_config.memcached_client.addresses ingester.max_chunk_age
    ingester.chunk_idle_period ingester.query_store_max_look_back_period
    ingester.wal.replay_memory_ceiling querier.query_ingesters_within
    frontend.max_outstanding_per_tenant frontend_worker.frontend_address
    query_range.cache_results query_range.cache_instant_metric_results
    compactor.retention_enabled compactor.delete_request_store runtime_config.file
    limits_config.reject_old_samples_max_age limits_config.max_query_length
    limits_config.max_query_series limits_config.split_queries_by_interval
    limits_config.split_instant_metric_queries_by_interval limits_config.ingestion_rate_mb
    limits_config.ingestion_burst_size_mb limits_config.per_stream_rate_limit
    limits_config.per_stream_rate_limit_burst limits_config.max_global_streams_per_user
    limits_config.discover_log_levels limits_config.retention_period
    """.split()
)
# Loki's own parts; the single binary has none.
PARTS = {"distributor", "ingester", "querier", "query-frontend", "index-gateway", "compactor"}
# Read by libraries, and not by the configuration.
OTHERS_READ = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SHARED_CREDENTIALS_FILE"}

passed = failed = 0


def check(what, wrong):
    """Counts and prints one check; `wrong` says what is wrong with it, if anything."""
    global passed, failed
    if isinstance(wrong, (list, set, tuple)):
        wrong = "; ".join(str(one) for one in sorted(wrong, key=str))
    if wrong:
        failed += 1
        print(f"FAIL  {what}: {wrong}")
    else:
        passed += 1
        print(f"ok    {what}")


def unless(good, wrong):
    return None if good else wrong


class NoDuplicates(yaml.SafeLoader):
    """YAML in which a key that is there twice is an error."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{', '.join(map(str, twice))} twice at {node.start_mark}")
        return super().construct_mapping(node, deep)


def load(text):
    return [document for document in yaml.load_all(text, NoDuplicates) if document is not None]


def seconds(text):
    """A duration of Loki, such as 745h, in seconds."""
    text = str(text)
    if text == "0":
        return 0
    parts = re.findall(r"(\d+)(d|h|m|s)", text)
    if not parts or "".join(a + b for a, b in parts) != text:
        raise ValueError(f"{text} is no duration")
    return sum(int(n) * {"d": 86400, "h": 3600, "m": 60, "s": 1}[unit] for n, unit in parts)


def size(text):
    """A size of Loki (16MB) or of Kubernetes (2Gi), in bytes."""
    number, unit = re.fullmatch(r"(\d+)([KMG]?i?B?)", str(text)).groups()
    return int(number) * 1024 ** " KMG".index(unit[0] if unit and unit[0] != "B" else " ")


VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def expand(text, environment):
    """What Loki does with -config.expand-env=true."""
    return VARIABLE.sub(lambda m: environment.get(m[1]) or m[2] or "", text)


def leaves(value, path=""):
    """(dotted path, value) of everything in a configuration."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path, value


def at(config, path, default=None):
    for key in path.split("."):
        if not isinstance(config, dict) or key not in config:
            return default
        config = config[key]
    return config


# What docs/storage-loki.md asks for
# ----------------------------------


def documented_defaults():
    """Defaults of our options that bound Loki's, from docs/CONFIGURATION.md."""
    text = (CHECKOUT / "docs/CONFIGURATION.md").read_text()

    def default(section, option):
        part = text.split(f"### [{section}]", 1)[1].split("\n### ", 1)[0]
        return int(re.search(rf"^\| `{option}` \|[^|]*\| `(\d+)` \|", part, re.M)[1])

    return {
        "timeout": default("storage_loki", "timeout"),
        "batch_bytes": default("storage_loki", "batch_bytes"),
        "pushes_at_once": default("storage_loki", "pushes_at_once"),
        "max_response_bytes": default("ratekitty", "max_response_bytes"),
    }


OURS = documented_defaults()
MONTH = 745 * 3600

# One rule for each setting in the table "Settings of Loki". None: not set.
RULES = {
    "limits_config.reject_old_samples_max_age": lambda v: v and seconds(v) >= MONTH,
    "ingester.max_chunk_age": lambda v: v and seconds(v) >= 48 * 3600,
    "querier.query_ingesters_within": lambda v: v is not None and seconds(v) == 0,
    # A single binary says it by a variable; with a bucket its chunks are old enough.
    "ingester.query_store_max_look_back_period": lambda v: v is None or "-1" in str(v),
    "limits_config.split_queries_by_interval": lambda v: v and seconds(v) == 86400,
    "limits_config.split_instant_metric_queries_by_interval": lambda v: v and seconds(v) == 86400,
    "limits_config.max_query_length": lambda v: v and seconds(v) >= 30 * 86400,
    "limits_config.max_query_series": lambda v: v is None or v >= 500,
    "limits_config.max_entries_limit_per_query": lambda v: v is None or v >= 5000,
    "limits_config.ingestion_rate_mb": lambda v: v is None or v >= 4,
    "limits_config.ingestion_burst_size_mb": lambda v: v
    and v * 2**20 > OURS["batch_bytes"] * OURS["pushes_at_once"],
    "limits_config.per_stream_rate_limit": lambda v: v is None or size(v) >= 3 * 2**20,
    "limits_config.per_stream_rate_limit_burst": lambda v: v is None or size(v) >= 15 * 2**20,
    "limits_config.max_global_streams_per_user": lambda v: v is None or v >= 5000,
    "limits_config.discover_log_levels": lambda v: v is False,
    "limits_config.max_query_bytes_read": lambda v: v is None or not size(v) or size(v) >= 2**30,
    "limits_config.max_querier_bytes_read": lambda v: v is None or not size(v) or size(v) >= 2**30,
    "limits_config.max_line_size": lambda v: v is None or size(v) >= 256 * 1024,
    "limits_config.max_line_size_truncate": lambda v: not v,
    "limits_config.max_label_names_per_series": lambda v: v is None or v >= 15,
    "limits_config.allow_structured_metadata": lambda v: v is not False,
    "limits_config.max_query_lookback": lambda v: v is None or seconds(v) == 0,
    "query_range.cache_results": lambda v: v is False,
    "query_range.cache_instant_metric_results": lambda v: v is False,
    "compactor.retention_enabled": lambda v: v is True,
    "compactor.delete_request_store": lambda v: bool(v),
    "limits_config.deletion_mode": lambda v: v in (None, "filter-and-delete"),
    "limits_config.retention_period": lambda v: v and seconds(v) >= 365 * 86400,
    # Not in the table.
    "limits_config.increment_duplicate_timestamp": lambda v: not v,
    "auth_enabled": lambda v: v is True,
    "server.http_server_write_timeout": lambda v: v and seconds(v) > OURS["timeout"],
    "server.grpc_server_max_recv_msg_size": lambda v: v and v >= OURS["max_response_bytes"],
    "server.grpc_server_max_send_msg_size": lambda v: v and v >= OURS["max_response_bytes"],
    "ingester.chunk_idle_period": lambda v: v and seconds(v) > 3600,
}


def documented_settings():
    """Settings in the first column of the table of docs/storage-loki.md."""
    text = (CHECKOUT / "docs/storage-loki.md").read_text()
    rows = text.split("## Settings of Loki", 1)[1].split("\n## ", 1)[0]
    names = set()
    for row in re.findall(r"^\| (`[^|]*) \|", rows, re.M):
        section = None
        for name in re.findall(r"`([a-z_.]+)`", row):
            if "." in name:
                section = name.rsplit(".", 1)[0]
                names.add(name)
            elif section:
                names.add(f"{section}.{name}")
    return names


def check_configuration(name, text, overrides, environment, readme):
    """A configuration of Loki, with the limits of the tenant over the general ones."""
    config = load(expand(text, environment))[0]
    given = set(path for path, _ in leaves(config))
    check(f"{name}: keys that a Loki was tried with", given - TRIED)
    check(
        f"{name}: README.md explains each key",
        {path for path in given if not re.search(rf"`(\w+\.)*{path.rsplit('.', 1)[-1]}`", readme)},
    )
    merged = dict(config, limits_config={**config.get("limits_config", {}), **overrides})
    for path, rule in RULES.items():
        value = at(merged, path)
        try:
            good = rule(value)
        except (TypeError, ValueError, AttributeError) as error:
            good, value = False, f"{value} ({error})"
        check(f"{name}: {path}", unless(good, f"{value} will not do"))
    schema = config["schema_config"]["configs"][-1]
    check(
        f"{name}: schema for structured metadata",
        unless((schema["schema"], schema["store"]) == ("v13", "tsdb"), schema),
    )
    check(
        f"{name}: deletions are kept where chunks are",
        unless(schema["object_store"] == at(config, "compactor.delete_request_store"), schema),
    )
    check(
        f"{name}: the store is configured",
        unless(
            {"s3": "aws", "filesystem": "filesystem"}.get(schema["object_store"])
            in config["storage_config"],
            schema["object_store"],
        ),
    )
    return config


# Manifests
# ---------

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kKMGT]i?)?")


class Deployment:
    """The manifests of one folder."""

    def __init__(self, folder):
        self.name = folder.name
        self.documents = []
        for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yaml.example")]):
            try:
                documents = load(file.read_text())
            except yaml.YAMLError as error:
                check(f"{self.name}: {file.name} is YAML", str(error))
                continue
            for document in documents:
                self.documents.append((file, document))

    def of(self, *kinds):
        return [document for _, document in self.documents if document["kind"] in kinds]

    def named(self, kind, name):
        return next((d for d in self.of(kind) if d["metadata"]["name"] == name), None)

    def workloads(self):
        return self.of("Deployment", "StatefulSet")

    def pods(self, selector):
        """Workloads whose pods a selector picks."""
        return [
            workload
            for workload in self.workloads()
            if selector.items() <= workload["spec"]["template"]["metadata"]["labels"].items()
        ]

    def listeners(self, host, port):
        """What is wrong with an address, and the workloads that listen there."""
        service = self.named("Service", host.split(".")[0])
        if service is None:
            return f"there is no service {host}", []
        entry = next((p for p in service["spec"]["ports"] if p["port"] == port), None)
        if entry is None:
            return f"service {host} has no port {port}", []
        pods = self.pods(service["spec"]["selector"])
        deaf = [
            pod["metadata"]["name"]
            for pod in pods
            if port_of(pod, entry.get("targetPort", port)) is None
        ]
        if not pods or deaf:
            return f"nobody listens at {host}:{port} {deaf}", []
        return None, pods


def containers(workload):
    return workload["spec"]["template"]["spec"]["containers"]


def port_of(workload, target):
    """Number of the container port that a service leads to, by name or number."""
    for container in containers(workload):
        for port in container.get("ports", []):
            if target in (port.get("name"), port["containerPort"]):
                return port["containerPort"]
    return None


def component(workload):
    return workload["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]


def check_schemas(deployment):
    for file, document in deployment.documents:
        label = f"{deployment.name}/{file.name}: {document['kind']} {document['metadata']['name']}"
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(document, version, strict=True)
                wrong = None
            except kubernetes_validate.ValidationError as error:
                wrong = f"{'.'.join(str(p) for p in error.path)}: {error.message}"
            except kubernetes_validate.SchemaNotFoundError as error:
                wrong = error.message
            check(f"{label} fits Kubernetes {version}", wrong)


def check_references(deployment):
    """What schemas do not say."""
    here = deployment.name
    objects = [(d["kind"], d["metadata"]["name"]) for _, d in deployment.documents]
    check(f"{here}: no object is there twice", {o for o in objects if objects.count(o) > 1})
    check(
        f"{here}: names are names of DNS",
        {name for _, name in objects if not NAME.fullmatch(name) or len(name) > 63},
    )
    check(
        f"{here}: no object is bound to a namespace",
        {d["metadata"]["name"] for _, d in deployment.documents if "namespace" in d["metadata"]},
    )
    for document in deployment.of("ConfigMap", "Secret"):
        data = {**document.get("data", {}), **document.get("stringData", {})}
        check(
            f"{here}: {document['metadata']['name']} holds text only",
            {key for key, value in data.items() if not isinstance(value, str)},
        )

    for workload in deployment.workloads():
        name = workload["metadata"]["name"]
        spec, pod = workload["spec"], workload["spec"]["template"]["spec"]
        labels = spec["template"]["metadata"]["labels"]
        selector = spec["selector"]["matchLabels"]
        check(
            f"{here}: {name} selects its own pods, and no others",
            unless(
                selector.items() <= labels.items() and deployment.pods(selector) == [workload],
                selector,
            ),
        )
        wrong = set()
        for container in containers(workload):
            for port in container.get("ports", []):
                if not NAME.fullmatch(port["name"]) or len(port["name"]) > 15:
                    wrong.add(f"port {port['name']}")
            for kind in container["resources"].values():
                wrong |= {f"{v}" for v in kind.values() if not QUANTITY.fullmatch(str(v))}
            known = {p["name"] for p in container.get("ports", [])}
            probe = container["readinessProbe"]
            probed = (probe.get("httpGet") or probe.get("tcpSocket"))["port"]
            if probed not in known:
                wrong.add(f"probe of port {probed}")
            if "memory" not in container["resources"].get("limits", {}):
                wrong.add("no limit of memory")
            if not container["securityContext"].get("readOnlyRootFilesystem"):
                wrong.add("root file system can be written")
            if not re.fullmatch(r"[a-z0-9/.-]+:[\w.-]+", container["image"]):
                wrong.add(f"image {container['image']} names no version")
        if not pod["securityContext"].get("runAsNonRoot"):
            wrong.add("runs as root")
        if pod.get("enableServiceLinks") is not False:
            wrong.add("gets variables of services")
        check(f"{here}: containers of {name}", wrong)

        wrong = set()
        claims = {c["metadata"]["name"] for c in spec.get("volumeClaimTemplates", [])}
        for claim in spec.get("volumeClaimTemplates", []):
            storage = claim["spec"]["resources"]["requests"]["storage"]
            if not QUANTITY.fullmatch(str(storage)):
                wrong.add(f"size {storage}")
        volumes = {v["name"]: v for v in pod.get("volumes", [])}
        wrong |= {f"volume {v} is a claim as well" for v in claims & set(volumes)}
        mounted = {m["name"] for c in containers(workload) for m in c.get("volumeMounts", [])}
        wrong |= {f"volume {v} is not there" for v in mounted - claims - set(volumes)}
        wrong |= {f"volume {v} is mounted nowhere" for v in (claims | set(volumes)) - mounted}
        for volume in volumes.values():
            config = volume.get("configMap")
            if config and not deployment.named("ConfigMap", config["name"]):
                wrong.add(f"ConfigMap {config['name']}")
        for container in containers(workload):
            for source in container.get("envFrom", []):
                for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                    ref = source.get(key)
                    if ref and not ref.get("optional") and not deployment.named(kind, ref["name"]):
                        wrong.add(f"{kind} {ref['name']}")
        account = pod.get("serviceAccountName")
        if account and not deployment.named("ServiceAccount", account):
            wrong.add(f"ServiceAccount {account}")
        check(f"{here}: what {name} refers to is there", wrong)

        if workload["kind"] == "StatefulSet":
            service = deployment.named("Service", spec["serviceName"])
            check(
                f"{here}: {name} has its headless service",
                unless(
                    service
                    and service["spec"].get("clusterIP") == "None"
                    and workload in deployment.pods(service["spec"]["selector"]),
                    spec["serviceName"],
                ),
            )
        terms = at(pod, "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution")
        for term in terms or []:
            away = term["podAffinityTerm"]["labelSelector"]["matchLabels"]
            check(f"{here}: pods of {name} keep apart", unless(away == selector, away))

    for service in deployment.of("Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        wrong = None
        for port in spec["ports"]:
            wrong = wrong or deployment.listeners(name, port["port"])[0]
        check(f"{here}: service {name} leads to pods that listen", wrong)
    for budget in deployment.of("PodDisruptionBudget"):
        pods = deployment.pods(budget["spec"]["selector"]["matchLabels"])
        check(
            f"{here}: {budget['metadata']['name']} guards its pods",
            unless([pod["metadata"]["name"] for pod in pods] == [budget["metadata"]["name"]], pods),
        )


def environment_of(deployment, workload):
    """Variables of a pod of Loki: from ConfigMaps, Secrets and fields, in this order."""
    variables = {}
    for container in containers(workload):
        for source in container.get("envFrom", []):
            for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                document = key in source and deployment.named(kind, source[key]["name"])
                if document:
                    variables.update(document.get("data", {}))
                    variables.update(document.get("stringData", {}))
        for entry in container.get("env", []):
            variables[entry["name"]] = entry.get("value", "192.0.2.1")
    return variables


def check_loki_pods(deployment, text, overrides, optional):
    """The pods of Loki against their configuration. Returns it, expanded."""
    here = deployment.name
    config_map = deployment.named("ConfigMap", "loki")["data"]
    check(f"{here}: config.yaml holds the configuration", unless(config_map["loki.yaml"] == text, "another text"))
    if overrides is not None:
        check(
            f"{here}: config.yaml holds the limits",
            unless(config_map["overrides.yaml"] == overrides, "another text"),
        )
    settings = (CHECKOUT / "devstack/settings").read_text()
    version = re.search(r"RATEKITTY_LOKI_VERSION:-([\d.]+)", settings)[1]
    expanded = None
    for workload in deployment.workloads():
        container = containers(workload)[0]
        if container["name"] != "loki":
            continue
        name = workload["metadata"]["name"]
        environment = environment_of(deployment, workload)
        used = {m[1] for m in VARIABLE.finditer(text)}
        missing = {m[1] for m in VARIABLE.finditer(text) if m[2] is None} - set(environment)
        check(f"{here}: {name} has what its configuration takes", missing - optional)
        check(f"{here}: {name} has nothing else", set(environment) - used - OTHERS_READ)
        check(
            f"{here}: {name} runs the release that DevStack installs",
            unless(container["image"] == f"grafana/loki:{version}", container["image"]),
        )
        config = load(expand(text, environment))[0]
        expanded = expanded or config
        arguments = dict(a.lstrip("-").split("=", 1) for a in container["args"])
        mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
        folder, _, key = arguments["config.file"].rpartition("/")
        wrong = set()
        if arguments.get("config.expand-env") != "true":
            wrong.add("variables are not expanded")
        if folder not in mounts or key not in config_map:
            wrong.add(arguments["config.file"])
        if at(config, "common.path_prefix") not in mounts:
            wrong.add(f"nothing is mounted at {at(config, 'common.path_prefix')}")
        limits = at(config, "runtime_config.file")
        if limits and (limits.rpartition("/")[0] not in mounts or limits.rpartition("/")[2] not in config_map):
            wrong.add(limits)
        if at(config, "server.http_listen_address") != "0.0.0.0":
            wrong.add("listens for its own pod alone")
        ports = {"http": at(config, "server.http_listen_port"), "grpc": at(config, "server.grpc_listen_port")}
        if "memberlist" in config:
            ports["gossip"] = at(config, "memberlist.bind_port")
        found = {p["name"]: p["containerPort"] for p in container["ports"]}
        if ports != found:
            wrong.add(f"listens at {ports}, has ports {found}")
        check(f"{here}: {name} fits its configuration", wrong)
        target = arguments.get("target", "single")
        check(
            f"{here}: {name} runs its part",
            unless(target == component(workload) and (target in PARTS or target == "single"), target),
        )
        if target in ("ingester", "single"):
            ceiling = size(at(config, "ingester.wal.replay_memory_ceiling"))
            check(
                f"{here}: {name} reads its log within its memory",
                unless(ceiling * 3 // 2 <= size(container["resources"]["limits"]["memory"]), ceiling),
            )
            check(
                f"{here}: {name} keeps its log on a volume",
                unless(workload["kind"] == "StatefulSet" and "volumeClaimTemplates" in workload["spec"], workload["kind"]),
            )
            check(
                f"{here}: there are as many of {name} as copies",
                unless(workload["spec"]["replicas"] >= at(config, "common.replication_factor"), workload["spec"]["replicas"]),
            )
        if target == "compactor":
            check(f"{here}: there is one compactor", unless(workload["spec"]["replicas"] == 1, workload["spec"]["replicas"]))
    return expanded


def check_addresses(deployment, config):
    """The addresses in the configuration of microservices."""
    here = deployment.name

    for workload in deployment.workloads():
        for container in containers(workload):
            if container["name"] == "memcached":
                arguments = dict(a.lstrip("-").split("=", 1) for a in container["args"])
                port = int(arguments.get("port", 11211))
                found = [p["containerPort"] for p in container["ports"]]
                check(f"{here}: memcached has the port at which it listens", unless(found == [port], found))

    def address(path, value, wanted, headless):
        value = re.sub(r"^(dns\+|http://)", "", str(value))
        host, _, port = value.partition(":")
        wrong, pods = deployment.listeners(host, int(port or 0))
        service = deployment.named("Service", host)
        if not wrong and {component(pod) for pod in pods} != wanted:
            wrong = f"{value} leads to {[component(pod) for pod in pods]}"
        if not wrong and headless and service["spec"].get("clusterIP") != "None":
            wrong = f"{host} is not headless"
        check(f"{here}: {path} finds {', '.join(sorted(wanted))}", wrong)
        return service or {}

    (members,) = at(config, "memberlist.join_members")
    service = address("memberlist.join_members", members, PARTS, True)
    check(
        f"{here}: members that are not ready are found, too",
        unless(at(service, "spec.publishNotReadyAddresses"), "publishNotReadyAddresses"),
    )
    service = address("frontend_worker.frontend_address", at(config, "frontend_worker.frontend_address"), {"query-frontend"}, True)
    check(
        f"{here}: query frontends that are not ready are found, too",
        unless(at(service, "spec.publishNotReadyAddresses"), "publishNotReadyAddresses"),
    )
    address("common.compactor_address", at(config, "common.compactor_address"), {"compactor"}, False)
    address("common.compactor_grpc_address", at(config, "common.compactor_grpc_address"), {"compactor"}, False)
    gateway = "storage_config.tsdb_shipper.index_gateway_client.server_address"
    address(gateway, at(config, gateway), {"index-gateway"}, True)
    cache = "chunk_store_config.chunk_cache_config.memcached_client.addresses"
    address(cache, at(config, cache), {"chunks-cache"}, True)
    check(
        f"{here}: the part of each pod is there",
        PARTS - {component(workload) for workload in deployment.workloads()},
    )


def check_urls(file, deployments):
    """The blocks [storage_loki] of a document lead to the right pods."""
    serves = {"url": "single", "write_url": "distributor", "read_url": "query-frontend", "delete_url": "compactor"}
    text = file.read_text()
    found = set()
    for block in re.findall(r"```ini\n(.*?)```", text, re.S):
        for option, url in re.findall(r"^(\w*url) = (\S+)$", block, re.M):
            parts = urlsplit(url)
            if not (parts.hostname or "").startswith("loki") or parts.hostname.endswith(".org"):
                continue
            found.add(option)
            deployment = deployments["single" if option == "url" else "microservices"]
            wrong, pods = deployment.listeners(parts.hostname, parts.port)
            if not wrong and {component(pod) for pod in pods} != {serves[option]}:
                wrong = f"leads to {[component(pod) for pod in pods]}"
            if not wrong and parts.path != "/loki/api/v1":
                wrong = f"path {parts.path}"
            check(f"{file.relative_to(CHECKOUT)}: {option} = {url}", wrong)
    return found


def check_devstack(text):
    """The plugin sets what the configuration of microservices takes, and nothing else."""
    plugin = (CHECKOUT / "devstack/lib/loki").read_text()
    body = plugin.split("function loki_environment", 1)[1].split("\n}\n", 1)[0]
    given = set(re.findall(r"\b((?:LOKI|AWS)_\w+)=", body))
    single = (LOKI / "loki-single.yaml").read_text()
    used = {m[1] for m in VARIABLE.finditer(text + single)}
    needed = {m[1] for m in VARIABLE.finditer(text) if m[2] is None}
    check("DevStack sets what Loki's configuration takes", needed - given - {"LOKI_INDEX_GATEWAY", "LOKI_CHUNKS_CACHE"})
    check("DevStack sets nothing else", given - used - OTHERS_READ)


def main():
    readme = (LOKI / "README.md").read_text()
    single = (LOKI / "loki-single.yaml").read_text()
    microservices = (LOKI / "loki-microservices.yaml").read_text()
    overrides_text = (LOKI / "overrides.yaml").read_text()
    overrides = load(overrides_text)[0]["overrides"]

    rows = documented_settings()
    check("docs/storage-loki.md lists settings", unless(len(rows) > 15, len(rows)))
    check("each setting in docs/storage-loki.md has a rule here", rows - set(RULES))
    check("limits are those of ratekitty's own tenant", unless(list(overrides) == ["cloudkitty"], list(overrides)))
    tenant = overrides.get("cloudkitty", {})
    check("limits that a Loki was tried with", {f"limits_config.{k}" for k in tenant} - TRIED)
    check("README.md explains each limit", {k for k in tenant if f"`{k}`" not in readme})
    used = {m[1] for m in VARIABLE.finditer(single + microservices)}
    check("README.md lists each variable", {v for v in used if f"`{v}`" not in readme})
    check("README.md lists no other variable", set(re.findall(r"`(LOKI_\w+)`", readme)) - used)

    deployments = {
        name: Deployment(LOKI / "kubernetes" / name) for name in ("single", "microservices")
    }
    for deployment in deployments.values():
        check(f"{deployment.name}: there are manifests", unless(len(deployment.documents) > 4, len(deployment.documents)))
        check_schemas(deployment)
        check_references(deployment)

    one, many = deployments["single"], deployments["microservices"]
    bucket = {"LOKI_S3_ENDPOINT"}
    check_loki_pods(one, single, None, bucket)
    config = check_loki_pods(many, microservices, overrides_text, set())
    check_addresses(many, config)

    files = check_configuration("loki-single.yaml", single, {}, {}, readme)
    check(
        "loki-single.yaml: old entries show at once, from files",
        unless(at(files, "ingester.query_store_max_look_back_period") == -1, "query_store_max_look_back_period"),
    )
    plugin = (CHECKOUT / "devstack/lib/loki").read_text()
    bucket = dict(pair.split("=") for pair in re.findall(r"(LOKI_(?:STORE_LOOK_BACK|MAX_CHUNK_AGE)=\w+)", plugin))
    files = load(expand(single, {**bucket, "LOKI_OBJECT_STORE": "s3"}))[0]
    check(
        "loki-single.yaml: old entries show at once, from a bucket as DevStack sets it",
        unless(
            seconds(at(files, "ingester.query_store_max_look_back_period")) == 0
            and seconds(at(files, "ingester.max_chunk_age")) >= MONTH,
            bucket,
        ),
    )
    first = many.named("StatefulSet", "loki-ingester")
    check_configuration("loki-microservices.yaml", microservices, tenant, environment_of(many, first), readme)
    check_devstack(microservices)

    found = check_urls(LOKI / "README.md", deployments)
    check("README.md shows all URLs", {"url", "write_url", "read_url", "delete_url"} - found)
    found = check_urls(CHECKOUT / "docs/storage-loki.md", deployments)
    check("docs/storage-loki.md shows the URLs of microservices", {"write_url", "read_url", "delete_url"} - found)

    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0 or passed == 0)


if __name__ == "__main__":
    main()
