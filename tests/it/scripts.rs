//! The pyscripts module: the reference's results, and scripts that do what they
//! should not.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::NaiveDateTime;
use ratekitty::{
    dataframe::{DataFrame, DataPoint},
    rating::{
        RatingError, RatingModule,
        pricelist::PriceList,
        pyscripts::{Scripts, Settings, Workers},
    },
    state::{
        audit::Audit,
        modules::{self, ModuleState},
        rating_rules::new_id,
        scripts::{self, ScriptRow},
    },
    time::{Period, seconds},
};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use crate::{
    fixture,
    processors::set_price,
    support::{Cloud, Db, TestApp, cloud, set_up, until},
};

const NOW: &str = "2026-11-01T11:00:00Z";
const START: i64 = 1_793_491_200;

async fn enable(app: &TestApp, name: &str, enabled: bool, priority: i32) {
    let module = ModuleState { name: name.into(), enabled, priority };
    modules::set(app.database.connection(), &module).await.unwrap();
}

/// An app in which these scripts, and no other module, set prices.
async fn app(conf: &str, texts: &[&str]) -> TestApp {
    let app = TestApp::with_prometheus(NOW, "http://127.0.0.1:1", conf, cloud::METRICS).await;
    set_scripts(&app, texts).await;
    enable(&app, "pyscripts", true, 1).await;
    app
}

async fn set_scripts(app: &TestApp, texts: &[&str]) {
    let connection = app.database.connection();
    connection.execute_unprepared("DELETE FROM pyscripts_scripts").await.unwrap();
    let past = seconds(0).naive_utc();
    for (at, text) in texts.iter().enumerate() {
        let audit = Audit::new(format!("script {at}"), None, (past, None), ("test", past));
        scripts::add(connection, &new_id(), text.as_bytes(), &audit).await.unwrap();
    }
}

fn frame(usage: &Value) -> DataFrame {
    frame_at(START, usage)
}

fn frame_at(begin: i64, usage: &Value) -> DataFrame {
    let mut frame = DataFrame::new(Period::starting(seconds(begin), 3_600));
    for (frame_type, points) in usage.as_object().unwrap() {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let point = |point: &Value| DataPoint {
            unit: text(&point[0]).into(),
            qty: text(&point[1]).parse().unwrap(),
            price: text(&point[2]).parse().unwrap(),
            groupby: point[3].as_object().unwrap().clone().into(),
            metadata: point[4].as_object().unwrap().clone().into(),
        };
        frame.add(frame_type, points.as_array().unwrap().iter().map(point));
    }
    frame
}

fn usage_of(frame: &DataFrame) -> Value {
    let point = |point: &DataPoint| {
        json!([
            &*point.unit,
            point.qty.to_string(),
            point.price.to_string(),
            point.groupby,
            point.metadata
        ])
    };
    let usage = frame.usage.iter();
    let usage = usage.map(|(name, points)| (name.clone(), points.iter().map(point).collect()));
    Value::Object(usage.collect())
}

fn given() -> Value {
    json!({
        "instance": [
            ["instance", "1.50", "0", {"id": "a", "project_id": "p"}, {"flavor": "m1"}],
            ["instance", "2", "0.1", {"id": "b", "project_id": "p"}, {"flavor": "é\"\\\n😀"}],
        ],
        "volume": [["GiB", "1E+3", "0E-10", {"id": "c"}, {}]],
    })
}

async fn rate(app: &TestApp, usage: &Value) -> Result<Value, RatingError> {
    let at = seconds(START).naive_utc();
    let rater = app.pipeline().rater.scope("p", at, None).await?;
    let mut frame = frame(usage);
    rater.rate(&mut frame).await?;
    Ok(usage_of(&frame))
}

/// Runs scripts in workers that other frames have used, too.
async fn run(workers: &Arc<Workers>, scripts: &[&str], begin: i64) -> Result<Value, RatingError> {
    let past = seconds(0).naive_utc();
    let row = |(at, text): (usize, &&str)| ScriptRow {
        id: 0,
        script_id: String::new(),
        data: text.as_bytes().to_vec(),
        checksum: (*text).to_owned(),
        audit: Audit::new(format!("script {at}"), None, (past, None), ("test", past)),
    };
    let rows: Vec<_> = scripts.iter().enumerate().map(row).collect();
    let mut frame = frame_at(begin, &given());
    Scripts::at(workers.clone(), &rows, past).rate(&mut frame).await?;
    Ok(usage_of(&frame))
}

/// What the reference makes of cases.
fn reference(cases: &[Value]) -> Vec<Value> {
    let python = PathBuf::from(set_up("RATEKITTY_CLOUDKITTY")).join("bin/python");
    let mut reference = Command::new(python)
        .arg(fixture("pyscripts/reference.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = reference.stdin.take().unwrap();
    for case in cases {
        writeln!(stdin, "{case}").unwrap();
    }
    drop(stdin);
    let output = reference.wait_with_output().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> =
        answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), cases.len());
    answers
}

fn case(scripts: &[&str], begin: i64) -> Value {
    json!({ "scripts": scripts, "begin": begin, "end": begin + 3_600, "usage": given() })
}

/// Scripts as operators write them, and odd ones.
const SCRIPTS: [&str; 33] = [
    "",
    "for points in data['usage'].values():\n  for p in points: p['rating']['price'] = p['vol']['qty'] * 2",
    "import decimal\nfor p in data['usage']['instance']: p['rating']['price'] += decimal.Decimal('0.1')",
    "for p in data['usage']['volume']: p['rating']['price'] = 0.1",
    "for p in data['usage']['volume']: p['rating']['price'] = 7",
    "for p in data['usage']['volume']: p['rating']['price'] = '2.50'",
    "for p in data['usage']['volume']: p['vol']['qty'] = 1.1; p['vol']['unit'] = ''",
    "data['usage'].pop('volume')",
    "data['usage']['new'] = [dict(data['usage']['volume'][0])]",
    "data['usage']['instance'].reverse()",
    "data['usage']['instance'] = data['usage']['instance'][:1]",
    "data['usage']['instance'] = data['usage']['instance'] * 3",
    "data = {'period': data['period'], 'usage': {}}",
    "for p in data['usage']['instance']: p['groupby']['more'] = 'x'; p['metadata'] = {}",
    "for p in data['usage']['instance']: p['metadata']['n'] = [1, None, {'a': 2.5}]",
    "for p in data['usage']['instance']: del p['rating']",
    "for p in data['usage']['instance']: p['groupby'] = dict(reversed(list(p['groupby'].items())))",
    "hours = (data['period']['end'] - data['period']['begin']).total_seconds() / 3600\nfor p in data['usage']['instance']: p['rating']['price'] = hours",
    "def f(p):\n  return p['vol']['qty'] / 3\nfor p in data['usage']['instance']: p['rating']['price'] = f(p)",
    "import math, re, json, collections, datetime, functools, itertools",
    "assert data['period']['begin'].year == 2026",
    "data['usage']['instance'][0]['rating']['price'] = None",
    "data['usage']['instance'][0]['rating']['price'] = 'x'",
    "data['usage']['instance'][0]['vol']['unit'] = 5",
    "data['usage']['instance'][0]['extra'] = 1",
    "data = None",
    "del data['usage']['instance'][0]['groupby']",
    // The reference's package, as its documentation has it in scripts.
    include_str!("../fixtures/pyscripts/by_service.py"),
    "import cloudkitty.rating\nassert issubclass(cloudkitty.rating.RatingProcessorBase, object)",
    // Numbers with more digits than are kept.
    "import decimal\nfor p in data['usage']['instance']: p['rating']['price'] = decimal.Decimal(0.65)",
    "import decimal\nfor p in data['usage']['instance']: p['vol']['qty'] = decimal.Decimal(-1e-7)",
    "import decimal\nfor p in data['usage']['instance']: p['rating']['price'] = decimal.Decimal('1' + 40 * '0' + '2.50')",
    "import decimal\nfor p in data['usage']['volume']: p['rating']['price'] = decimal.Decimal(60 * '9')",
];

#[tokio::test]
async fn scripts_give_what_the_reference_gives() {
    let mut cases: Vec<Vec<&str>> = SCRIPTS.iter().map(|text| vec![*text]).collect();
    // One after the other: what the first leaves behind is the next one's data.
    cases.extend((1..20).map(|at| vec![SCRIPTS[at], SCRIPTS[20 - at], SCRIPTS[1]]));
    cases.extend((27..33).map(|at| vec![SCRIPTS[at], SCRIPTS[2]]));
    let asked: Vec<_> = cases.iter().map(|scripts| case(scripts, START)).collect();
    let answers = reference(&asked);
    let app = app("", &[]).await;
    let (mut fine, mut failed) = (0, 0);
    for (scripts, theirs) in cases.iter().zip(&answers) {
        set_scripts(&app, scripts).await;
        match (rate(&app, &given()).await, &theirs["usage"]) {
            (Ok(ours), theirs) if theirs.is_object() => {
                // The reference keeps types without points, which nobody reads.
                let mut theirs = theirs.clone();
                theirs.as_object_mut().unwrap().retain(|_, points| points != &json!([]));
                assert_eq!(ours.to_string(), theirs.to_string(), "{scripts:?}");
                fine += 1;
            }
            (Err(RatingError::Scripts(_)), Value::Null) => failed += 1,
            (ours, theirs) => panic!("{scripts:?}: {ours:?}, {theirs}"),
        }
    }
    assert!(fine > 35 && failed > 5, "{fine}, {failed}");
}

/// In the zone of this process, around both changes of clocks of 2026 in Europe.
#[tokio::test]
async fn dates_are_those_of_the_reference() {
    let facts = "
import datetime
for name, date in data['period'].items():
    data['usage']['instance'][0]['metadata'][name] = [
        str(date), date.isoformat(), date.hour, date.fold, date.tzname(), str(date.utcoffset()),
        str(date.dst()), date.timestamp(), date.strftime('%a %Z %z'), date.timetuple().tm_isdst,
        (date + datetime.timedelta(days=1)).isoformat(), date.replace(hour=0).isoformat(),
        date.astimezone(datetime.timezone.utc).isoformat(),
    ]
";
    let begins: Vec<i64> = [1_774_746_000, 1_792_890_000, START]
        .into_iter()
        .flat_map(|change: i64| (-8..8).map(move |hour| change + hour * 3_600))
        .collect();
    let cases: Vec<_> = begins.iter().map(|begin| case(&[facts], *begin)).collect();
    let answers = reference(&cases);
    let app = app("", &[]).await;
    let workers = Workers::new(Settings::of(&app.config));
    // The time gone between two dates, where Python's difference of two dates of
    // one zone is what clocks show, and so 0 or 2 hours when they change.
    let hours = "hours = (data['period']['end'] - data['period']['begin']).total_seconds() / 3600
assert data['period']['begin'] < data['period']['end']
for p in data['usage']['instance']: p['rating']['price'] = hours";
    for (begin, theirs) in begins.iter().zip(&answers) {
        let ours = run(&workers, &[facts], *begin).await.unwrap();
        assert_eq!(ours.to_string(), theirs["usage"].to_string(), "{begin}");
        let priced = run(&workers, &[hours], *begin).await.unwrap();
        assert_eq!(priced["instance"][0][2], "1.0", "{begin}");
    }
}

/// The local zone belongs to the process, so other zones need other processes.
#[test]
fn dates_are_those_of_the_reference_in_other_zones() {
    for zone in ["Europe/Paris", "Europe/London", "Australia/Lord_Howe", "UTC"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["scripts::dates_are_those_of_the_reference", "--exact", "--nocapture"])
            .env("TZ", zone)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains("1 passed"), "{zone}: {told}");
    }
}

/// Ways to leave something behind for others, and why they fail, if they do.
const HOSTILE: [(&str, Option<&str>); 24] = [
    ("import decimal; decimal.getcontext().prec = 3; raise ValueError('mine')", Some("mine")),
    ("import decimal; decimal.getcontext().prec = 3; decimal.DefaultContext.prec = 3", None),
    ("import decimal; decimal.setcontext(decimal.Context(2, decimal.ROUND_UP, traps=[]))", None),
    ("import builtins; builtins.sorted = lambda x: []; raise ValueError('mine')", Some("mine")),
    ("import builtins; builtins.sorted = lambda x: []", Some("0 points, where it has 3")),
    ("import builtins; builtins.len = lambda x: 0; builtins.dict = None", Some("script 0")),
    ("import json; json.dumps = lambda *a, **k: '{}'", Some("there is no usage")),
    ("import json; json.loads = json.dumps = None; raise ValueError('mine')", Some("script 0")),
    ("import sys; sys.modules.update(decimal=None, json=None); sys.path[:] = []", None),
    ("import sys; sys.settrace(lambda *a: 1 / 0)", Some("ZeroDivisionError")),
    ("import gc; gc.disable(); gc.set_threshold(0)", None),
    ("import os, time; os.environ['TZ'] = 'Asia/Tokyo'; time.tzset(); os.chdir('/usr')", None),
    ("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))", None),
    ("import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))", None),
    ("import signal; signal.alarm(2)  # later", None),
    ("import signal; signal.setitimer(signal.ITIMER_REAL, 2); raise ValueError('mine')", Some("mine")),
    ("import os; os._exit(0)", Some("script `script 0` ended its process (exit status: 0)")),
    ("import os; os.closerange(0, 100)", Some("ended its process (exit status: 1)")),
    ("import os; os.abort()", Some("script `script 0` ended its process (signal: ")),
    ("x = []\nwhile True: x.append(bytes(1000000))", Some("out of memory")),
    // An answer, in the worker's own form, wherever there is a pipe; twice, to be
    // there for the next frame, too.
    (
        "import json, os
text = json.dumps({'usage': {'instance': [['9', '9']] * 2, 'volume': [['9', '9']]}, 'count': 3}).encode()
for file in range(100):
    for again in range(2):
        try: os.write(file, b'a' + len(text).to_bytes(4, 'big') + text)
        except OSError: pass",
        None,
    ),
    (
        "import os
for file in range(100):
    try: os.write(file, b'well' * 1000)
    except OSError: pass",
        Some("not of the form"),
    ),
    // The same later, when another frame is rated.
    (
        "import os, threading, time
def write():
    while True:
        time.sleep(1)
        for file in range(100):
            try: os.write(file, b'\\xff' * 100)
            except OSError: pass
threading.Thread(target=write, daemon=True).start()  # later",
        None,
    ),
    (
        "import os
for file in range(100):
    try: open('/proc/%d/fd/%d' % (os.getppid(), file), 'wb', buffering=0).write(b'\\xff' * 100)
    except OSError: pass",
        None,
    ),
];

/// Whether a process runs that has this among its arguments.
fn is_running(argument: &str) -> bool {
    let is_one = |entry: std::fs::DirEntry| {
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|one| one == argument.as_bytes())
    };
    std::fs::read_dir("/proc").unwrap().flatten().any(is_one)
}

#[tokio::test]
async fn nothing_that_a_script_does_reaches_the_next_frame() {
    let prices = "import decimal, json, math
for kind in sorted(data['usage']):
    for p in data['usage'][kind]:
        price = p['vol']['qty'] / 7 + data['period']['begin'].hour + math.floor(2.5)
        p['rating']['price'] = price + len(json.dumps(p['groupby'])) * decimal.Decimal('0.1')";
    // One worker, so that frames share it; its memory tells it from those of other tests.
    let conf = "[ratekitty]\npyscripts_timeout = 10\npyscripts_memory = 307\n\
                [orchestrator]\nmax_workers = 1\n";
    let app = app(conf, &[]).await;
    let workers = Workers::new(Settings::of(&app.config));
    let clean = run(&workers, &[prices], START).await.unwrap().to_string();
    assert!(clean.contains("142857142857142857"), "{clean}");
    for (text, expected) in HOSTILE {
        match (run(&workers, &[text], START).await, expected) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) if error.to_string().contains(expected) => {}
            (result, _) => panic!("{text}: {result:?}, not {expected:?}"),
        }
        let rated = run(&workers, &[prices], START).await.unwrap().to_string();
        assert_eq!(rated, clean, "after {text}");
        if text.contains("later") {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            let rated = run(&workers, &[prices], START).await.unwrap().to_string();
            assert_eq!(rated, clean, "later than {text}");
        }
    }
    // A context holds for its script, and globals for one run.
    let rated = run(&workers, &[HOSTILE[1].0, prices], START).await.unwrap().to_string();
    assert_eq!(rated, clean);
    let counts = "n = globals().get('n', 0) + 1\nfor p in data['usage']['instance']: p['rating']['price'] = n";
    for _ in 0..3 {
        let rated = run(&workers, &[counts, counts], START).await.unwrap();
        assert_eq!(rated["instance"][0][2], "1");
    }
    // The script at fault is named among others.
    for (text, expected) in [
        ("1 / 0", "script `script 1` failed: ZeroDivisionError in line 1"),
        ("import os; os._exit(3)", "script `script 1` ended its process (exit status: 3)"),
        ("while True: pass", "pyscripts_timeout = 10 s, and were ended in script `script 1`"),
        (
            "data['usage']['instance'][1]['rating']['price'] = 'x'",
            "script `script 1` failed: data['usage']['instance'][1]: the price is 'x', not a number",
        ),
    ] {
        let error = run(&workers, &["x = 1", text, "y = 1"], START).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let large = "import decimal\ndata['usage']['instance'][1]['rating']['price'] = decimal.Decimal('1E+20000')";
    let error = run(&workers, &[large], START).await.unwrap_err().to_string();
    let expected = "script `script 0` gave a bad answer: data['usage']['instance'][1]: the price: `1E+20000` is out of range";
    assert_eq!(error, expected);
    // Whoever hung was ended with its worker; the last worker ends with its owner.
    let memory = (307 << 20).to_string();
    assert_eq!(run(&workers, &[prices], START).await.unwrap().to_string(), clean);
    assert!(is_running(&memory));
    drop(workers);
    until("workers have ended", || async { !is_running(&memory) }).await;
}

#[tokio::test]
async fn scripts_reach_no_process_and_no_file() {
    let file = std::env::temp_dir().join(format!("untouched-{:x}", rand::random::<u64>()));
    std::fs::write(&file, "untouched").unwrap();
    let state = || {
        let meta = std::fs::metadata(&file).unwrap();
        (std::fs::read(&file).unwrap(), meta.permissions(), meta.modified().unwrap())
    };
    let before = state();
    let refused = [
        "os.kill(other, 0)",
        "os.kill(0, 0)",
        "os.killpg(0, 0)",
        "called('tgkill', other, other, 15)",
        "called('sigqueue', other, 15, None)",
        "called('syscall', 424, 0, 15, None, 0)", // pidfd_send_signal
        "called('syscall', 434, other, 0)",       // pidfd_open
        "called('process_vm_readv', other, None, 0, None, 0, 0)",
        "called('process_vm_writev', other, None, 0, None, 0, 0)",
        "called('ptrace', 16, other, None, None)",
        "called('prctl', 1, 0, 0, 0, 0)",
        "resource.prlimit(other, resource.RLIMIT_CPU)",
        "resource.prlimit(other, resource.RLIMIT_NOFILE, (3, 3))",
        "os.setpriority(os.PRIO_PROCESS, other, 19)",
        "os.setpriority(os.PRIO_USER, 0, 19)",
        "os.sched_setaffinity(other, [0])",
        "os.sched_setscheduler(other, os.SCHED_BATCH, os.sched_param(0))",
        "os.setsid()",
        "fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, other)",
        "fcntl.fcntl(os.pipe()[0], 10, 9)", // F_SETSIG
        "fcntl.flock(os.pipe()[0], fcntl.LOCK_SH)",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "open('/proc/%d/mem' % other, 'r+b')",
        "open('/proc/%d/environ' % other)",
        "os.listdir('/proc/%d/fd' % other)",
        "os.chmod(path, 0o777)",
        "os.chown(path, os.getuid(), os.getgid())",
        "os.lchown(path, os.getuid(), os.getgid())",
        "os.utime(path)",
        "os.setxattr(path, 'user.x', b'x')",
        "os.removexattr(path, 'user.x')",
        "os.truncate(path, 0)",
        "os.unlink(path)",
        "os.rename(path, path + 'x')",
        "os.link(path, path + 'x')",
        "os.symlink(path, path + 'x')",
        "os.mkdir(path + 'x')",
        "os.mkfifo(path + 'x')",
        "open(path, 'r+b')",
        "open(path)",
        "os.memfd_create('x')",
        "called('shmget', 0, 4096, 0o1600)",
        "called('semget', 0, 1, 0o1600)",
    ];
    let allowed = [
        "resource.getrlimit(resource.RLIMIT_AS); resource.setrlimit(resource.RLIMIT_CPU, (9, 9))",
        "t = threading.Thread(target=print); t.start(); t.join()",
        "print('x', file=open(os.devnull, 'w'))",
        "os.sched_getaffinity(0); os.getpriority(os.PRIO_PROCESS, 0); time.sleep(0.001)",
        "fcntl.fcntl(os.pipe()[0], fcntl.F_GETFL); signal.alarm(0)",
        "import zoneinfo, random, secrets, sqlite3, statistics, fractions, csv, uuid; uuid.uuid4()",
    ];
    let with = |what: &str| {
        format!(
            "import ctypes, fcntl, os, resource, signal, threading, time
other, path = os.getppid(), {:?}
def called(name, *arguments):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
{what}",
            file.display().to_string()
        )
    };
    let app = app("[orchestrator]\nmax_workers = 1\n", &[]).await;
    let workers = Workers::new(Settings::of(&app.config));
    for what in refused {
        let error = run(&workers, &[&with(what)], START).await.unwrap_err().to_string();
        assert!(error.contains("PermissionError"), "{what}: {error}");
        assert_eq!(state(), before, "{what}");
    }
    for what in allowed {
        run(&workers, &[&with(what)], START).await.unwrap();
    }
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn what_scripts_do_wrong_fails_the_period_and_nothing_else() {
    let secret = std::env::temp_dir().join(format!("secret-{:x}", rand::random::<u64>()));
    std::fs::write(&secret, "s3cret").unwrap();
    let open = format!("print(open('{}').read())", secret.display());
    let write = format!("open('{}', 'w')", secret.display());
    let cases: Vec<(&str, &str)> = vec![
        ("x = 1\ny = x / 0", "ZeroDivisionError in line 2"),
        ("def f(:", "SyntaxError in line 1"),
        ("while True: pass", "pyscripts_timeout = 3 s"),
        ("import time; time.sleep(100)", "pyscripts_timeout = 3 s"),
        ("import sys; sys.exit(3)", "SystemExit in line 1: 3"),
        ("import os; os._exit(0)", "ended its process (exit status: 0)"),
        ("x = 'x' * (1 << 30)", "out of memory"),
        ("x = []\nwhile True: x.append('x' * 1000000)", "out of memory"),
        ("def f(): f()\nf()", "RecursionError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        (
            "data['usage']['instance'][0]['rating']['price'] = float('nan')",
            "script `script 0` failed: data['usage']['instance'][0]: the price is nan, which cannot be billed",
        ),
        ("print('\\ud800'); raise ValueError('\\ud800')", "ValueError in line 1: \\ud800"),
        ("data['usage']['instance'][0]['metadata']['x'] = '\\ud800'", "cannot be kept"),
        ("class E(Exception):\n  def __str__(self): raise self\nraise E", "cannot be told"),
        ("data['usage']['instance'][0]['rating']['price'] = True", "not a number"),
        ("data['usage']['instance'][0]['groupby'][5] = 'x'", "is no text"),
        ("data['usage']['instance'][0]['metadata']['x'] = object()", "cannot be kept"),
        (
            "x = []; x.append(x); data['usage']['instance'][0]['metadata']['x'] = x",
            "cannot be kept",
        ),
        ("data['period']['begin'] = 5", "period was changed"),
        ("data['usage'] = []", "usage is no dict"),
        ("import socket; socket.socket()", "PermissionError"),
        ("import socket; socket.create_connection(('127.0.0.1', 80))", "PermissionError"),
        ("import subprocess; subprocess.run(['/bin/true'])", "Error"),
        ("import os; os.fork()", "PermissionError"),
        ("import os; os.kill(os.getppid(), 9)", "PermissionError"),
        ("open('/etc/passwd')", "PermissionError"),
        (&open, "PermissionError"),
        (&write, "PermissionError"),
        ("open('/usr/x', 'w')", "Error"),
        (
            "import os; assert os.environ.get('HOME') is None; os.listdir('/root')",
            "PermissionError",
        ),
        ("import os; open('/proc/%d/environ' % os.getppid())", "PermissionError"),
        (
            "import threading\nfor i in range(9999): threading.Thread(target=lambda: __import__('time').sleep(9)).start()",
            "Error",
        ),
        ("import os; os.write(1, b'\\xff' * 1000); os.close(1); raise ValueError('mine')", "mine"),
        ("data['usage']['instance'][0]['metadata']['x'] = 'x' * 50_000_000", "bytes, where"),
    ];
    let app = app("[ratekitty]\npyscripts_timeout = 3\npyscripts_memory = 300\n", &[]).await;
    let good = "for p in data['usage']['instance']: p['rating']['price'] = 5";
    for (text, expected) in cases {
        set_scripts(&app, &[text]).await;
        let error = rate(&app, &given()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        set_scripts(&app, &[good]).await;
        let rated = rate(&app, &given()).await.unwrap();
        assert_eq!(rated["instance"][0][2], "5", "after {text}");
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "s3cret");
    std::fs::remove_file(&secret).unwrap();
    // A script that failed fails again in the same words, and does not keep others
    // from being known to its worker.
    set_scripts(&app, &["x = 1 / 0", "y = 1 /"]).await;
    let at = seconds(START).naive_utc();
    let rater = app.pipeline().rater.scope("p", at, None).await.unwrap();
    for _ in 0..3 {
        let error = rater.rate(&mut frame(&given())).await.unwrap_err().to_string();
        assert!(error.contains("script `script 0` failed: ZeroDivisionError in line 1"), "{error}");
    }
    // What is printed is no fault, however long it is.
    set_scripts(&app, &["print('x' * 10_000_000)\nimport sys; print('y', file=sys.stderr)", good])
        .await;
    assert_eq!(rate(&app, &given()).await.unwrap()["instance"][0][2], "5");
    // Without a Python there is a clear error.
    let mut app = app;
    app.config.ratekitty.pyscripts_python = "/nowhere/python".to_owned();
    let error = rate(&app, &given()).await.unwrap_err().to_string();
    assert!(error.contains("can be started") && error.contains("pyscripts_python"), "{error}");
    app.config.ratekitty.pyscripts_python = "true".to_owned();
    let error = rate(&app, &given()).await.unwrap_err().to_string();
    assert!(error.contains("`true` ended (exit status: 0)"), "{error}");
}

/// Scripts run on the CPython that is asked for, by which the other tests are
/// about the one that they mean to be about.
#[tokio::test]
async fn scripts_run_on_the_python_that_is_asked_for() {
    let set = "import sys; data['usage']['instance'][0]['metadata']['v'] = '%d.%d' % sys.version_info[:2]";
    let app = app("", &[set]).await;
    let python = &app.config.ratekitty.pyscripts_python;
    let told = Command::new(python).arg("--version").output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let minor = told.trim().rsplit_once('.').unwrap().0;
    let version = rate(&app, &given()).await.unwrap()["instance"][0][4]["v"].clone();
    assert_eq!(format!("Python {}", version.as_str().unwrap()), minor, "{python}");
    if let Ok(asked) = std::env::var("RATEKITTY_TEST_PYTHON") {
        assert_eq!(*python, asked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_run_scripts_when_they_hold() {
    let cloud = Cloud::start(3, 2).await;
    for db in Db::ALL {
        let conf = format!("{}wait_periods = 1\n", cloud.conf());
        let app = TestApp::on(db, NOW, &conf, cloud::METRICS).await;
        let at = |hour: i64| seconds(START + hour * 3_600).naive_utc();
        let connection = app.database.connection();
        let add = |name: &'static str, text: &'static str, from, until| async move {
            let audit = Audit::new(name.into(), None, (from, until), ("test", at(0)));
            scripts::add(connection, &new_id(), text.as_bytes(), &audit).await
        };
        let times = |factor: u32| -> &'static str {
            match factor {
                2 => "for p in data['usage']['instance']: p['rating']['price'] *= 2",
                _ => "for p in data['usage']['instance']: p['rating']['price'] *= 5",
            }
        };
        // The price is 3; it is doubled until 04:00, and five times as much from 02:00 on.
        add("early", times(2), at(0), Some(at(4))).await.unwrap();
        add("late", times(5), at(2), None).await.unwrap();
        set_price(&app.database, 3).await;
        enable(&app, "hashmap", true, 2).await;
        enable(&app, "pyscripts", true, 1).await;
        assert_eq!(app.rate().await.failed, 0, "{db:?}");
        let prices = crate::processors::unit_prices(&*app.storage, (START, START + 36_000)).await;
        for ((scope, begin, id), price) in prices {
            let hour = (begin - START) / 3_600;
            let factor = if hour < 4 { 2 } else { 1 } * if hour >= 2 { 5 } else { 1 };
            assert_eq!(price, 3 * factor, "{db:?} {scope} {hour} {id}");
        }
        // Order by priority: with the scripts first, there is nothing to multiply yet.
        enable(&app, "pyscripts", true, 9).await;
        app.clock.set("2026-11-01T12:00:00Z".parse().unwrap());
        assert_eq!(app.rate().await.failed, 0, "{db:?}");
        let prices =
            crate::processors::unit_prices(&*app.storage, (START + 36_000, START + 90_000)).await;
        assert!(prices.values().all(|price| *price == 3), "{db:?} {prices:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_beside_a_hanging_script_are_rated() {
    let cloud = Cloud::start(3, 1).await;
    let conf = format!(
        "[ratekitty]\npyscripts_timeout = 1\n[orchestrator]\nmax_workers = 2\n{}wait_periods = 1\n",
        cloud.conf()
    );
    let app = TestApp::new("2026-11-01T02:00:00Z", &conf, cloud::METRICS).await;
    set_scripts(
        &app,
        &["p = data['usage']['instance'][0]\nwhile p['groupby']['project_id'] == 's1': pass"],
    )
    .await;
    enable(&app, "pyscripts", true, 1).await;
    let begun = Instant::now();
    let outcome = app.rate().await;
    assert_eq!((outcome.scopes, outcome.failed), (3, 1));
    assert!(begun.elapsed() < Duration::from_secs(20));
    let prices = crate::processors::unit_prices(&*app.storage, (START, START + 36_000)).await;
    assert_eq!(prices.len(), 2);
}

#[tokio::test]
async fn the_price_list_has_scripts() {
    let list = |text: &str| PriceList::parse(text).unwrap();
    let five = "for p in data['usage']['instance']: p['rating']['price'] = 5\n";
    let with = |text: &str| {
        let list = json!({
            "modules": {"pyscripts": {"enabled": true}}, "hashmap": {"services": []},
            "pyscripts": [{"name": "é night", "data": text, "description": "for people"}],
        });
        list.to_string()
    };
    let now = |day: u32| format!("2026-11-{day:02}T00:00:00").parse::<NaiveDateTime>().unwrap();
    for db in Db::ALL {
        let conf = "[fetcher_prometheus]\nmetric = m\nprometheus_url = http://127.0.0.1:1\n\
                    [collector_prometheus]\nprometheus_url = http://127.0.0.1:1\n";
        let app = TestApp::on(db, NOW, conf, cloud::METRICS).await;
        let import = |text: String, day| {
            let (list, database) = (list(&text), app.database.clone());
            async move {
                let changes = list.import(&database, now(day), false).await.unwrap();
                changes.iter().map(ToString::to_string).collect::<Vec<_>>()
            }
        };
        let price = |day: u32| {
            let app = &app;
            async move {
                let rater = app.pipeline().rater.scope("p", now(day), None).await.unwrap();
                let mut frame = frame(&given());
                rater.rate(&mut frame).await.unwrap();
                frame.usage[0].1[0].price.to_string()
            }
        };
        let changes = import(with(five), 3).await;
        assert_eq!(changes, ["~ module pyscripts: enabled, priority 1", "+ script é night"]);
        assert_eq!(price(1).await, "5", "{db:?}: what is new holds since ever");
        assert_eq!(import(with(five), 4).await, Vec::<String>::new());
        // A file that does not speak of scripts leaves them alone.
        assert_eq!(import("hashmap: {services: []}".into(), 4).await, Vec::<String>::new());
        let changes = import(with(&five.replace('5', "7")), 5).await;
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert_eq!((price(4).await, price(5).await), ("5".into(), "7".into()), "{db:?}");
        // Exported into an empty database, it rates the same.
        let yaml = PriceList::export(&app.database).await.unwrap().to_yaml().unwrap();
        let other = TestApp::on(db, NOW, conf, cloud::METRICS).await;
        list(&yaml).import(&other.database, now(9), false).await.unwrap();
        let again = PriceList::export(&other.database).await.unwrap().to_yaml().unwrap();
        assert_eq!(again, yaml);
        let changes = list(&yaml).import(&other.database, now(9), false).await.unwrap();
        assert_eq!(changes, []);
        // Gone from the file, it ends.
        let none = "hashmap: {services: []}\npyscripts: []";
        assert_eq!(import(none.into(), 6).await.len(), 1);
        assert_eq!((price(5).await, price(6).await), ("7".into(), "0".into()), "{db:?}");
    }
    for (text, reason) in [
        ("[{name: a, data: x}, {name: a, data: y}]", "at the same time"),
        ("[{name: '', data: x}]", "1 to 255"),
        ("[{name: a}]", "data"),
        ("[{name: a, data: x, start: 2026-11-02T00:00:00, end: 2026-11-01T00:00:00}]", "not after"),
    ] {
        let text = format!("hashmap: {{services: []}}\npyscripts: {text}");
        let error = PriceList::parse(&text).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
