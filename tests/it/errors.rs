//! The reference of error codes says what the code does.

use std::path::Path;

use syncline_protocol::ErrorCode;

#[test]
fn the_documented_codes_are_the_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ERRORS.md");
    let text = std::fs::read_to_string(path).expect("docs/ERRORS.md is there");
    let rows = text.lines().filter(|line| line.starts_with("| `")).map(first_cells);
    // Another table says in words what clients make of them.
    let documented: Vec<_> = rows.filter(|[_, status, _]| status.parse::<u16>().is_ok()).collect();
    let row = |code: &ErrorCode| {
        let close = code.close_code().map_or_else(|| "–".to_owned(), |close| close.to_string());
        [format!("`{}`", code.word()), code.http_status().to_string(), close]
    };
    assert_eq!(documented, ErrorCode::ALL.iter().map(row).collect::<Vec<_>>());
}

fn first_cells(line: &str) -> [String; 3] {
    let mut cells = line.split('|').skip(1).map(|cell| cell.trim().to_owned());
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}
