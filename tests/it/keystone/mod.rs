//! Keystone, policy and Aetos: real ones, and doubles for what goes wrong.

mod aetos;
mod changes;
mod faults;
mod login;
mod memcached;
mod policy;
mod users;

use ratekitty::{
    config::{
        Config, Place, Sources,
        sections::keystone_auth::{Domain, KeystoneAuth, Login, Named, Scope},
    },
    http,
    keystone::Session,
    time::{Clock, RealClock},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

use crate::support::set_up;

/// The small cloud of `tests/fixtures/openstack/seed_keystone.py`.
struct Cloud {
    url: String,
    told: Value,
}

impl Cloud {
    fn get() -> Self {
        let text = std::fs::read_to_string(set_up("RATEKITTY_TEST_CLOUD")).unwrap();
        let url = set_up("RATEKITTY_TEST_KEYSTONE");
        Self { url, told: serde_json::from_str(&text).unwrap() }
    }

    fn password(&self) -> &str {
        self.told["password"].as_str().unwrap()
    }

    fn project(&self, name: &str) -> &str {
        self.told["projects"][name].as_str().unwrap()
    }

    /// Options of a section that logs in as a user in a project.
    fn options(&self, user: &str, project: &str) -> String {
        format!(
            "auth_type = password\nauth_url = {}\nusername = {user}\npassword = {}\n\
             user_domain_id = default\nproject_name = {project}\nproject_domain_id = default\n",
            self.url,
            self.password()
        )
    }

    /// A login as a user.
    fn auth(&self, user: &str, scope: Scope) -> KeystoneAuth {
        let user = Named::Name(user.into(), Some(Domain::Id("default".into())));
        KeystoneAuth {
            group: "ks",
            auth_url: self.url.clone(),
            is_v3_url: true,
            login: Login::Password { user, password: self.password().to_owned().into() },
            scope,
            reach: <_>::default(),
        }
    }

    fn in_project(&self, name: &str) -> Scope {
        Scope::Project(Named::Id(self.project(name).into()))
    }

    /// A token, got by hand; `scope` is that of the Identity API, null for none.
    async fn token(&self, identity: Value, scope: Value) -> String {
        let mut auth = json!({"auth": {"identity": identity}});
        if !scope.is_null() {
            auth["auth"]["scope"] = scope;
        }
        let request = http_client()
            .post(format!("{}/auth/tokens", self.url))
            .header("content-type", "application/json")
            .body(auth.to_string());
        let answer = answer_of(request).await;
        let status = answer.status();
        let token = answer.headers().get("x-subject-token").cloned();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
        token.unwrap().to_str().unwrap().to_owned()
    }

    async fn token_of(&self, user: &str, scope: Value) -> String {
        let user = json!({"name": user, "domain": {"id": "default"}, "password": self.password()});
        self.token(json!({"methods": ["password"], "password": {"user": user}}), scope).await
    }

    fn project_scope(&self, name: &str) -> Value {
        json!({"project": {"id": self.project(name)}})
    }

    async fn token_by_credential(&self, name: &str) -> String {
        let credential = &self.told["application_credentials"][name];
        let identity =
            json!({"methods": ["application_credential"], "application_credential": credential});
        self.token(identity, Value::Null).await
    }

    /// A token of alpha-member on alpha that ends two seconds from now.
    async fn short_token(&self) -> String {
        let member = self.token_of("alpha-member", self.project_scope("alpha")).await;
        let end = RealClock.now() + chrono::TimeDelta::seconds(3);
        let name = format!("short-{}", rand::random::<u32>());
        let body = json!({"application_credential": {
            "name": name, "expires_at": end.format("%Y-%m-%dT%H:%M:%S.000000").to_string(),
        }});
        let user = self.told["users"]["alpha-member"].as_str().unwrap();
        let answer = http_client()
            .post(format!("{}/users/{user}/application_credentials", self.url))
            .header("content-type", "application/json")
            .header("x-auth-token", member)
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        let made: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let made = &made["application_credential"];
        let credential = json!({"id": made["id"], "secret": made["secret"]});
        let identity =
            json!({"methods": ["application_credential"], "application_credential": credential});
        self.token(identity, Value::Null).await
    }
}

/// What Keystone answers. uWSGI drops a connection now and then on a machine
/// that is busy, and what is asked for here may be asked for again.
async fn answer_of(request: reqwest::RequestBuilder) -> reqwest::Response {
    for _ in 0..3 {
        match request.try_clone().unwrap().send().await {
            Err(error) if error.is_request() => {
                tokio::time::sleep(Duration::from_millis(300)).await
            }
            sent => return sent.unwrap(),
        }
    }
    request.send().await.unwrap()
}

fn http_client() -> reqwest::Client {
    http::client(&<_>::default()).unwrap()
}

/// A configuration, from the text of its file.
fn config(text: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ratekitty.conf");
    std::fs::write(&file, text).unwrap();
    Config::from_sources(&Sources::read(&[Place::File(file)]).unwrap()).unwrap()
}

fn session(auth: &KeystoneAuth) -> Arc<Session> {
    let clock: Arc<dyn Clock> = Arc::new(RealClock);
    Arc::new(Session::new(auth, Duration::ZERO, clock).unwrap())
}
