//! `ratekitty summary`: a table of costs, straight from the storage.

use std::process::ExitCode;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;
use serde_json::Value;

use super::{answer, wiring};
use crate::{
    config::Config,
    dataframe::python_str,
    decimal::{Decimal, Total},
    storage::{self, GroupKey, Page, Selection},
    time::{Clock, RealClock, isoformat, month_of},
};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to add up by: type, time, or labels, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "type")]
    groupby: Vec<String>,
    /// First begin of a period, such as 2026-11-01, in UTC, or 2026-11-01T00:00:00Z; the present month when left out
    #[arg(long, value_parser = date)]
    begin: Option<DateTime<Utc>>,
    /// First begin of a period that does not count; the next month when left out
    #[arg(long, value_parser = date)]
    end: Option<DateTime<Utc>>,
}

/// A date and time, or the begin of a day in UTC.
fn date(text: &str) -> Result<DateTime<Utc>, chrono::ParseError> {
    match text.parse::<NaiveDate>() {
        Ok(day) => Ok(day.and_time(NaiveTime::MIN).and_utc()),
        Err(_) => text.parse(),
    }
}

/// Runs the command.
pub(super) async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let database = wiring::database(config).await?;
    let storage = storage::build(config, &database, &wiring::clock())?;
    let (first, next) = month_of(RealClock.now());
    let selection = Selection::all(arguments.begin.unwrap_or(first), arguments.end.unwrap_or(next));
    let groupby = arguments.groupby.iter().map(|element| GroupKey::parse(element));
    let groupby = groupby.collect::<Result<Vec<_>, _>>()?;
    let totals = storage.total(&selection, &groupby, Page::ALL).await?;

    let mut table = Table::default();
    let by_time = groupby.contains(&GroupKey::Time);
    let mut head: Vec<String> = Vec::new();
    if by_time {
        head.push("begin".to_owned());
    }
    head.extend(groupby.iter().filter_map(|key| key.column().map(str::to_owned)));
    head.extend(["quantity", "cost"].map(str::to_owned));
    table.rows.push(head);
    let mut cost = Total::default();
    for row in &totals.rows {
        let mut cells: Vec<String> = Vec::new();
        cells.extend(row.period.map(|period| isoformat(period.begin)));
        cells.extend(row.values.iter().map(show));
        cells.extend([rounded(row.qty), rounded(row.price)]);
        cost.add(row.price);
        table.rows.push(cells);
    }
    let columns = table.rows[0].len();
    let mut sum = vec![String::new(); columns];
    sum[0] = "total".to_owned();
    sum[columns - 1] = rounded(cost.value());
    table.rows.push(sum);
    answer(table)?;
    Ok(ExitCode::SUCCESS)
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        // What a label holds must not reach the terminal as more than text.
        value => python_str(value).chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
    }
}

/// Five decimals, as bills have them in the reference's reports.
fn rounded(value: Decimal) -> String {
    value.quantize(5).to_plain_string()
}

/// Text in columns, the last two of which are numbers.
#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let last = self.rows.len().saturating_sub(1);
        for (at, row) in self.rows.iter().enumerate() {
            if at == 1 || at == last {
                writeln!(f, "{}", rule.join("  "))?;
            }
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| {
                    if column + 2 >= columns {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                })
                .collect();
            let line = cells.join("  ");
            let end = if at == last { "" } else { "\n" };
            write!(f, "{}{end}", line.trim_end())?;
        }
        Ok(())
    }
}
