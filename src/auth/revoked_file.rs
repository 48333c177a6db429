//! The file in which revocations outlive the process: a line that says what follows, then a line for each.
//!
//! It is replaced as a whole, so there is always either the old one or the new one. The checksum is for what a disk or an
//! editor does to it: a list that lost a line would let somebody in.

use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::auth::revoked::Revoked;

const FORMAT: &str = "syncline-revoked";
const VERSION: u32 = 1;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    entries: usize,
    /// Of all bytes after this line.
    crc32: u32,
}

/// Every other line.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields, rename_all_fields = "camelCase")]
enum Line {
    Token { jti: String, until_ms: u64 },
    User { sub: String, issued_until_ms: u64, until_ms: u64 },
}

/// Everything in the file, the oldest first; nothing when there is no file.
///
/// # Errors
/// When it cannot be read or is damaged. The message is for the operator.
pub(super) fn read(path: &Path) -> io::Result<Vec<Revoked>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|error| refused(path, &error.to_string()))?,
    };
    decode(&text).map_err(|why| refused(path, why))
}

/// Replaces the file.
pub(super) fn write(path: &Path, entries: &[Revoked]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(encode(entries)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The new name itself has to reach the disk too.
    path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

fn encode(entries: &[Revoked]) -> io::Result<String> {
    let mut lines = String::new();
    for entry in entries {
        lines.push_str(&serde_json::to_string(&Line::from(entry))?);
        lines.push('\n');
    }
    let crc32 = crc32fast::hash(lines.as_bytes());
    let head = Head { format: FORMAT.into(), version: VERSION, entries: entries.len(), crc32 };
    Ok(format!("{}\n{lines}", serde_json::to_string(&head)?))
}

fn decode(text: &str) -> Result<Vec<Revoked>, &'static str> {
    let (head, lines) = text.split_once('\n').ok_or("it has no first line")?;
    let head: Head = serde_json::from_str(head).map_err(|_| "its first line is damaged")?;
    if head.format != FORMAT {
        return Err("it is some other file");
    }
    if head.version != VERSION {
        return Err("it was written by a newer version");
    }
    if head.crc32 != crc32fast::hash(lines.as_bytes()) {
        return Err("its checksum does not fit");
    }
    let entries = lines.lines().map(|line| serde_json::from_str::<Line>(line).map(Revoked::from));
    let entries = entries.collect::<Result<Vec<_>, _>>().map_err(|_| "one of its lines cannot be read")?;
    if entries.len() == head.entries { Ok(entries) } else { Err("it has another number of lines") }
}

fn refused(path: &Path, why: &str) -> io::Error {
    let text = format!(
        "cannot read which tokens were revoked from {}: {why}. Restore it from a backup; or remove it, and tokens that were \
         revoked work again until they run out",
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl From<&Revoked> for Line {
    fn from(entry: &Revoked) -> Self {
        match entry.clone() {
            Revoked::Token { jti, until_ms } => Self::Token { jti, until_ms },
            Revoked::User { sub, issued_until_ms, until_ms } => Self::User { sub, issued_until_ms, until_ms },
        }
    }
}

impl From<Line> for Revoked {
    fn from(line: Line) -> Self {
        match line {
            Line::Token { jti, until_ms } => Self::Token { jti, until_ms },
            Line::User { sub, issued_until_ms, until_ms } => Self::User { sub, issued_until_ms, until_ms },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Revoked> {
        vec![
            Revoked::User {
                sub: "al\"ice\u{2028}".into(),
                issued_until_ms: 1_700_000_000_000,
                until_ms: 1_700_086_400_000,
            },
            Revoked::Token { jti: "0c5e".into(), until_ms: 1_700_000_360_000 },
        ]
    }

    /// Files of this version are read for ever.
    const GOLDEN: &str = concat!(
        r#"{"format":"syncline-revoked","version":1,"entries":2,"crc32":3789746353}"#,
        "\n",
        r#"{"sub":"al\"ice"#,
        "\u{2028}",
        r#"","issuedUntilMs":1700000000000,"untilMs":1700086400000}"#,
        "\n",
        r#"{"jti":"0c5e","untilMs":1700000360000}"#,
        "\n",
    );

    #[test]
    fn the_format_is_what_it_was() {
        assert_eq!(encode(&entries()).unwrap(), GOLDEN);
        assert_eq!(decode(GOLDEN), Ok(entries()));
    }

    #[test]
    fn what_is_written_is_read_and_replaces_what_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.jsonl");
        assert_eq!(read(&path).unwrap(), []);
        write(&path, &entries()).unwrap();
        assert_eq!(read(&path).unwrap(), entries());
        write(&path, &[]).unwrap();
        assert_eq!(read(&path).unwrap(), []);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_damaged_file_is_refused_wherever_the_damage_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revoked.jsonl");
        let good = encode(&entries()).unwrap().into_bytes();
        let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|at| good[..at].to_vec()).collect();
        damaged.extend((0..good.len()).map(|at| {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            flipped
        }));
        for bytes in damaged {
            fs::write(&path, &bytes).unwrap();
            let error = read(&path).err().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&bytes)));
            assert!(error.to_string().contains("revoked.jsonl"), "{error}");
        }
    }
}
