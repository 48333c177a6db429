//! The lines of the walk-through do what the page says, as they are printed.

use std::path::Path;

use tokio::process::Command;

use crate::server::PATIENCE;
use crate::server::Server;

#[tokio::test]
async fn the_walk_through_of_integration_runs_as_printed() {
    let server = Server::dev().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/walk-through.sh");
    let walk = Command::new("bash").arg(script).arg(server.url("")).output();
    let walk = tokio::time::timeout(PATIENCE, walk).await.expect("the walk ends").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(20_000).collect::<String>();
    assert!(walk.status.success(), "{}\n{}", text(&walk.stdout), text(&walk.stderr));
    assert_eq!(server.json("/v1/tables/parts").await["recordCount"], 10_001);
}
