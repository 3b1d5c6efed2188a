//! Logging: to standard output, standard error or a file, in oslo.log's line
//! format or as JSON.
//!
//! ```text
//! 2026-11-22 05:03:02.844 15062 INFO ratekitty::processor [-] Finished a cycle: ...
//! ```
//!
//! The message reads alone; fields are for JSON, where they stand beside it.

use std::{
    fmt::{self, Write as _},
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Map, Value, json};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt,
    registry::{Extensions, LookupSpan},
    util::SubscriberInitExt,
};

use crate::{config::sections::default::Default as Section, time::log_time};

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output, as the reference does without a log file.
    Stdout,
    /// Standard error: for commands whose output is the answer.
    Stderr,
    /// A file, opened anew when it was moved away.
    File(PathBuf),
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("cannot write log file `{path}`: {source}; check [DEFAULT] log_file and log_dir")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Begins to log. May be called once; later calls change nothing.
///
/// # Errors
/// A log file that cannot be written.
pub fn start(section: &Section, target: &Target, least: Level) -> Result<(), LogError> {
    let level = if section.debug { Level::DEBUG } else { least };
    // Libraries at debug level drown what an operator looks for.
    let filter = EnvFilter::new(format!("warn,ratekitty={level}"));
    let format = Format { json: section.use_json, date: section.log_date_format.clone() };
    let sink = Sink::open(target)?;
    let also_stderr = section.use_stderr && *target != Target::Stderr;
    let layer = tracing_subscriber::fmt::layer()
        .event_format(format.clone())
        .with_ansi(false)
        .with_writer(sink);
    let stderr = also_stderr.then(|| {
        tracing_subscriber::fmt::layer()
            .event_format(format)
            .with_ansi(false)
            .with_writer(io::stderr)
    });
    let _ = tracing_subscriber::registry().with(filter).with(layer).with(stderr).try_init();
    Ok(())
}

/// A place for lines.
#[derive(Clone)]
enum Sink {
    Stdout,
    Stderr,
    File(Arc<Mutex<WatchedFile>>),
}

impl Sink {
    fn open(target: &Target) -> Result<Self, LogError> {
        Ok(match target {
            Target::Stdout => Self::Stdout,
            Target::Stderr => Self::Stderr,
            Target::File(path) => {
                let file = WatchedFile::open(path)
                    .map_err(|source| LogError::Open { path: path.clone(), source })?;
                Self::File(Arc::new(Mutex::new(file)))
            }
        })
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Box<dyn Write + 'a>;

    fn make_writer(&'a self) -> Self::Writer {
        match self {
            Self::Stdout => Box::new(io::stdout()),
            Self::Stderr => Box::new(io::stderr()),
            Self::File(file) => Box::new(FileWriter(file)),
        }
    }
}

/// A log file that log rotation may move away.
struct WatchedFile {
    path: PathBuf,
    file: File,
    /// Device and inode of the open file.
    identity: (u64, u64),
}

impl WatchedFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let metadata = file.metadata()?;
        Ok(Self { path: path.to_owned(), file, identity: (metadata.dev(), metadata.ino()) })
    }

    fn reopen_if_moved(&mut self) {
        let now = std::fs::metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()));
        if now.ok() != Some(self.identity)
            && let Ok(file) = Self::open(&self.path)
        {
            *self = file;
        }
    }
}

struct FileWriter<'a>(&'a Mutex<WatchedFile>);

impl Write for FileWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.reopen_if_moved();
        watched.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).file.flush()
    }
}

#[derive(Debug, Clone)]
struct Format {
    json: bool,
    date: String,
}

/// Message and fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => drop(self.others.insert(name.to_owned(), Value::String(text))),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.others.insert(field.name().to_owned(), json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.insert(field.name().to_owned(), json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.insert(field.name().to_owned(), json!(value));
    }
}

/// oslo.log's names of the levels.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

/// The id of a request's span.
fn request_id(extensions: &Extensions<'_>) -> Option<String> {
    let fields = extensions.get::<FormattedFields<DefaultFields>>()?;
    Some(fields.fields.trim_start_matches("id=").to_owned())
}

impl<S> FormatEvent<S, DefaultFields> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    DefaultFields: for<'a> FormatFields<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = level_name(*event.metadata().level());
        let name = event.metadata().target();
        let (date, millis) = log_time(&self.date);
        // The only spans that are opened name requests: `id=req-...`.
        let request = context
            .event_scope()
            .and_then(|scope| scope.from_root().find_map(|span| request_id(&span.extensions())));
        if self.json {
            let mut line = Map::new();
            line.insert("asctime".into(), json!(format!("{date}.{millis:03}")));
            line.insert("levelname".into(), json!(level));
            line.insert("name".into(), json!(name));
            line.insert("process".into(), json!(std::process::id()));
            line.insert("request_id".into(), json!(request));
            line.insert("message".into(), json!(fields.message));
            line.extend(fields.others);
            return writeln!(writer, "{}", Value::Object(line));
        }
        let request = request.as_deref().unwrap_or("-");
        // A line break in a message would make a log line of whatever a peer sent.
        let mut message = String::with_capacity(fields.message.len());
        for c in fields.message.chars() {
            match c {
                '\n' => message.push_str("\\n"),
                '\r' => message.push_str("\\r"),
                c if c.is_control() && c != '\t' => write!(message, "\\x{:02x}", u32::from(c))?,
                c => message.push(c),
            }
        }
        writeln!(
            writer,
            "{date}.{millis:03} {} {level} {name} [{request}] {message}",
            std::process::id()
        )
    }
}
