//! How a document reaches the other nodes that hold it, and hears them.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;

use crate::bus::Topic;
use crate::bus::news::News;
use crate::clock::Now;
use crate::document::core::Cluster;
use crate::document::core::Input;
use crate::document::mail::PeerMail;
use crate::document::peer::PeerMessage;
use crate::document::port::Port;
use crate::store::Seq;

use super::Actor;
use super::BATCH_MAX;

impl Actor {
    /// Loads, after this document's topic is listened to: what is made durable in between is heard.
    pub(super) fn load(&mut self) -> Pin<Box<dyn Future<Output = Input<Port>> + Send>> {
        let (store, doc) = (self.around.store.clone(), self.name.clone());
        let listening = self.around.link.as_ref().filter(|_| !std::mem::replace(&mut self.listens, true));
        let Some(link) = listening else { return Box::pin(store.load(&doc).map(Input::Loaded)) };
        let subscribed = link.bus.subscribe(&Topic::Doc(doc.clone()));
        Box::pin(async move {
            subscribed.await;
            Input::Loaded(store.load(&doc).await)
        })
    }

    /// Reads on in the log while everything else goes on.
    pub(super) fn pull(&mut self, after: Seq) {
        let pulled = self.around.store.load_after(&self.name, after);
        self.pulling = Some(Box::pin(pulled.map(Input::Pulled)));
    }

    /// Says something to the other holders. Where each node has a store of its own, some of it is for those too that do not
    /// hold the document now.
    pub(super) fn tell_peers(&mut self, message: &PeerMessage) {
        let Some(link) = self.around.link.clone() else { return };
        let asks = matches!(message, PeerMessage::Digest(digest) if digest.asks);
        let for_all = asks || matches!(message, PeerMessage::Deleted(_));
        let body = message.encode();
        if for_all && matches!(self.around.settings.cluster, Cluster::Apart(_)) {
            link.bus.publish(&Topic::Nodes, News::Doc { name: self.name.clone(), message: body }.encode());
        } else {
            link.bus.publish(&Topic::Doc(self.name.clone()), body);
        }
        if asks {
            let others = if link.bus.is_up() { link.others.load(Ordering::Relaxed) } else { 0 };
            let now = self.around.clock.now();
            self.core.handle(now, Input::Others(others), &mut self.effects);
        }
    }

    /// Hands the core what other nodes said. What is said while the document is loaded comes when it is.
    pub(super) fn take_from_peers(&mut self, now: Now) {
        if self.missed.swap(false, Ordering::Relaxed) {
            self.handle(now, Input::Missed);
        }
        let _ = self.peers.receive(&mut self.said, BATCH_MAX).now_or_never();
        while !self.core.awaits_store() && !self.core.awaits_engine() {
            let Some(mail) = self.said.pop_front() else { return };
            self.handle(now, Self::input_of(mail));
        }
    }

    fn input_of(mail: PeerMail) -> Input<Port> {
        match mail {
            PeerMail::Said { from, missed, body } => Input::Peer { from, missed, message: PeerMessage::decode(body) },
            PeerMail::Lost(node) => Input::NodeLost(node),
            PeerMail::Resumed => Input::Resumed,
        }
    }

    /// Listens no more.
    pub(super) fn leave_peers(&mut self) {
        if let Some(link) = self.around.link.as_ref().filter(|_| std::mem::take(&mut self.listens)) {
            let topic = Topic::Doc(self.name.clone());
            link.bus.publish(&topic, PeerMessage::Bye.encode());
            link.bus.unsubscribe(&topic);
        }
    }
}
