//! scripts/check-docs, which runs what documents tell their readers to do, fails where
//! it must. CI runs it over the documents themselves.

use std::process::{Command, Output};

use super::root;

/// Runs it over a document, with a ratekitty that is never asked for anything.
fn check(document: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("page.md");
    std::fs::write(&file, document).unwrap();
    let Output { status, stdout, stderr } = Command::new(root().join("scripts/check-docs"))
        .arg(env!("CARGO_BIN_EXE_ratekitty"))
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.success(), text)
}

/// What it says of a document that it must not pass.
fn refused(document: &str) -> String {
    let (is_good, text) = check(document);
    assert!(!is_good, "{document}\n{text}");
    text
}

fn block(info: &str, text: &str) -> String {
    format!("```{info}\n{text}\n```\n\n")
}

#[test]
fn commands_that_fail_are_found() {
    let ok = block("sh run", "true");
    let text = refused(&format!("{ok}{}{ok}", block("sh run", "echo so far\nfalse\ntrue")));
    assert!(text.contains("page.md:5: fails\n      so far\n"), "{text}");
    assert!(text.contains("page.md:11: was not come to"), "{text}");
    assert!(text.ends_with("1 passed, 2 failed\n"), "{text}");
    refused(&block("sh run", "false | true"));
    refused(&block("sh run", "echo $NOBODY_SAID_SO"));
    refused(&block("sh run", "exit 0"));
    refused(&block("sh run", "if true"));
}

#[test]
fn other_output_is_found() {
    let run = block("sh run", "echo '{\"a\": [1, \"req-7\", true]}'; echo; echo last");
    let says = |output: &str| check(&format!("{run}{}", block("text output", output)));
    for good in ["{\"a\": ...}\n\nlast", "{...\n...\nlast", "...\nlast"] {
        let (is_good, text) = says(good);
        assert!(is_good, "{good}\n{text}");
        assert!(text.contains("page.md:1: prints what the document says"), "{text}");
    }
    for bad in ["last", "{\"a\": ...}\nlast", "...\nlas", "...\n\nlast\n..x", "{.*}\n\nlast"] {
        let (is_good, text) = says(bad);
        assert!(!is_good, "{bad}\n{text}");
        assert!(text.contains("prints something else than line 5 says"), "{text}");
    }
}

#[test]
fn json_is_compared_by_value() {
    let run = block("sh run", "echo '{\"a\": [1, \"req-7\", true]}'");
    let says = |output: &str| check(&format!("{run}{}", block("json output", output)));
    for good in ["{\n  \"a\": [1.0, \"req-...\", true]\n}", "{\"a\": [\"...\", \"...\", true]}"] {
        let (is_good, text) = says(good);
        assert!(is_good, "{good}\n{text}");
    }
    for bad in [
        "{\"a\": [1, \"req-...\"]}",
        "{\"a\": [2, \"req-...\", true]}",
        "{\"a\": [1, \"...8\", true]}",
        "{\"a\": [true, \"req-7\", 1]}",
        "{\"a\": [1, \"req-7\", true], \"b\": null}",
        "{\"a\": [1, \"req-7\", true]",
    ] {
        assert!(!says(bad).0, "{bad}");
    }
    let text =
        refused(&format!("{}{}", block("sh run", "echo"), block("json output", "{\"a\": 1}")));
    assert!(text.contains("prints no JSON"), "{text}");
}

#[test]
fn what_is_written_wrong_is_not_passed_over() {
    for (document, told) in [
        ("", "no document has anything to run"),
        ("```sh\nfalse\n```\n", "no document has anything to run"),
        ("```sh rum\ntrue\n```\n", "nobody knows what ```sh rum means"),
        ("```python run\n1\n```\n", "nobody knows what ```python run means"),
        ("```text file ../x\n1\n```\n", "nobody knows what"),
        ("```text output\n1\n```\n", "an output without commands before it"),
        ("```sh run\ntrue\n```\n```text output\n...\n```\n", "an output that anything would be"),
        (
            "```sh run\ntrue\n```\n```json output\n\"...\"\n```\n",
            "an output that anything would be",
        ),
        ("```sh run\ntrue\n", "a block that does not end"),
        ("<!-- check-docs: luck -->\n```sh run\ntrue\n```\n", "needs luck"),
    ] {
        let text = refused(document);
        assert!(text.contains(told), "{document}\n{text}");
    }
}

/// Files are saved, variables and folders stay from block to block, what was started is
/// stopped.
#[test]
fn blocks_go_on_from_each_other() {
    let document = [
        block("ini file a.conf", "[x]\na = $b"),
        block("sh run", "x=5; cat a.conf; mkdir sub; cd sub\nsleep 1000 & echo $! > pid"),
        block("text output", "[x]\na = $b"),
        block("sh run", "ratekitty --version > /dev/null; echo \"$x $API $(cat pid)\""),
        block("text output", "5 http://127.0.0.1:... ..."),
        block("sh run", "echo \"pid=$(cat pid)\"; kill -0 \"$(cat pid)\"; false"),
    ];
    let text = refused(&document.concat());
    assert!(text.ends_with("2 passed, 1 failed\n"), "{text}");
    let pid = text.split_once("pid=").and_then(|(_, rest)| rest.lines().next()).unwrap();
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert!(!command.contains("sleep"), "{text}");
}

/// Pages that tell what to type are those that are run.
#[test]
fn pages_of_commands_are_run() {
    for page in ["get-started", "migrate", "API", "RATING", "OPERATIONS"] {
        let text = std::fs::read_to_string(root().join(format!("docs/{page}.md"))).unwrap();
        assert!(text.contains("\n```sh run\n"), "docs/{page}.md has nothing that is run");
    }
}
