//! What a write of dataframes does to the state, in the same transaction.
//!
//! Every storage keeps in the state database what counts: the dataframes
//! themselves, or where they are. So one transaction can make a period count and
//! move its scope, and nobody sees, nor a kill leaves, the one without the other.
//! It ends with nothing if the scope does not stand where it stood when the
//! period was chosen, whoever moved it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ConnectionTrait;

use super::{
    Context, StateError, Transaction, date_value, for_update, periods,
    reprocessing::{self, Reprocessing},
    resets,
    scopes::{self, NewScope, ScopeKeys, ScopeState},
    statement,
};
use crate::time::Period;

/// What happens to a scope beside the write of its dataframes.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Its state stays as it is.
    Stay {
        /// The scope.
        scope_id: &'a str,
    },
    /// The processor has rated the period after the last one.
    Advance {
        /// The scope.
        scope_id: &'a str,
        /// What tells it from others of that name.
        keys: &'a ScopeKeys,
        /// The row by which the period was chosen; `None` if there was none.
        known: Option<&'a ScopeState>,
        /// Begin of the period.
        begin: DateTime<Utc>,
        /// Length of the period, in seconds.
        seconds: i64,
        /// The present: activation date of a scope that is new.
        now: DateTime<Utc>,
    },
    /// Someone sends it back; it is rated again from the period after `last`.
    Reset {
        /// Its row.
        scope: &'a ScopeState,
        /// Begin of the last period that stays.
        last: DateTime<Utc>,
        /// What asked for it, which is then done.
        request: Option<i64>,
    },
    /// A period is rated again.
    Reprocess {
        /// What is being done.
        schedule: &'a Reprocessing,
        /// What tells its scope from others of that name.
        keys: &'a ScopeKeys,
        /// The period, which may have a length that periods do not have any more.
        period: Period,
        /// Length of periods, in seconds.
        seconds: i64,
    },
}

impl Step<'_> {
    /// Who writes: the collector. One scope may be rated by several, each from its own
    /// source; what one writes takes the place of its own only.
    pub(crate) fn writer(&self) -> String {
        match self {
            Self::Stay { .. } => String::new(),
            Self::Advance { keys, .. } | Self::Reprocess { keys, .. } => keys.writer(),
            Self::Reset { scope, .. } => scope.collector.clone().unwrap_or_default(),
        }
    }

    /// Takes the step, after a check of its own.
    pub(crate) async fn take(&self, transaction: &Transaction) -> Result<(), StateError> {
        Self::take_all(transaction, std::slice::from_ref(self)).await
    }

    /// [`Self::check_all`] of a step that does not advance.
    async fn check(&self, transaction: &Transaction) -> Result<(), StateError> {
        match self {
            Self::Advance { .. } => Ok(()),
            Self::Stay { scope_id } => scopes::lock(transaction, scope_id).await,
            Self::Reset { scope, request, .. } => {
                let is_there = scopes::locked(transaction, scope.id).await?.is_some();
                let is_asked = match request {
                    Some(id) => resets::is_pending(transaction, *id).await?,
                    None => true,
                };
                match is_there && is_asked {
                    true => Ok(()),
                    false => Err(StateError::Moved(scope.identifier.clone())),
                }
            }
            Self::Reprocess { schedule, keys, period, seconds } => {
                let (scope_id, lock) = (&schedule.scope_id, for_update(transaction));
                let scope = scopes::find(transaction, scope_id, keys, lock).await?;
                // What is not rated yet, or not any more, is the processor's.
                if scope.is_none_or(|scope| scope.last_processed < period.begin) {
                    return Err(StateError::Moved(scope_id.clone()));
                }
                let present = reprocessing::locked(transaction, schedule.id).await?;
                if present.is_none_or(|present| present.current != schedule.current) {
                    let scope_id = schedule.scope_id.clone();
                    return Err(StateError::Rescheduled { id: schedule.id, scope_id });
                }
                periods::verify(transaction, keys, *seconds).await
            }
        }
    }

    /// [`Self::take_all`] of a step that does not advance.
    async fn take_checked(&self, transaction: &Transaction) -> Result<(), StateError> {
        match self {
            Self::Stay { .. } | Self::Advance { .. } => Ok(()),
            Self::Reset { scope, last, request } => {
                if let Some(id) = request {
                    resets::done(transaction, *id).await?;
                }
                scopes::move_to(transaction, scope.id, *last).await
            }
            Self::Reprocess { schedule, period, seconds, .. } => {
                // The begin of the last period that is done, as if all had this length.
                let done = period.end - TimeDelta::seconds(*seconds);
                // A row whose current time has come to its end is finished; where the
                // scope's periods begin, no other may begin before it.
                let current = if period.end > schedule.end { schedule.end.max(done) } else { done };
                let sql = "UPDATE storage_scope_reprocessing_schedule \
                           SET current_reprocess_time = ? WHERE id = ?";
                let values = [date_value(transaction, current.naive_utc()), schedule.id.into()];
                let update = statement(transaction, sql, values);
                transaction.execute_raw(update).await.to("note how far reprocessing is")?;
                Ok(())
            }
        }
    }

    /// Sees to it that steps of different scopes can be taken, and that nobody else takes
    /// one with these before the transaction ends. Those that advance, which there
    /// may be hundreds of, are looked at together.
    pub(crate) async fn check_all(
        transaction: &Transaction,
        steps: &[Self],
    ) -> Result<(), StateError> {
        let known = steps.iter().filter_map(|step| match step {
            Self::Advance { known, .. } => known.map(|known| known.id),
            _ => None,
        });
        let locked = scopes::all_locked(transaction, known.collect()).await?;
        // Scopes that are new, by what they and their periods have in common.
        let mut kinds: Vec<(&ScopeKeys, i64, Vec<&str>)> = Vec::new();
        for step in steps {
            let Self::Advance { scope_id, keys, known, seconds, .. } = step else {
                step.check(transaction).await?;
                continue;
            };
            if !kinds.iter().any(|kind| (kind.0, kind.1) == (*keys, *seconds)) {
                kinds.push((*keys, *seconds, Vec::new()));
            }
            let Some(known) = known else {
                let kind = kinds.iter_mut().find(|kind| (kind.0, kind.1) == (*keys, *seconds));
                kind.into_iter().for_each(|(.., new)| new.push(*scope_id));
                continue;
            };
            // A row without keys may have become another processor's meanwhile.
            let stands = locked.get(&known.id).is_some_and(|present| {
                present.last_processed == known.last_processed && present.has(keys)
            });
            if !stands {
                return Err(StateError::Moved((*scope_id).to_owned()));
            }
        }
        for (keys, seconds, new) in kinds {
            periods::verify(transaction, keys, seconds).await?;
            // Who adds one of these names from now on makes ours a duplicate.
            if scopes::named(transaction, &new, keys).await?.is_empty() {
                continue;
            }
            for scope_id in new {
                if scopes::find(transaction, scope_id, keys, "").await?.is_some() {
                    return Err(StateError::Moved(scope_id.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Takes steps of different scopes, after a [`Self::check_all`] of its own.
    pub(crate) async fn take_all(
        transaction: &Transaction,
        steps: &[Self],
    ) -> Result<(), StateError> {
        Self::check_all(transaction, steps).await?;
        let mut moves: BTreeMap<DateTime<Utc>, Vec<i64>> = BTreeMap::new();
        let mut new = Vec::new();
        for step in steps {
            match step {
                Self::Advance { known: Some(known), begin, .. } => {
                    moves.entry(*begin).or_default().push(known.id);
                }
                Self::Advance { scope_id: identifier, keys, known: None, begin, now, .. } => {
                    new.push(NewScope { identifier, keys, begin: *begin, now: *now });
                }
                _ => step.take_checked(transaction).await?,
            }
        }
        for (begin, ids) in moves {
            scopes::move_all_to(transaction, &ids, begin).await?;
        }
        scopes::add_all(transaction, &new).await
    }
}
