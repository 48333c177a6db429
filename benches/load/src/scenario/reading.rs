//! A large document on a server, and the clients who open it and wait until they have all of it.

use std::ops::Range;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use crate::account::Histogram;
use crate::account::History;
use crate::account::Tally;
use crate::account::rebuilt_text;
use crate::client::ClientId;
use crate::client::Event;
use crate::client::Fleet;
use crate::client::Message;
use crate::client::Say;
use crate::edit::Paper;
use crate::edit::Typist;
use crate::edit::letter;
use crate::scenario::Args;
use crate::scenario::Stage;
use crate::scenario::fanout::author_base;
use crate::scenario::stage::Load;
use crate::scenario::whole::Clocks;

/// The paper, who brought it, and who is reading it.
pub(super) struct Reading {
    /// The document's name.
    name: String,
    paper: Paper,
    /// Bytes of the update that brought it.
    bytes: usize,
    typist: Typist,
    /// Where the typist is: so many characters of the paper stand before.
    typed_at: usize,
    /// What the document holds.
    document: Clocks,
    /// Who brought the paper and types in it, and what came back to them: a server's echo.
    author: Option<(ClientId, Clocks)>,
    /// Who opened it last; the first one's updates are kept.
    readers: Range<ClientId>,
    received: Vec<Clocks>,
    first: History,
    began_ns: u64,
    waiting: u64,
    /// From the first connection of a group to the last byte of each member.
    took: Histogram,
}

impl Reading {
    /// Connects an author who brings a paper of `args.bytes`, and waits for the echo.
    ///
    /// # Errors
    /// When it does not come.
    pub(super) fn bring(args: &Args, stage: &mut Stage) -> Result<Self> {
        ensure!(args.target.answers_sync(), "{} has no state that could be opened", args.target.name());
        let mut random = fastrand::Rng::with_seed(args.seed);
        let base = author_base(&mut random);
        let paper = Paper::new(args.bytes, args.authors, base + 1000, args.seed);
        let update = paper.update();
        let mut document = Clocks::default();
        document.take(&update)?;
        let mut typist = Typist::new(base);
        let (left, right, typed_at) = paper.place_to_type(random.usize(0..paper.places()));
        typist.go_between(left, right);
        let name = stage.new_document();
        let mut reading = Self {
            name: name.clone(),
            paper,
            bytes: update.len(),
            typist,
            typed_at,
            document,
            author: Some((stage.fleet.clients(), Clocks::default())),
            readers: 0..0,
            received: Vec::new(),
            first: History::default(),
            began_ns: 0,
            waiting: 0,
            took: Histogram::default(),
        };
        stage.open(std::iter::once(name), &mut reading)?;
        reading.send(stage, &update)?;
        Ok(reading)
    }

    /// Bytes of the update that brought the paper.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The author types one character, and waits for the echo: whatever a server has prepared is out of date.
    ///
    /// # Errors
    /// When the echo does not come.
    pub(super) fn type_one(&mut self, stage: &mut Stage) -> Result<()> {
        let mut update = Vec::new();
        self.typist.type_one(&mut update);
        self.document.take(&update)?;
        self.send(stage, &update)
    }

    /// So many clients open it at once and wait until they have all of it.
    ///
    /// # Errors
    /// When they do not get it.
    pub(super) fn open(&mut self, stage: &mut Stage, clients: usize) -> Result<()> {
        let first = stage.fleet.clients();
        self.readers = first..first + clients;
        self.received = vec![Clocks::default(); clients];
        self.first = History::default();
        self.waiting = clients as u64;
        self.began_ns = stage.fleet.now_ns();
        let name = self.name.clone();
        stage.open(std::iter::repeat_n(name, clients), self)?;
        stage.drain(self)
    }

    /// Who opened it last hangs up.
    ///
    /// # Errors
    /// When they are not there any more.
    pub(super) fn hang_up(&mut self, stage: &mut Stage) -> Result<()> {
        self.readers.clone().try_for_each(|id| stage.fleet.hang_up(id))
    }

    /// The server was killed and all clients with it.
    pub(super) fn forget_clients(&mut self) {
        self.author = None;
        self.readers = 0..0;
    }

    /// How long clients took to have all of it.
    pub(super) fn took(&self) -> &Histogram {
        &self.took
    }

    /// Forgets how long clients took.
    pub(super) fn clear_took(&mut self) {
        self.took.clear();
    }

    /// Builds again what the first of the last group was sent.
    ///
    /// # Errors
    /// When it is not what was brought and typed.
    pub(super) fn verify(&self) -> Result<()> {
        let text = rebuilt_text(self.first.updates(), self.paper.root())?;
        let mut expected = self.paper.text();
        let typed: String = (0..self.typist.typed()).map(|clock| char::from(letter(clock))).collect();
        expected.insert_str(self.typed_at, &typed);
        ensure!(text == expected, "a reader's text of {} characters is not the author's", text.len());
        Ok(())
    }

    fn send(&mut self, stage: &mut Stage, update: &[u8]) -> Result<()> {
        let Some((author, _)) = &self.author else { bail!("the author is gone") };
        stage.fleet.send(*author, Say::Update(update));
        stage.drain(self)
    }

    fn receive(&mut self, now_ns: u64, id: ClientId, update: &[u8]) -> Result<()> {
        if let Some((author, echoed)) = &mut self.author
            && *author == id
        {
            return echoed.take(update);
        }
        if !self.readers.contains(&id) {
            return Ok(());
        }
        if id == self.readers.start {
            self.first.keep(update)?;
        }
        let received = &mut self.received[id - self.readers.start];
        let was_whole = received.cover(&self.document);
        received.take(update)?;
        if !was_whole && received.cover(&self.document) {
            self.took.record(now_ns - self.began_ns);
            self.waiting -= 1;
        }
        Ok(())
    }
}

impl Load for Reading {
    fn act(&mut self, _: &mut Fleet, _: &mut Tally) -> Result<Option<u64>> {
        Ok(None)
    }

    fn on_event(&mut self, now_ns: u64, id: ClientId, event: Event<'_>, _: &mut Tally) -> Result<()> {
        match event {
            Event::Message(Message::Update(update) | Message::SyncStep2(update)) => self.receive(now_ns, id, update),
            Event::Message(Message::Refused(reason)) => bail!("refused: {}", String::from_utf8_lossy(reason)),
            Event::Message(Message::SyncStatus(false)) => bail!("an update was refused"),
            Event::Message(_) | Event::Ready | Event::Closed(..) => Ok(()),
        }
    }

    fn outstanding(&self) -> u64 {
        let is_echoed = self.author.as_ref().is_none_or(|(_, echoed)| echoed.cover(&self.document));
        self.waiting + u64::from(!is_echoed)
    }
}
