//! A cable to a server that can be pulled: what goes through is passed on as it is.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Listens on a port of its own.
#[derive(Debug)]
pub(crate) struct Cable {
    address: SocketAddr,
    plugged: watch::Sender<bool>,
    _passing: JoinSet<()>,
}

impl Cable {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (plugged, watched) = watch::channel(true);
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                connections.spawn(pass(near, port, watched.clone()));
            }
        });
        Self { address, plugged, _passing: passing }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Every connection through it breaks, and no other comes about.
    pub(crate) fn pull(&self) {
        self.plugged.send_replace(false);
    }

    pub(crate) fn plug(&self) {
        self.plugged.send_replace(true);
    }
}

async fn pass(mut near: TcpStream, port: u16, mut plugged: watch::Receiver<bool>) {
    if !*plugged.borrow() {
        return;
    }
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = plugged.wait_for(|plugged| !plugged) => {}
    }
}
