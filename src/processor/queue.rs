//! Work in turns: what takes long gives way to what waits.
//!
//! Each task (some scopes, a reprocessing) gets a turn, in the order in which they
//! stand, and goes to the end of the queue if there is more of it. So a scope
//! that is months behind and one that is an hour behind both go on, whatever the
//! number of workers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing::error;

/// What became of a turn.
pub(super) enum Turn<T> {
    /// What is left to do, later.
    Left {
        /// What has not had a turn yet.
        fresh: Vec<T>,
        /// What has had one.
        again: Vec<T>,
    },
    /// Nothing more can be done now, by any task.
    Halt,
}

impl<T> Turn<T> {
    /// Nothing is left to do.
    pub const DONE: Self = Self::Left { fresh: Vec::new(), again: Vec::new() };

    /// There is more of a task.
    pub fn more(task: T) -> Self {
        Self::Left { fresh: Vec::new(), again: vec![task] }
    }
}

struct Tasks<T> {
    waiting: VecDeque<T>,
    /// Tasks that have their turn now.
    running: usize,
}

struct Queue<T> {
    tasks: Mutex<Tasks<T>>,
    changed: Notify,
}

impl<T> Queue<T> {
    fn tasks(&self) -> MutexGuard<'_, Tasks<T>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next task. Waits for what those that run may leave; `None` when there is
    /// nothing left.
    async fn next(&self) -> Option<T> {
        loop {
            let changed = self.changed.notified();
            {
                let mut tasks = self.tasks();
                if let Some(task) = tasks.waiting.pop_front() {
                    tasks.running += 1;
                    return Some(task);
                }
                if tasks.running == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }
}

/// The turn of a task, which ends when this is dropped, however that comes.
struct Running<'a, T>(&'a Queue<T>);

impl<T> Drop for Running<'_, T> {
    fn drop(&mut self) {
        self.0.tasks().running -= 1;
        self.0.changed.notify_waiters();
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
    let tasks = Mutex::new(Tasks { waiting: tasks.into(), running: 0 });
    let queue = Arc::new(Queue { tasks, changed: Notify::new() });
    // A task of the runtime each, so that they use more than one core.
    let handles: Vec<_> = (0..workers)
        .map(|_| {
            let (queue, turn, goes_on) = (queue.clone(), turn.clone(), goes_on.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                while let Some(task) = queue.next().await {
                    let running = Running(&*queue);
                    match turn(task).await {
                        Turn::Left { fresh, again } => {
                            let goes_on = again.is_empty() || goes_on();
                            let mut tasks = queue.tasks();
                            tasks.waiting.extend(fresh);
                            if goes_on {
                                tasks.waiting.extend(again);
                            }
                        }
                        Turn::Halt => queue.tasks().waiting.clear(),
                    }
                    drop(running);
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

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn workers_wait_for_what_a_task_leaves() {
        let most = Arc::new(AtomicUsize::new(0));
        let now = Arc::new(AtomicUsize::new(0));
        let seen = most.clone();
        // One task, which falls apart into ten.
        let turn = move |size: usize| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                match size {
                    10 => Turn::Left { fresh: vec![1; 10], again: Vec::new() },
                    _ => Turn::DONE,
                }
            }
        };
        assert_eq!(work_off(vec![10], 4, turn, || true).await, 0);
        assert_eq!(seen.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn a_worker_that_ends_early_keeps_nobody_waiting() {
        let turn = |number: usize| async move {
            assert_ne!(number, 0, "as planned");
            Turn::DONE
        };
        let work = work_off(vec![0, 1, 2], 2, turn, || true);
        assert_eq!(tokio::time::timeout(Duration::from_secs(5), work).await, Ok(1));
    }

    #[tokio::test]
    async fn what_had_no_turn_gets_one_when_nothing_goes_on() {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = turns.clone();
        let turn = move |number: usize| {
            turns.fetch_add(1, Ordering::SeqCst);
            async move {
                match number {
                    0 => Turn::Left { fresh: vec![1, 1], again: vec![2] },
                    _ => Turn::more(2),
                }
            }
        };
        work_off(vec![0], 1, turn, || false).await;
        assert_eq!(counted.load(Ordering::SeqCst), 3);
    }
}
