//! ratekitty rates the use of a cloud: it finds the scopes (projects), collects
//! their usage from Prometheus, prices it with the operator's rules, stores
//! rated dataframes and answers what everything costs.
//!
//! Data flows one way:
//!
//! ```text
//!  fetcher → collector → rating → storage        (joined by processor)
//!  scopes    data points  prices   dataframes
//!                                     ↑
//!  state database below: scopes'      api beside: reads storage and state
//!  last periods, rules, modules
//! ```
//!
//! `docs/ARCHITECTURE.md` has the long form; `tests/it/layering.rs` checks
//! which module may use which.

pub mod api;
pub mod cli;
pub mod collector;
pub mod config;
pub mod dataframe;
pub mod decimal;
pub mod fetcher;
pub mod http;
pub mod instruments;
pub mod keystone;
pub mod lock;
pub mod policy;
pub mod processor;
pub mod prometheus;
pub mod rating;
pub mod schedule;
pub mod shutdown;
pub mod state;
pub mod storage;
pub mod supervisor;
pub mod telemetry;
pub mod text;
pub mod time;
pub mod watch;
