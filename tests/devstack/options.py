#!/usr/bin/env python3
"""options.py CHECKOUT CLOUDKITTY_CONF : whether ratekitty knows each option of a file.

Known are the options in the tables of src/config/sections and those that
docs/CONFIGURATION.md lists under "### [section]".
Exits with 1 and the options that nobody knows.
"""

import configparser
import pathlib
import re
import sys

# Names in the reference, for as long as the source has no table of the section.
LOGIN = set(
    """auth_type auth_section auth_url username user_id password user_domain_id
    user_domain_name project_id project_name project_domain_id project_domain_name
    domain_id domain_name default_domain_id default_domain_name system_scope trust_id
    cafile certfile keyfile insecure timeout""".split()
)
REFERENCE = {
    "fetcher_keystone": {"keystone_version", "ignore_rating_role", "ignore_disabled_tenants"},
    "collector_aetos": {"interface", "region_name"},
    "oslo_policy": {"policy_file", "policy_dirs", "policy_default_rule"},
    "oslo_middleware": {"enable_proxy_headers_parsing"},
    "keystone_authtoken": set(
        """www_authenticate_uri interface delay_auth_decision region_name memcached_servers
        token_cache_time service_token_roles service_token_roles_required
        service_type""".split()
    ),
}
# Sections that hold a login to Keystone, or name the section that does.
WITH_LOGIN = {"fetcher_keystone", "collector_aetos", "keystone_authtoken"}


def in_tables(checkout):
    """Options of the tables in the source, by section."""
    known = {}
    for file in (checkout / "src/config/sections").glob("**/*.rs"):
        text = file.read_text()
        consts = dict(re.findall(r'const (\w+): &str = "([^"]+)";', text))
        for group, name in re.findall(
            r'Opt::(?:new|unset)\(\s*("\w+"|\w+)\s*,\s*"(\w+)"', text
        ):
            section = group.strip('"') if group.startswith('"') else consts.get(group)
            if section:
                known.setdefault(section, set()).add(name)
    return known


def login_options(checkout):
    """Options of a login to Keystone: functions make the tables of all sections."""
    file = checkout / "src/config/sections/keystone_auth.rs"
    if not file.exists():
        return LOGIN
    names = set(re.findall(r'(?:text|Opt::\w+)\(\s*(?:group,\s*)?"(\w+)"', file.read_text()))
    if not {"auth_section", "auth_url", "cafile"} <= names:
        sys.exit(f"no options of a login found: {file} looks different")
    return names


def in_documentation(checkout):
    """Options of the tables in CONFIGURATION.md, by section."""
    known = {}
    section = None
    for line in (checkout / "docs/CONFIGURATION.md").read_text().splitlines():
        heading = re.fullmatch(r"#+ (?:`?\[(\w+)\]`?)?.*", line)
        if heading:
            section = heading.group(1)
        elif section and line.startswith("| `"):
            cell = line.split("|")[1]
            known.setdefault(section, set()).update(re.findall(r"`(\w+)`", cell))
    return known


def main():
    checkout = pathlib.Path(sys.argv[1])
    tables, documentation = in_tables(checkout), in_documentation(checkout)
    if not tables.get("storage_loki") or not documentation.get("storage_loki"):
        sys.exit("no option tables found: src/config/sections or docs/CONFIGURATION.md look different")

    conf = configparser.RawConfigParser(default_section="\0", strict=True, delimiters="=")
    conf.optionxform = str
    with open(sys.argv[2]) as file:
        conf.read_file(file)
    logins = WITH_LOGIN | {conf[section].get("auth_section") for section in conf.sections()}

    unknown = []
    for section in conf.sections():
        known = tables.get(section, set()) | documentation.get(section, set())
        if section not in tables:
            known |= REFERENCE.get(section, set())
        if section in logins:
            known |= login_options(checkout)
        unknown += [f"[{section}] {name}" for name in conf[section] if name not in known]
    if unknown:
        sys.exit("ratekitty does not know: " + ", ".join(unknown))


if __name__ == "__main__":
    main()
