//! Embeds the demo page: `web/dist` where `make web` has built it, a page that says so where not.

use std::env;
use std::fs;
use std::io;
use std::path::Path;

const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Syncline</title>\
    <p>Syncline is running. This binary was built without its demo page: run <code>make web</code>, then build again.</p></html>\n";

fn main() -> io::Result<()> {
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    let out = Path::new(&out).join("demo");
    fs::create_dir_all(&out)?;
    println!("cargo::rerun-if-changed={}", watched());
    for (name, fallback) in [("index.html", MISSING), ("main.js", ""), ("style.css", "")] {
        let built = Path::new("web/dist").join(name);
        match fs::read(&built) {
            Ok(bytes) => write_if_changed(&out.join(name), &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_if_changed(&out.join(name), fallback.as_bytes())?
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The nearest path that exists: cargo builds everything again, every time, when a watched path is missing.
fn watched() -> &'static str {
    ["web/dist", "web"].into_iter().find(|path| Path::new(path).is_dir()).unwrap_or("build.rs")
}

/// Leaves the time stamp of an unchanged file alone, so that the crate is not compiled again for nothing.
fn write_if_changed(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|known| known == bytes) { Ok(()) } else { fs::write(path, bytes) }
}
