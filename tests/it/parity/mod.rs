//! Comparisons with recorded answers of the reference (CloudKitty 25.0.0) and
//! of the libraries it stands on. How each fixture was made is said in the
//! `generate.py` beside it.

mod api_http;
mod api_rating;
mod api_v2;
mod compatibility;
mod decimal;
mod gabbi;
mod hashmap;
mod metrics_yml;
mod oslo_config;
mod promql;
mod skip;

/// Whether this process has another zone than UTC. The local zone belongs to the
/// process, so the test of this name is run in a process of its own for it.
fn is_in_another_zone(test: &str) -> bool {
    if std::env::var("RATEKITTY_TEST_ZONE").is_ok() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("TZ", "Europe/Paris")
        .env("RATEKITTY_TEST_ZONE", "Europe/Paris")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("1 passed"), "{told}{}", String::from_utf8_lossy(&output.stderr));
    false
}

/// Asserts that cases fail in the expected places only.
///
/// `allowed` names deliberate deviations with their reason; a name in it that
/// does not deviate any more fails the test, too.
#[track_caller]
fn assert_deviations(failures: &[(String, String)], allowed: &[(&str, &str)]) {
    let unexpected: Vec<_> = failures
        .iter()
        .filter(|(name, _)| !allowed.iter().any(|(known, _)| known == name))
        .collect();
    assert!(
        unexpected.is_empty(),
        "{} cases deviate, first: {:#?}",
        unexpected.len(),
        &unexpected[..unexpected.len().min(40)]
    );
    let stale: Vec<_> = allowed
        .iter()
        .filter(|(known, _)| !failures.iter().any(|(name, _)| name == known))
        .collect();
    assert!(stale.is_empty(), "these no longer deviate: {stale:?}");
}
