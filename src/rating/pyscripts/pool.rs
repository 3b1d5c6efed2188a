//! Workers: processes that are started when they are needed, used again, and
//! ended when they are of no more use, which is when a script fails.

use std::{
    collections::HashSet,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Semaphore,
    time::timeout,
};
use tracing::{info, warn};

use super::{
    ScriptError, Settings,
    protocol::{HEAD, Told, names, read_answer, read_head, request},
};
use crate::{dataframe::DataFrame, state::scripts::ScriptRow};

/// Longest answer of a worker: what it is given may grow so many times, beside
/// a room of its own.
const GROWTH: usize = 16;
const ROOM: usize = 1 << 20;

/// Time for a worker to start.
const START: Duration = Duration::from_secs(30);
/// Time for a worker that is told to end.
const END: Duration = Duration::from_secs(1);

/// What a worker says when it is ready.
const READY: [u8; 4] = *b"well";

/// A worker.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// Names and checksums of the scripts that it has.
    known: HashSet<(String, String)>,
    /// Which of the scripts it was asked for runs.
    running: usize,
}

/// The workers of a processor.
pub struct Workers {
    settings: Settings,
    idle: Mutex<Vec<Worker>>,
    at_once: Semaphore,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Workers({:?})", self.settings)
    }
}

impl Workers {
    /// Workers that run as `settings` say; none is started yet.
    pub fn new(settings: Settings) -> Arc<Self> {
        let at_once = Semaphore::new(settings.workers.max(1));
        Arc::new(Self { settings, idle: Mutex::default(), at_once })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Worker>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that waits for work, and has not ended by itself.
    fn take_idle(&self) -> Option<Worker> {
        let mut idle = self.idle();
        while let Some(mut worker) = idle.pop() {
            if matches!(worker.child.try_wait(), Ok(None)) {
                return Some(worker);
            }
        }
        None
    }

    /// Runs scripts over a frame, and gives what they made of it.
    ///
    /// # Errors
    /// [`ScriptError`]; then the worker is ended.
    pub(super) async fn run(
        &self,
        scripts: &[ScriptRow],
        frame: &DataFrame,
    ) -> Result<DataFrame, ScriptError> {
        let _turn = self.at_once.acquire().await;
        let mut worker = match self.take_idle() {
            Some(worker) => worker,
            None => self.start().await?,
        };
        let limit = self.settings.timeout;
        // A worker that is dropped on the way, by an error or a stop, is killed, and
        // what it has running with it.
        let told = timeout(limit, worker.ask(scripts, frame)).await;
        let text = match told {
            Ok(answer) => answer?,
            Err(_) => {
                let script = worker.script(scripts);
                return Err(ScriptError::Timeout { script, limit });
            }
        };
        let answered = read_answer(&text, scripts, frame)?;
        if !answered.printed.is_empty() {
            info!("Python scripts printed: {}", answered.printed.trim_end());
        }
        if answered.frame.is_ok() {
            self.idle().push(worker);
        }
        answered.frame
    }

    /// Starts a worker and ends it again, to see that it can be done.
    ///
    /// # Errors
    /// [`ScriptError::Start`]
    pub async fn probe(&self) -> Result<(), ScriptError> {
        self.start().await.map(|_| ())
    }

    async fn start(&self) -> Result<Worker, ScriptError> {
        let told = |error: std::io::Error| ScriptError::Start(error.to_string());
        let program = match &self.settings.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(told)?,
        };
        let mut command = Command::new(program);
        command
            .arg("pyscripts-worker")
            .arg(&self.settings.python)
            .arg(self.settings.memory.to_string())
            // Nothing of this process' surroundings is the scripts' business.
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TZ", std::env::var_os("TZ").unwrap_or_default())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        if std::env::var_os("TZ").is_none() {
            command.env_remove("TZ");
        }
        let mut child = command.spawn().map_err(told)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(ScriptError::Start("it has no pipes".to_owned()));
        };
        let mut worker = Worker { child, input, output, known: HashSet::new(), running: 0 };
        let mut said = [0; 4];
        match timeout(START, worker.output.read_exact(&mut said)).await {
            Ok(Ok(_)) if said == READY => Ok(worker),
            Ok(Ok(_)) => {
                Err(ScriptError::Start(format!("`{}` is no CPython 3", self.settings.python)))
            }
            Ok(Err(error)) => {
                let how = worker.end(&error).await;
                Err(ScriptError::Start(format!("`{}` ended ({how})", self.settings.python)))
            }
            Err(_) => Err(ScriptError::Start("it does not answer".to_owned())),
        }
    }
}

impl Worker {
    /// The name of the script that runs.
    fn script(&self, scripts: &[ScriptRow]) -> String {
        names(scripts.get(self.running..=self.running).unwrap_or(scripts))
    }

    async fn ask(
        &mut self,
        scripts: &[ScriptRow],
        frame: &DataFrame,
    ) -> Result<Vec<u8>, ScriptError> {
        self.running = 0;
        let mark = rand::random();
        let question = request(mark, scripts, frame, &mut self.known)?;
        let longest = question.len().saturating_mul(GROWTH).saturating_add(ROOM);
        // It reads the whole question before it tells anything.
        let said = async {
            self.input.write_all(&question).await?;
            self.input.flush().await
        };
        if let Err(error) = said.await {
            return Err(self.ended(scripts, &error).await);
        }
        loop {
            let mut head = [0; HEAD];
            if let Err(error) = self.output.read_exact(&mut head).await {
                return Err(self.ended(scripts, &error).await);
            }
            let bad = |problem: String| ScriptError::Answer { script: names(scripts), problem };
            let Some((told, length)) = read_head(head, mark) else {
                return Err(bad("it is not of the form that was agreed".to_owned()));
            };
            if length > longest {
                return Err(bad(format!("{length} bytes, where {longest} are allowed")));
            }
            let mut body = vec![0; length];
            if let Err(error) = self.output.read_exact(&mut body).await {
                return Err(self.ended(scripts, &error).await);
            }
            match told {
                Told::Begins => {
                    let at = body.try_into().map_or(0, u32::from_be_bytes);
                    self.running = usize::try_from(at).unwrap_or_default();
                }
                Told::Answer => return Ok(body),
                Told::Ended => {
                    let how = String::from_utf8_lossy(&body).into_owned();
                    return Err(ScriptError::Ended { script: self.script(scripts), how });
                }
            }
        }
    }

    /// That it ended by itself, while it was asked for something.
    async fn ended(&mut self, scripts: &[ScriptRow], error: &std::io::Error) -> ScriptError {
        let script = self.script(scripts);
        ScriptError::Ended { script, how: self.end(error).await }
    }

    /// How it ended, after its pipes are closed.
    async fn end(&mut self, error: &std::io::Error) -> String {
        match timeout(END, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            _ => {
                warn!("A worker of the Python scripts does not end by itself");
                error.to_string()
            }
        }
    }
}
