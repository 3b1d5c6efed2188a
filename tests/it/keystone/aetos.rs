//! A real Aetos before a real Prometheus.

use std::{sync::Arc, time::Duration};

use ratekitty::{
    collector,
    config::{Config, metrics_yml},
    dataframe::DataPoint,
    keystone::Sessions,
    time::{Period, Periods, RealClock, seconds},
};

use super::{Cloud, config};
use crate::support::set_up;

const METRICS: &str = "metrics:
  openstack_instance:
    unit: instance
    alt_name: instance
    groupby: [id, project_id]
    metadata: [flavor_name]
    extra_args: {aggregation_method: max}
  openstack_volume_gb:
    unit: GiB
    groupby: [id, project_id]
    metadata: [volume_type]
    extra_args: {aggregation_method: max}
";

fn aetos(cloud: &Cloud, user: &str, project: &str, more: &str) -> Config {
    config(&format!(
        "[storage]\nbackend = sql\n[collect]\ncollector = aetos\n[ratekitty]\nhttp_retry_budget = 20\n\
         [collector_aetos]\nauth_section = ks_auth\n{more}[ks_auth]\n{}",
        cloud.options(user, project)
    ))
}

fn prometheus() -> Config {
    config(&format!(
        "[storage]\nbackend = sql\n[collect]\ncollector = prometheus\n\
         [collector_prometheus]\nprometheus_url = {}/api/v1\n",
        set_up("RATEKITTY_TEST_PROMETHEUS")
    ))
}

/// All points of a project, hour by hour.
async fn collected(
    cloud: &Cloud,
    config: &Config,
    project: &str,
) -> Result<Vec<DataPoint>, String> {
    let collector = collector::build(config, &Sessions::new(Arc::new(RealClock))).unwrap();
    let metrics = metrics_yml::parse(METRICS, "metrics.yml", "project_id").unwrap().metrics;
    let begin = cloud.told["samples"]["begin"].as_i64().unwrap();
    let end = cloud.told["samples"]["end"].as_i64().unwrap();
    let mut points = Vec::new();
    for hour in (begin..end).step_by(3_600) {
        let period = Period { begin: seconds(hour), end: seconds(hour + 3_600) };
        for metric in &metrics {
            let found = collector.collect(metric, cloud.project(project), period).await;
            let mut found = found.map_err(|error| error.to_string())?;
            found.sort_by_key(|point| format!("{point:?}"));
            points.extend(found);
        }
    }
    Ok(points)
}

#[tokio::test]
async fn aetos_tells_what_prometheus_tells() {
    let cloud = Cloud::get();
    for project in ["alpha", "beta"] {
        let expected = collected(&cloud, &prometheus(), project).await.unwrap();
        assert!(expected.len() > 10, "{expected:?}");
        for (user, more) in [
            ("cloudkitty", ""),
            ("service-only", "interface = internal\nregion_name = RegionOne\n"),
            ("cloudkitty", "interface = admin\ntimeout = 20\n"),
        ] {
            let ours = aetos(&cloud, user, "service", more);
            assert_eq!(collected(&cloud, &ours, project).await.unwrap(), expected, "{user} {more}");
        }
    }
}

/// One question about all projects and hours, as a subquery, against one question for
/// each.
#[tokio::test]
async fn one_question_gives_what_many_give() {
    let cloud = Cloud::get();
    let config = aetos(&cloud, "cloudkitty", "service", "");
    let collector = collector::build(&config, &Sessions::new(Arc::new(RealClock))).unwrap();
    let metrics = metrics_yml::parse(METRICS, "metrics.yml", "project_id").unwrap().metrics;
    let (begin, end) = (&cloud.told["samples"]["begin"], &cloud.told["samples"]["end"]);
    let (begin, end) = (begin.as_i64().unwrap(), end.as_i64().unwrap());
    let projects = ["alpha", "beta"].map(|name| cloud.project(name));
    let periods = |begin, length, count| Periods { begin: seconds(begin), seconds: length, count };
    let hours = u32::try_from((end - begin) / 3_600).unwrap();
    for metric in &metrics {
        // From an hour before the samples to one after.
        for periods in [
            periods(begin - 3_600, 3_600, hours + 2),
            periods(begin, 3_600, 1),
            periods(begin - begin.rem_euclid(7_200), 7_200, 2),
        ] {
            let many = collector.collect_many(metric, &projects, periods).await.unwrap().unwrap();
            assert!(!many.is_empty());
            for project in projects {
                let found = collector.points(metric, project, &many).unwrap();
                for (period, mut found) in periods.iter().zip(found) {
                    let mut expected = collector.collect(metric, project, period).await.unwrap();
                    expected.sort_by_key(|point| format!("{point:?}"));
                    found.sort_by_key(|point| format!("{point:?}"));
                    assert_eq!(found, expected, "{period}");
                }
            }
        }
        // The steps of a subquery are multiples of their length.
        let odd = Periods { begin: seconds(begin + 60), seconds: 3_600, count: 2 };
        assert!(collector.collect_many(metric, &projects, odd).await.unwrap().is_none());
    }
    // A URL has no room for all projects of a cloud.
    let names: Vec<String> = (0..500).map(|number| format!("{number:032x}")).collect();
    let fitting = collector.fitting(&mut names.iter().map(String::as_str));
    assert!((20..60).contains(&fitting), "{fitting}");
    let names: Vec<&str> = names[..fitting].iter().map(String::as_str).collect();
    let nobody = collector.collect_many(&metrics[0], &names, periods(begin, 3_600, 3)).await;
    assert!(nobody.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn refusals_say_what_is_needed() {
    let cloud = Cloud::get();
    let error = |user: &'static str, project: &'static str, more: &'static str| {
        let config = aetos(&cloud, user, project, more);
        let cloud = &cloud;
        async move { collected(cloud, &config, "alpha").await.unwrap_err() }
    };
    let rating = error("alpha-rating", "alpha", "").await;
    assert!(rating.contains("403") && rating.contains("role admin or service"), "{rating}");
    let nowhere = error("cloudkitty", "service", "region_name = Nowhere\n").await;
    assert!(nowhere.contains("metric-storage in region Nowhere"), "{nowhere}");
    let impatient = "region_name = RegionTwo\n[ratekitty]\nhttp_retry_budget = 0.2\n";
    let down = error("cloudkitty", "service", impatient).await;
    assert!(down.contains("127.0.0.2:1"), "{down}");
}

#[tokio::test]
async fn a_probe_goes_all_the_way() {
    let cloud = Cloud::get();
    let config = aetos(&cloud, "cloudkitty", "service", "");
    let collector = collector::build(&config, &Sessions::new(Arc::new(RealClock))).unwrap();
    assert_eq!(collector.name(), "aetos");
    tokio::time::timeout(Duration::from_secs(30), collector.probe()).await.unwrap().unwrap();
}
