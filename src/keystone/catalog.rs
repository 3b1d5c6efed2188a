//! The catalog that comes with a token: which services there are, and where.

use serde::Deserialize;

use super::KeystoneError;

/// Services and their endpoints.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Catalog(Vec<Service>);

#[derive(Debug, Clone, Deserialize)]
struct Service {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, Deserialize)]
struct Endpoint {
    #[serde(default)]
    interface: String,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    region_id: Option<String>,
    url: String,
}

/// Which endpoint is looked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Type of the service, such as `metric-storage`.
    pub service_type: String,
    /// `public`, `internal` or `admin`, the one that is liked best first; `publicURL`
    /// and so on mean the same.
    pub interfaces: Vec<String>,
    /// Region; any, if none is named.
    pub region: Option<String>,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let interfaces: Vec<&str> = self.interfaces().collect();
        write!(f, "{} endpoint of service type {}", interfaces.join(" or "), self.service_type)?;
        match &self.region {
            Some(region) => write!(f, " in region {region}"),
            None => Ok(()),
        }
    }
}

impl Wanted {
    /// The interfaces as version 3 of the catalog calls them.
    fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.interfaces.iter().map(|interface| interface.strip_suffix("URL").unwrap_or(interface))
    }
}

impl Catalog {
    /// Whether there is no service at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a service of this type.
    pub fn has(&self, service_type: &str) -> bool {
        self.0.iter().any(|service| service.kind == service_type)
    }

    /// URL of the first endpoint that fits, without a slash at its end.
    ///
    /// # Errors
    /// [`KeystoneError::NoEndpoint`], which names what there is.
    pub fn endpoint(&self, wanted: &Wanted) -> Result<String, KeystoneError> {
        let services = || self.0.iter().filter(|service| service.kind == wanted.service_type);
        let fits = |endpoint: &&Endpoint, interface: &str| {
            let region = endpoint.region_id.as_ref().or(endpoint.region.as_ref());
            endpoint.interface == interface
                && wanted.region.as_ref().is_none_or(|wanted| Some(wanted) == region)
        };
        let found = wanted.interfaces().find_map(|interface| {
            let mut endpoints = services().flat_map(|service| &service.endpoints);
            endpoints.find(|endpoint| fits(endpoint, interface))
        });
        if let Some(endpoint) = found {
            return Ok(endpoint.url.trim_end_matches('/').to_owned());
        }
        let mut there: Vec<String> = services()
            .flat_map(|service| &service.endpoints)
            .map(|endpoint| {
                let region = endpoint.region_id.as_ref().or(endpoint.region.as_ref());
                format!("{} in {}", endpoint.interface, region.map_or("no region", String::as_str))
            })
            .collect();
        let found = match there.is_empty() {
            true => {
                there = self.0.iter().map(|service| service.kind.clone()).collect();
                format!("services of types {}", there.join(", "))
            }
            false => format!("endpoints of it: {}", there.join(", ")),
        };
        Err(KeystoneError::NoEndpoint { wanted: wanted.to_string(), found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let endpoint = |interface: &str, region: &str, url: &str| {
            serde_json::json!({"interface": interface, "region": region, "region_id": region,
                "url": url, "id": "1"})
        };
        serde_json::from_value(serde_json::json!([
            {"type": "identity", "name": "keystone", "id": "a",
                "endpoints": [endpoint("public", "one", "http://k/v3/")]},
            {"type": "metric-storage", "endpoints": [
                endpoint("public", "one", "http://a/prometheus"),
                endpoint("internal", "two", "http://b/prometheus/"),
            ]},
            {"type": "empty"},
        ]))
        .unwrap()
    }

    fn wanted(service_type: &str, interface: &str, region: Option<&str>) -> Wanted {
        Wanted {
            service_type: service_type.into(),
            interfaces: interface.split(',').map(str::to_owned).collect(),
            region: region.map(str::to_owned),
        }
    }

    #[test]
    fn finds_by_interface_and_region() {
        let find = |wanted: &Wanted| catalog().endpoint(wanted);
        let url = find(&wanted("metric-storage", "internal", None)).unwrap();
        assert_eq!(url, "http://b/prometheus");
        let url = find(&wanted("identity", "publicURL", Some("one"))).unwrap();
        assert_eq!(url, "http://k/v3");
        // The one that is liked best, whichever comes first.
        let url = find(&wanted("metric-storage", "admin,internal,public", None)).unwrap();
        assert_eq!(url, "http://b/prometheus");
        let url = find(&wanted("metric-storage", "internal,public", Some("one"))).unwrap();
        assert_eq!(url, "http://a/prometheus");
        let error = find(&wanted("metric-storage", "internal", Some("one"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Keystone's catalog has no internal endpoint of service type metric-storage in region \
             one; it has endpoints of it: public in one, internal in two"
        );
        let error = find(&wanted("volume", "public", None)).unwrap_err().to_string();
        assert!(error.ends_with("it has services of types identity, metric-storage, empty"));
    }
}
