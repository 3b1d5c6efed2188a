//! Workers: processes that are started when they are needed, used again, and
//! ended when they are of no more use.

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
    protocol::{read_answer, request},
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
    scripts: HashSet<(String, String)>,
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

    /// Runs scripts over a frame, and gives what they made of it.
    ///
    /// # Errors
    /// [`ScriptError`]; then the worker is ended, unless it was a script alone
    /// that failed.
    pub(super) async fn run(
        &self,
        scripts: &[ScriptRow],
        frame: &DataFrame,
    ) -> Result<DataFrame, ScriptError> {
        let _turn = self.at_once.acquire().await;
        let idle = self.idle().pop();
        let mut worker = match idle {
            Some(worker) => worker,
            None => self.start().await?,
        };
        let limit = self.settings.timeout;
        // A worker that is dropped on the way, by an error or a stop, is killed.
        let text = match timeout(limit, worker.ask(scripts, frame)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(ScriptError::Timeout(limit)),
        };
        let answered = read_answer(&text, frame)?;
        if !answered.printed.is_empty() {
            info!("Python scripts printed: {}", answered.printed.trim_end());
        }
        // One that had to give up may have little left.
        let is_well = !matches!(&answered.frame, Err(ScriptError::Failed { error, .. }) if error == "out of memory");
        if is_well {
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
        let mut worker = Worker { child, input, output, scripts: HashSet::new() };
        let mut said = [0; 4];
        match timeout(START, worker.output.read_exact(&mut said)).await {
            Ok(Ok(_)) if said == READY => Ok(worker),
            Ok(Ok(_)) => {
                Err(ScriptError::Start(format!("`{}` is no CPython 3", self.settings.python)))
            }
            Ok(Err(error)) => {
                let ScriptError::Ended(how) = worker.ended(&error).await else {
                    return Err(told(error));
                };
                Err(ScriptError::Start(format!("`{}` ended ({how})", self.settings.python)))
            }
            Err(_) => Err(ScriptError::Start("it does not answer".to_owned())),
        }
    }
}

impl Worker {
    async fn ask(
        &mut self,
        scripts: &[ScriptRow],
        frame: &DataFrame,
    ) -> Result<Vec<u8>, ScriptError> {
        let question = request(scripts, frame, &mut self.scripts)?;
        let longest = question.len().saturating_mul(GROWTH).saturating_add(ROOM);
        let (input, output) = (&mut self.input, &mut self.output);
        // It reads the whole question before it answers.
        let told = async {
            input.write_all(&question).await?;
            input.flush().await?;
            let mut head = [0; 4];
            output.read_exact(&mut head).await?;
            Ok::<_, std::io::Error>(u32::from_be_bytes(head))
        };
        let length = match told.await {
            Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Err(error) => return Err(self.ended(&error).await),
        };
        if length > longest {
            return Err(ScriptError::Answer(format!(
                "{length} bytes, where {longest} are allowed"
            )));
        }
        let mut answer = vec![0; length];
        match self.output.read_exact(&mut answer).await {
            Ok(_) => Ok(answer),
            Err(error) => Err(self.ended(&error).await),
        }
    }

    async fn ended(&mut self, error: &std::io::Error) -> ScriptError {
        let status = timeout(END, self.child.wait()).await;
        match status {
            Ok(Ok(status)) => ScriptError::Ended(status.to_string()),
            _ => {
                warn!("A worker of the Python scripts does not end by itself");
                ScriptError::Ended(error.to_string())
            }
        }
    }
}
