"""The database of the CloudKitty that the documents migrate: CONFIGURATION_FILE WHAT.

WHAT is `database`, which makes an empty one, or `contents`: with tables there, the
reference itself makes rules, and marks its scopes as rated until six hours ago. It
runs in the environment of the reference.
"""

import datetime
import sys
import warnings

warnings.simplefilter("ignore")

from oslo_config import cfg  # noqa: E402

from cloudkitty.common import config  # noqa: E402, F401

cfg.CONF(["--config-file", sys.argv[1]], project="cloudkitty")


def database():
    import pymysql
    from sqlalchemy.engine import make_url

    url = make_url(cfg.CONF.database.connection)
    server = pymysql.connect(host=url.host, port=url.port, user=url.username, password=url.password)
    with server.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {url.database} CHARACTER SET utf8mb4")


def contents():
    from cloudkitty import storage_state
    from cloudkitty.db import api as db_api
    from cloudkitty.rating.hash.db import api as hash_api

    rules = hash_api.get_instance()
    for service, cost in (("memory", "0.001"), ("cpu", "0.02")):
        rules.create_mapping(
            cost=cost,
            map_type="flat",
            service_id=rules.create_service(service).service_id,
            start=datetime.datetime(2026, 1, 1),
            name=service,
            created_by="operator",
        )
    db_api.get_instance().get_module_info().set_state("hashmap", True)
    now = datetime.datetime.now(datetime.timezone.utc)
    hour = now.replace(minute=0, second=0, microsecond=0) - datetime.timedelta(hours=6)
    for scope in ("node", "prometheus"):
        storage_state.StateManager().set_last_processed_timestamp(
            scope, hour, fetcher="prometheus", collector="prometheus", scope_key="job"
        )


{"database": database, "contents": contents}[sys.argv[2]]()
