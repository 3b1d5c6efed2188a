//! The body of a login, and what is said about it.
//! <https://docs.openstack.org/api-ref/identity/v3/#authentication-and-token-management>

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::config::sections::keystone_auth::{Domain, KeystoneAuth, Login, Named, Scope};

fn domain(domain: &Domain) -> Value {
    match domain {
        Domain::Id(id) => json!({"id": id}),
        Domain::Name(name) => json!({"name": name}),
    }
}

fn named(named: &Named) -> Value {
    match named {
        Named::Id(id) => json!({"id": id}),
        Named::Name(name, None) => json!({"name": name}),
        Named::Name(name, Some(of)) => json!({"name": name, "domain": domain(of)}),
    }
}

/// The body of `POST /v3/auth/tokens`; nothing for who does not log in.
pub(super) fn body(auth: &KeystoneAuth) -> Option<Value> {
    let identity = match &auth.login {
        Login::Password { user, password } => {
            let mut user = named(user);
            user["password"] = json!(password.expose_secret());
            json!({"methods": ["password"], "password": {"user": user}})
        }
        Login::Token(token) => {
            json!({"methods": ["token"], "token": {"id": token.expose_secret()}})
        }
        Login::ApplicationCredential { credential, user, secret } => {
            let mut given = json!({"secret": secret.expose_secret()});
            match user {
                None => given["id"] = json!(credential),
                Some(user) => {
                    given["name"] = json!(credential);
                    given["user"] = named(user);
                }
            }
            json!({"methods": ["application_credential"], "application_credential": given})
        }
        Login::Nobody { .. } => return None,
    };
    let mut body = json!({"auth": {"identity": identity}});
    let scope = match &auth.scope {
        Scope::Unscoped => None,
        Scope::Project(project) => Some(json!({"project": named(project)})),
        Scope::Domain(of) => Some(json!({"domain": domain(of)})),
        Scope::System => Some(json!({"system": {"all": true}})),
        Scope::Trust(id) => Some(json!({"OS-TRUST:trust": {"id": id}})),
    };
    // An application credential brings its project; Keystone refuses another.
    if let Some(scope) = scope
        && !matches!(auth.login, Login::ApplicationCredential { .. })
    {
        body["auth"]["scope"] = scope;
    }
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(login: Login, scope: Scope) -> KeystoneAuth {
        KeystoneAuth {
            group: "ks_auth",
            auth_url: "http://k/v3".into(),
            is_v3_url: true,
            login,
            scope,
            reach: <_>::default(),
        }
    }

    #[test]
    fn says_who_and_for_what() {
        let default = || Some(Domain::Id("default".into()));
        let user = Named::Name("ck".into(), default());
        let password = Login::Password { user: user.clone(), password: "s3cret".to_owned().into() };
        let project = Scope::Project(Named::Name("service".into(), default()));
        assert_eq!(
            body(&auth(password.clone(), project)).unwrap(),
            json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user":
                    {"name": "ck", "domain": {"id": "default"}, "password": "s3cret"}}},
                "scope": {"project": {"name": "service", "domain": {"id": "default"}}},
            }})
        );
        assert_eq!(
            body(&auth(password, Scope::System)).unwrap()["auth"]["scope"],
            json!({"system": {"all": true}})
        );
        let credential = Login::ApplicationCredential {
            credential: "mine".into(),
            user: Some(user),
            secret: "x".to_owned().into(),
        };
        let project = Scope::Project(Named::Id("1".into()));
        assert_eq!(
            body(&auth(credential, project)).unwrap(),
            json!({"auth": {"identity": {
                "methods": ["application_credential"],
                "application_credential": {"secret": "x", "name": "mine",
                    "user": {"name": "ck", "domain": {"id": "default"}}},
            }}})
        );
        assert!(body(&auth(Login::Nobody { endpoint: None }, Scope::Unscoped)).is_none());
    }
}
