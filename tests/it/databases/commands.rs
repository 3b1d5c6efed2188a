//! `ratekitty dbsync` as an operator runs it: exit codes and texts.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use ratekitty::state::{
    periods,
    schema::{MODULES, Module},
    scopes::{self, ScopeKeys},
};

use super::{open, reference::reference, texts};
use crate::support::{Cloud, Db, cloud::METRICS};

/// A configuration, and the programs that are run with it.
struct Operator {
    dir: tempfile::TempDir,
    db: Db,
    url: String,
    conf: String,
}

impl Operator {
    async fn new(db: Db, cloud: &Cloud) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        let url = match db.create().await {
            Some(url) => url,
            None => format!("sqlite:///{path}/cloudkitty.sqlite"),
        };
        let conf = format!(
            "[database]\nconnection = {url}\nmax_retries = 0\n[storage]\nbackend = sql\n\
             [ratekitty]\nstate_path = {path}\n{}metrics_conf = {path}/metrics.yml\n",
            cloud.conf()
        );
        symlink(env!("CARGO_BIN_EXE_ratekitty"), dir.path().join("cloudkitty-dbsync")).unwrap();
        Self { dir, db, url, conf }
    }

    /// Runs a program with `more` at the end of its configuration, in `[collect]`.
    fn run_by(&self, program: &Path, more: &str, line: &str) -> (i32, String, String) {
        let file = self.dir.path().join("cloudkitty.conf");
        std::fs::write(&file, format!("{}{more}", self.conf)).unwrap();
        let mut command = Command::new(program);
        command.arg("--config-file").arg(&file).args(line.split_whitespace());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// `ratekitty dbsync LINE`: exit code, answer, error.
    fn dbsync(&self, line: &str) -> (i32, String, String) {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_ratekitty"));
        self.run_by(&program, "", &format!("dbsync {line}"))
    }

    /// A command that is done; its answer.
    fn answer(&self, line: &str) -> String {
        let (code, answer, error) = self.dbsync(line);
        assert_eq!((code, error.as_str()), (0, ""), "{:?}: {line}", self.db);
        answer
    }

    /// A command that is refused; why.
    fn refusal(&self, line: &str, expected: i32) -> String {
        let (code, answer, error) = self.dbsync(line);
        assert_eq!((code, answer.as_str()), (expected, ""), "{:?}: {line}: {error}", self.db);
        error
    }

    /// The revisions in the tables themselves.
    async fn noted(&self, module: &Module) -> Vec<String> {
        let sql = format!("SELECT version_num FROM {}", module.table);
        texts(&open(&self.url).await, &sql).await
    }
}

fn head(module: &Module) -> String {
    format!("{} (head)\n", module.revision)
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_are_shown_noted_and_refused() {
    let cloud = Cloud::start(1, 1).await;
    for db in Db::ALL {
        let operator = Operator::new(db, &cloud).await;
        // Nothing is there yet: a file is not made by who only looks.
        let (code, answer, error) = operator.dbsync("version --module cloudkitty");
        match db {
            Db::Sqlite => {
                assert_eq!((code, answer.as_str()), (1, ""));
                assert!(error.contains("ratekitty dbsync upgrade"), "{error}");
                assert!(!operator.dir.path().join("cloudkitty.sqlite").exists());
            }
            _ => assert_eq!((code, answer.as_str(), error.as_str()), (0, "\n", "")),
        }
        assert_eq!(operator.answer("upgrade"), "The tables of the state database were made.\n");
        let up_to_date = "The tables of the state database are up to date.\n";
        for line in ["upgrade", "upgrade --revision head", "upgrade --module hashmap"] {
            assert_eq!(operator.answer(line), up_to_date, "{line}");
        }
        let mut all = String::new();
        for module in &MODULES {
            let name = module.name;
            assert_eq!(operator.answer(&format!("version --module {name}")), head(module));
            all += &format!("{name}: {}", head(module));
            let line = format!("upgrade --module {name} --revision {}", module.revision);
            assert_eq!(operator.answer(&line), up_to_date, "{line}");
        }
        assert_eq!(operator.answer("version"), all);
        let program = operator.dir.path().join("cloudkitty-dbsync");
        let by_name = operator.run_by(&program, "", "version --module hashmap");
        assert_eq!(by_name, (0, head(&MODULES[1]), String::new()));

        // Each module is stamped by itself.
        for (at, module) in MODULES.iter().enumerate() {
            let name = module.name;
            let stamp = |revision: &str| format!("stamp --module {name} --revision {revision}");
            let stamped = operator.answer(&stamp("base"));
            assert_eq!(stamped, format!("Module {name} is stamped base.\n"));
            assert_eq!(operator.answer(&format!("version --module {name}")), "\n");
            assert_eq!(operator.noted(module).await, Vec::<String>::new());
            let others = MODULES.iter().enumerate().filter(|(other, _)| *other != at);
            for (_, other) in others {
                assert_eq!(operator.noted(other).await, [other.revision]);
            }
            // No program starts on it, and each says what to run.
            let program = PathBuf::from(env!("CARGO_BIN_EXE_ratekitty"));
            let (code, _, error) = operator.run_by(&program, "", "summary");
            assert_eq!(code, 1, "{error}");
            assert!(error.contains(module.table), "{error}");
            assert!(error.contains("run `ratekitty dbsync upgrade`"), "{error}");
            if at % 2 == 0 {
                let stamped = operator.answer(&stamp("head"));
                assert_eq!(stamped, format!("Module {name} is stamped {}.\n", module.revision));
            } else {
                operator.answer("upgrade");
            }
            assert_eq!(operator.noted(module).await, [module.revision]);
            let again = operator.answer(&stamp(module.revision));
            assert_eq!(again, format!("Module {name} is stamped {}.\n", module.revision));
        }
        assert_eq!(operator.answer("upgrade"), up_to_date);

        // What cannot be done changes nothing.
        let only = format!("this program knows {} (head) alone", MODULES[1].revision);
        let of_all = format!("upgrade --revision {}", MODULES[0].revision);
        let (only, of_all) = (only.as_str(), of_all.as_str());
        for (line, code, expected) in [
            ("stamp --module hashmap --revision older", 1, only),
            ("upgrade --module hashmap --revision older", 1, only),
            ("stamp --module nonsense --revision head", 2, "'nonsense'"),
            ("stamp --revision head", 2, "--module"),
            ("version --module nonsense", 2, "cloudkitty, hashmap, pyscripts"),
            ("upgrade --module nonsense", 2, "'nonsense'"),
            ("upgrade --revision base", 1, "drop the database"),
            ("upgrade --module hashmap --revision base", 1, "drop the database"),
            (of_all, 1, "name one with --module"),
            ("revision --module hashmap --message x --autogenerate", 1, "cloudkitty-dbsync"),
            ("revision --module hashmap -m x", 1, "cloudkitty-dbsync"),
            ("nonsense", 2, "'nonsense'"),
        ] {
            let error = operator.refusal(line, code);
            assert!(error.contains(expected), "{db:?}: {line}: {error}");
        }
        assert_eq!(operator.answer("version"), all);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_reads_what_was_stamped_and_we_what_it_stamps() {
    let cloud = Cloud::start(1, 1).await;
    let operator = Operator::new(Db::Mariadb, &cloud).await;
    operator.answer("upgrade");
    let module = &MODULES[1];
    let theirs = |line: &str| {
        let arguments: Vec<_> = line.split_whitespace().collect();
        let output = reference(operator.dir.path(), &operator.url, "cloudkitty-dbsync", &arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    theirs("stamp --module hashmap --revision base");
    assert_eq!(operator.answer("version --module hashmap"), "\n");
    operator.answer("stamp --module hashmap --revision head");
    let shown = theirs("version --module hashmap");
    assert!(shown.contains(head(module).trim()), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_length_of_periods_is_set_by_a_command() {
    let cloud = Cloud::start(1, 1).await;
    let program = PathBuf::from(env!("CARGO_BIN_EXE_ratekitty"));
    for db in Db::ALL {
        let operator = Operator::new(db, &cloud).await;
        operator.answer("upgrade");
        let name = "prometheus".to_owned();
        let (fetcher, collector) = (name.clone(), name);
        let keys = ScopeKeys { scope_key: "project_id".into(), fetcher, collector };
        let which = "Periods of fetcher prometheus, collector prometheus and scope key project_id";
        let set = |seconds: u32| {
            let more = format!("period = {seconds}\n");
            let (code, answer, error) = operator.run_by(&program, &more, "dbsync set-period");
            assert_eq!((code, error.as_str()), (0, ""), "{db:?}");
            answer
        };
        let moved = |count: usize| format!("{count} scopes were moved to go on where they ended.");
        let first = format!("{which} had no length and will have 3600 s; {}\n", moved(0));
        assert_eq!(set(3_600), first);
        let database = open(&operator.url).await;
        let last = "2026-11-01T05:00:00Z".parse().unwrap();
        scopes::add(database.connection(), "p1", &keys, last, last).await.unwrap();
        let changed = format!("{which} had 3600 s and will have 1800 s; {}\n", moved(1));
        assert_eq!(set(1_800), changed);
        let state = scopes::get(&database, "p1", &keys).await.unwrap().unwrap();
        let half_past: chrono::DateTime<chrono::Utc> = "2026-11-01T05:30:00Z".parse().unwrap();
        assert_eq!(state.last_processed, half_past, "{db:?}");
        let same = format!("{which} had 1800 s and will have 1800 s; {}\n", moved(0));
        assert_eq!(set(1_800), same);
        periods::claim(&database, &keys, 1_800).await.unwrap();
        // A processor that has the old length is told, and writes nothing.
        std::fs::write(operator.dir.path().join("metrics.yml"), METRICS).unwrap();
        let more = "period = 3600\n";
        let (code, _, error) = operator.run_by(&program, more, "processor --once");
        assert_eq!(code, 1, "{db:?}: {error}");
        assert!(error.contains("[collect] period = 3600 s") && error.contains("of 1800 s"));
        assert!(error.contains("dbsync set-period"), "{db:?}: {error}");
        // Before there are tables, there is nothing to set.
        let empty = Operator::new(db, &cloud).await;
        let (code, answer, error) = empty.run_by(&program, more, "dbsync set-period");
        match db {
            // The file is made by whoever comes first.
            Db::Sqlite => assert_eq!((code, answer), (0, first)),
            _ => {
                assert_eq!((code, answer.as_str()), (1, ""));
                assert!(error.contains("ratekitty dbsync upgrade"), "{error}");
            }
        }
    }
}
