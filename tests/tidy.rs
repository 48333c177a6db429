//! The house rules, proved: module order, who knows which engine, and sizes that only shrink.
//!
//! A file that breaks a rule fails here with its name and line. Rules are about source text: fast, and with no exceptions
//! that a macro could hide.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Longest source file, tests inside it not counted. A file that grows beyond it hides a noun that wants its own.
const LINES_MAX: usize = 500;

/// Crates that only these places may name: everything else goes through them.
const ENGINES: &[(&str, &[&str])] = &[
    ("axum", &["src/http/"]),
    ("tungstenite", &["src/http/ws/"]),
    ("engineioxide", &["src/http/socketio/"]),
    ("yrs", &["src/document/", "src/table/"]),
    ("sled", &["src/store/sled.rs", "src/store/local/"]),
    ("tokio_postgres", &["src/store/postgres"]),
    ("tokio_rustls", &["src/store/postgres/tls.rs"]),
    ("bincode", &["src/store/record.rs"]),
    ("jsonwebtoken", &["src/auth/"]),
    ("reqwest", &["src/auth/", "src/config/check.rs"]),
    ("redis", &["src/bus/redis.rs", "src/bus/redis/"]),
    ("rustls", &["src/bus/redis/", "src/store/postgres/tls.rs"]),
    ("clap", &["src/cli/"]),
    ("utoipa", &["src/http/"]),
];

/// What the pure crate must do without.
const IMPURE: &[&str] = &["tokio", "yrs", "std::time::Instant", "std::time::SystemTime", "std::fs", "std::net", "rand"];

const CRATES: [(&str, &str); 2] = [("src", "src/lib.rs"), ("protocol/src", "protocol/src/lib.rs")];

#[test]
fn modules_import_only_what_stands_above_them() {
    let mut broken = String::new();
    for (root, list) in CRATES {
        let order = declared(list);
        for file in sources(root) {
            let Some(own) = module_of(&file, root) else { continue };
            let own_place = order[&own];
            for (line, imported) in imports(&read(&file)) {
                if order.get(&imported).is_some_and(|place| *place > own_place) {
                    let _ =
                        writeln!(broken, "{}:{line}: {own} imports {imported}, which stands below it", file.display());
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn every_module_is_listed_in_the_order() {
    for (root, list) in CRATES {
        let order = declared(list);
        for file in sources(root) {
            let Some(own) = module_of(&file, root) else { continue };
            assert!(order.contains_key(&own), "{} is in no list of modules", file.display());
        }
    }
}

#[test]
fn engines_are_known_only_to_their_adapters() {
    let mut broken = String::new();
    for file in sources("src") {
        let path = file.to_string_lossy().into_owned();
        for (line, text) in code_lines(&read(&file)) {
            for (engine, homes) in ENGINES {
                if names_crate(&text, engine) && !homes.iter().any(|home| path.starts_with(home)) {
                    let _ = writeln!(broken, "{path}:{line}: {engine} is known only to {homes:?}");
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn the_protocol_is_pure() {
    for file in sources("protocol/src") {
        for (line, text) in code_lines(&read(&file)) {
            for impure in IMPURE {
                assert!(!names_crate(&text, impure), "{}:{line}: {impure} has no place here", file.display());
            }
        }
    }
}

#[test]
fn files_stay_readable() {
    for file in ["src", "protocol/src", "tests", "fuzz/targets"].into_iter().flat_map(sources) {
        let text = read(&file);
        assert!(
            text.starts_with("//!") || text.starts_with("#!"),
            "{}: the first line says what it is for",
            file.display()
        );
        let own = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        assert!(own <= LINES_MAX, "{}: {own} lines are more than {LINES_MAX}", file.display());
    }
}

#[test]
fn imports_stand_one_to_a_line() {
    for file in ["src", "protocol/src"].into_iter().flat_map(sources) {
        for (line, text) in code_lines(&read(&file)) {
            let grouped = text.starts_with("use ") && text.contains('{');
            assert!(!grouped, "{}:{line}: one `use` per line", file.display());
        }
    }
}

#[test]
fn tests_await_conditions_instead_of_sleeping() {
    for file in sources("tests").into_iter().filter(|file| !file.ends_with("tidy.rs")) {
        for (index, line) in read(&file).lines().enumerate() {
            let sleeps = line.contains("thread::sleep(") || line.contains("time::sleep(");
            // A bounded poll of something outside this process is no blind wait, and says so.
            let excused = line.contains("// poll");
            assert!(!sleeps || excused, "{}:{}: await the condition instead", file.display(), index + 1);
        }
    }
}

#[test]
fn no_test_is_switched_off() {
    for file in ["src", "protocol", "tests"].into_iter().flat_map(sources).filter(|file| !file.ends_with("tidy.rs")) {
        assert!(!read(&file).contains("#[ignore"), "{}: a test that does not run proves nothing", file.display());
    }
}

/// The modules of a crate in the order in which its root declares them.
fn declared(root_file: &str) -> BTreeMap<String, usize> {
    let text = read(Path::new(root_file));
    let name = |line: &str| {
        let line = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "))?;
        line.strip_suffix(';').map(str::to_owned)
    };
    text.lines().filter_map(name).enumerate().map(|(place, name)| (name, place)).collect()
}

/// The top-level module that a file belongs to; `None` for the crate's root files.
fn module_of(file: &Path, root: &str) -> Option<String> {
    let inner = file.strip_prefix(root).expect("it was found there");
    let first = inner.components().next()?.as_os_str().to_string_lossy().into_owned();
    let name = first.strip_suffix(".rs").unwrap_or(&first).to_owned();
    (!matches!(name.as_str(), "lib" | "main")).then_some(name)
}

/// Every `crate::module` that the code of a file names, with its line.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, text) in code_lines(text) {
        for after in text.split("crate::").skip(1) {
            let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push((line, name));
        }
    }
    found
}

/// Lines without comments, numbered from 1.
fn code_lines(text: &str) -> Vec<(usize, String)> {
    let code = |line: &str| line.split("//").next().unwrap_or_default().trim().to_owned();
    text.lines().enumerate().map(|(index, line)| (index + 1, code(line))).collect()
}

/// Whether code names a crate as the start of a path: `name::…`, but not `other::name::…`.
fn names_crate(text: &str, name: &str) -> bool {
    text.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

fn sources(root: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(Path::new(root), &mut found);
    found.sort();
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let skipped = path.file_name().is_some_and(|name| name == "node_modules" || name == "target");
        if path.is_dir() && !skipped {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
