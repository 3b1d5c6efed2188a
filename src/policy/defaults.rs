//! The rules of CloudKitty 25.0.0, with their defaults.
//!
//! Facts are those of `oslopolicy-policy-generator --namespace cloudkitty`; a test compares them with
//! what it says, in `tests/fixtures/policy/cases.jsonl`. The requests are those that ask for the
//! rule; the reference lists some of them only.

/// A rule that the reference asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct DefaultRule {
    /// Its name.
    pub name: &'static str,
    /// What it asks for, unless a policy file says otherwise.
    pub check: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// Scopes of tokens that may come: `project` alone. Empty: any.
    pub scope_types: &'static [&'static str],
    /// Requests that ask for it, by method and path; `/v1/billing` stands for `/v1/rating`, too.
    /// Empty: other rules refer to it.
    pub operations: &'static [(&'static str, &'static str)],
    /// What it was before.
    pub older: Option<OlderRule>,
    /// The release in which it was marked for removal.
    pub removed_since: Option<&'static str>,
}

/// A rule that another one took the place of.
#[derive(Debug, PartialEq, Eq)]
pub struct OlderRule {
    /// Its name. The reference's has `rule:` in it.
    pub name: &'static str,
    /// What it asked for.
    pub check: &'static str,
    /// The release in which the other one took its place.
    pub since: &'static str,
}

const ADMIN: &str = "role:admin";
const ANYONE: &str = "";
const READER_OR_ADMIN: &str = "rule:project_reader_or_admin";
const ADMIN_OR_OWNER: &str =
    "is_admin:True or (role:admin and is_admin_project:True) or project_id:%(project_id)s";

/// A rule that others refer to.
const fn part(name: &'static str, check: &'static str, description: &'static str) -> DefaultRule {
    DefaultRule {
        name,
        check,
        description,
        scope_types: &[],
        operations: &[],
        older: None,
        removed_since: None,
    }
}

/// The same, in place of `admin_or_owner`.
const fn newer(name: &'static str, check: &'static str, description: &'static str) -> DefaultRule {
    let older = OlderRule { name: "rule:admin_or_owner", check: ADMIN_OR_OWNER, since: "22.0.0" };
    DefaultRule { older: Some(older), ..part(name, check, description) }
}

/// A rule for requests.
const fn request(
    name: &'static str,
    check: &'static str,
    description: &'static str,
    operations: &'static [(&'static str, &'static str)],
) -> DefaultRule {
    DefaultRule { scope_types: &["project"], operations, ..part(name, check, description) }
}

/// All of them, in the order in which the reference lists them.
pub const DEFAULTS: &[DefaultRule] = &[
    part("context_is_admin", ADMIN, "who sees all projects"),
    DefaultRule {
        removed_since: Some("22.0.0"),
        ..part("admin_or_owner", ADMIN_OR_OWNER, "admins, and everyone in their own project")
    },
    part("default", ANYONE, "what is asked where there is no rule of a name"),
    newer(
        "project_member_api",
        "role:member and project_id:%(project_id)s",
        "members, in their own project",
    ),
    newer(
        "project_reader_api",
        "role:reader and project_id:%(project_id)s",
        "readers, in their own project",
    ),
    newer(
        "project_member_or_admin",
        "rule:project_member_api or rule:context_is_admin",
        "members in their own project, and admins",
    ),
    newer(
        "project_reader_or_admin",
        "rule:project_reader_api or rule:context_is_admin",
        "readers in their own project, and admins",
    ),
    request(
        "collector:list_mappings",
        ADMIN,
        "list which collector serves which service",
        &[("GET", "/v1/collector/mappings")],
    ),
    request(
        "collector:get_mapping",
        ADMIN,
        "show which collector serves a service",
        &[("GET", "/v1/collector/mappings/{service_id}")],
    ),
    request(
        "collector:manage_mapping",
        ADMIN,
        "set or remove the collector of a service",
        &[
            ("POST", "/v1/collector/mappings"),
            ("POST", "/v1/collector/mappings/{collector_id}/{service_id}"),
            ("DELETE", "/v1/collector/mappings/{service_id}"),
        ],
    ),
    request(
        "collector:get_state",
        ADMIN,
        "show whether a collector is enabled",
        &[
            ("GET", "/v1/collector/states/{collector_id}"),
            ("GET", "/v1/collector/{collector_id}/states"),
        ],
    ),
    request(
        "collector:update_state",
        ADMIN,
        "enable or disable a collector",
        &[
            ("PUT", "/v1/collector/states/{collector_id}"),
            ("PUT", "/v1/collector/{collector_id}/states"),
        ],
    ),
    request(
        "info:list_services_info",
        ANYONE,
        "list rated services; nothing asks for it, see info:list_metrics_info",
        &[("GET", "/v1/info/services")],
    ),
    request(
        "info:get_service_info",
        ANYONE,
        "show a rated service; nothing asks for it, see info:get_metric_info",
        &[("GET", "/v1/info/services/{metric_id}")],
    ),
    request(
        "info:list_metrics_info",
        ANYONE,
        "list rated metrics, also as services",
        &[("GET", "/v1/info/metrics"), ("GET", "/v1/info/services")],
    ),
    request(
        "info:get_metric_info",
        ANYONE,
        "show a rated metric, also as a service",
        &[("GET", "/v1/info/metrics/{metric_id}"), ("GET", "/v1/info/services/{metric_id}")],
    ),
    request("info:get_config", ANYONE, "show the metrics file", &[("GET", "/v1/info/config")]),
    request("rating:list_modules", ADMIN, "list rating modules", &[("GET", "/v1/rating/modules")]),
    request(
        "rating:get_module",
        ADMIN,
        "show a rating module",
        &[("GET", "/v1/rating/modules/{module_id}")],
    ),
    request(
        "rating:update_module",
        ADMIN,
        "enable, disable or rank a rating module",
        &[("PUT", "/v1/rating/modules/{module_id}")],
    ),
    request(
        "rating:quote",
        ANYONE,
        "tell what resources would cost",
        &[("POST", "/v1/rating/quote")],
    ),
    request(
        "rating:module_config",
        ADMIN,
        "read and change rules and scripts, and load modules again",
        &[
            ("GET", "/v1/rating/reload_modules"),
            ("GET", "/v1/rating/module_config/{module_id}/{path}"),
            ("POST", "/v1/rating/module_config/{module_id}/{path}"),
            ("PUT", "/v1/rating/module_config/{module_id}/{path}"),
            ("DELETE", "/v1/rating/module_config/{module_id}/{path}"),
        ],
    ),
    request("report:list_tenants", ADMIN, "list rated projects", &[("GET", "/v1/report/tenants")]),
    request(
        "report:get_summary",
        READER_OR_ADMIN,
        "sum up the costs of a project, or of all",
        &[("GET", "/v1/report/summary")],
    ),
    request(
        "report:get_total",
        READER_OR_ADMIN,
        "tell the total of a project, or of all",
        &[("GET", "/v1/report/total")],
    ),
    request(
        "storage:list_data_frames",
        READER_OR_ADMIN,
        "list the dataframes of a project, or of all",
        &[("GET", "/v1/storage/dataframes")],
    ),
    request("dataframes:add", ADMIN, "store dataframes", &[("POST", "/v2/dataframes")]),
    request("dataframes:get", READER_OR_ADMIN, "list dataframes", &[("GET", "/v2/dataframes")]),
    request(
        "v2_rating:list_modules",
        ADMIN,
        "list rating modules; nothing asks for it, everyone with a token may",
        &[("GET", "/v2/rating/modules")],
    ),
    request(
        "v2_rating:get_module",
        ADMIN,
        "show a rating module",
        &[("GET", "/v2/rating/modules/{module_id}")],
    ),
    request(
        "v2_rating:update_module",
        ADMIN,
        "enable, disable or rank a rating module",
        &[("PUT", "/v2/rating/modules/{module_id}")],
    ),
    request("scope:get_state", ADMIN, "list scopes and their states", &[("GET", "/v2/scope")]),
    request("scope:reset_state", ADMIN, "set scopes back in time", &[("PUT", "/v2/scope")]),
    request("scope:patch_state", ADMIN, "change a scope", &[("PATCH", "/v2/scope")]),
    request("scope:post_state", ADMIN, "create a scope", &[("POST", "/v2/scope")]),
    request("summary:get_summary", READER_OR_ADMIN, "sum up costs", &[("GET", "/v2/summary")]),
    request(
        "schedule:task_reprocesses",
        ADMIN,
        "schedule reprocessing",
        &[("POST", "/v2/task/reprocesses")],
    ),
    request(
        "schedule:get_task_reprocesses",
        ADMIN,
        "list scheduled reprocessing",
        &[("GET", "/v2/task/reprocesses"), ("GET", "/v2/task/reprocesses/{scope_id}")],
    ),
];
