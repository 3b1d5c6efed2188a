//! Work in turns: what takes long gives way to what waits.
//!
//! Each task (a scope, a reprocessing) gets a turn, in the order in which they
//! stand, and goes to the end of the queue if there is more of it. So a scope
//! that is months behind and one that is an hour behind both go on, whatever the
//! number of workers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::task::AbortOnDropHandle;
use tracing::error;

/// What became of a turn.
pub(super) enum Turn<T> {
    /// Nothing is left to do.
    Done,
    /// There is more, later.
    More(T),
    /// Nothing more can be done now, by any task.
    Halt,
}

struct Queue<T>(Mutex<VecDeque<T>>);

impl<T> Queue<T> {
    fn tasks(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<T> {
        self.tasks().pop_front()
    }
}

/// Takes turns with all tasks until nothing is left, `workers` at a time.
/// `goes_on` tells whether a task that has more gets another turn. Gives the
/// number of workers that ended early, each with the task that it was at.
pub(super) async fn work_off<T, F>(
    tasks: Vec<T>,
    workers: usize,
    turn: impl Fn(T) -> F + Clone + Send + 'static,
    goes_on: impl Fn() -> bool + Clone + Send + 'static,
) -> usize
where
    T: Send + 'static,
    F: Future<Output = Turn<T>> + Send,
{
    let workers = workers.min(tasks.len());
    let queue = Arc::new(Queue(Mutex::new(tasks.into())));
    // A task of the runtime each, so that they use more than one core.
    let handles: Vec<_> = (0..workers)
        .map(|_| {
            let (queue, turn, goes_on) = (queue.clone(), turn.clone(), goes_on.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                while let Some(task) = queue.next() {
                    match turn(task).await {
                        Turn::Done => {}
                        Turn::More(task) if goes_on() => queue.tasks().push_back(task),
                        Turn::More(_) => {}
                        Turn::Halt => queue.tasks().clear(),
                    }
                }
            }))
        })
        .collect();
    let mut ended_early = 0;
    for handle in handles {
        if let Err(error) = handle.await {
            error!("A worker ended early: {error}");
            ended_early += 1;
        }
    }
    ended_early
}
