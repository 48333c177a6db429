//! One socket: the link in both directions, and the server's end of it as `http::ws` has it.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use syncline::document::core::ReaderId;
use syncline::document::port::Language;
use syncline::document::port::Line;
use syncline::document::port::Port;
use syncline::document::request::Member;
use syncline::outbox::Closing;
use syncline::outbox::Next;
use syncline::outbox::Outbox;
use syncline_protocol::ErrorCode;
use syncline_protocol::channel::Access;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::channel::DocumentMessage;
use syncline_protocol::channel::Token;
use syncline_protocol::hocuspocus;
use syncline_protocol::hocuspocus::Frame;
use syncline_protocol::hocuspocus::Message;
use syncline_protocol::session::Grant;
use syncline_protocol::session::HocuspocusSettings;
use syncline_protocol::session::Input;
use syncline_protocol::session::Output;
use syncline_protocol::session::Peer;
use syncline_protocol::session::Session;
use syncline_protocol::session::SessionSettings;
use syncline_protocol::web_socket;
use syncline_protocol::web_socket::Opcode;

use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::ledger::Stamp;
use crate::mail::Mail;
use crate::server::Go;
use crate::server::Server;
use crate::server::broken;
use crate::wire::Pipe;

/// Frames that the network holds for a client that does not read.
const WINDOW: usize = 4;

#[derive(Debug)]
pub(crate) struct Connection {
    /// Who was let in on which channel, or wants to be.
    entrants: BTreeMap<ChannelId, Entrant>,
    /// What each client that counts was told, by its index.
    pub(crate) ledgers: BTreeMap<usize, Ledger>,
    /// Whose each address is.
    clients: BTreeMap<Bytes, usize>,
    pub(crate) to_server: VecDeque<Bytes>,
    pub(crate) to_client: VecDeque<Bytes>,
    /// What the client sees once it has read everything.
    pub(crate) closed: Option<u16>,
    /// The client hung up; the server may not know yet.
    pub(crate) client_gone: bool,
    pub(crate) lagged: bool,
    end: Option<End>,
}

/// Who is on a channel.
#[derive(Debug, Clone)]
pub(crate) struct Entrant {
    pub(crate) client: usize,
    pub(crate) doc: usize,
    pub(crate) member: Option<Member>,
    /// How often its client had begun at this address.
    pub(crate) attachment: u32,
}

/// A token that somebody is to look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) connection: u64,
    pub(crate) channel: ChannelId,
    pub(crate) client: usize,
    pub(crate) attachment: u32,
}

/// The server's end.
#[derive(Debug)]
struct End {
    session: Session,
    outbox: Arc<Outbox>,
    pipe: Arc<Pipe>,
    memberships: BTreeMap<ChannelId, Membership>,
    /// With the stamp of each step 1.
    todo: VecDeque<(Option<Stamp>, Output)>,
    over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Membership {
    actor: u64,
    reader: ReaderId,
}

impl Connection {
    pub(crate) fn has(&self, reader: ReaderId) -> bool {
        self.end.as_ref().is_some_and(|end| end.memberships.values().any(|membership| membership.reader == reader))
    }

    /// The channel on which a client is, or is about to be.
    pub(crate) fn channel_of(&self, client: usize) -> Option<ChannelId> {
        self.entrants.iter().rev().find(|(_, entrant)| entrant.client == client).map(|(&channel, _)| channel)
    }

    /// Keeps the book of what clients begin, where they say who they are.
    fn note(&mut self, frame: &Bytes) {
        let Ok(Frame::Addressed(addressed)) = hocuspocus::split(frame.clone()) else { return };
        let address = Bytes::copy_from_slice(addressed.address());
        match addressed.message() {
            Ok(Message::Auth { token, .. }) => {
                let Some((client, attachment)) = holder_of(&token) else { return };
                self.clients.insert(address, client);
                self.ledgers.entry(client).or_default().asked(attachment);
            }
            Ok(Message::Document(DocumentMessage::SyncStep1(_))) => {
                let ledger = self.clients.get(&address).and_then(|client| self.ledgers.get_mut(client));
                ledger.map(Ledger::heard_step1);
            }
            _ => {}
        }
    }

    /// As far as the client had begun that says this, if it begins with it.
    fn stamp_of(&self, output: &Output) -> Option<Stamp> {
        let Output::Document { channel, message: DocumentMessage::SyncStep1(_) } = output else { return None };
        self.ledgers.get(&self.entrants.get(channel)?.client).map(Ledger::heard)
    }

    pub(crate) fn server_died(&mut self, chance: &mut Chance) {
        self.end = None;
        let arrives = chance.below(self.to_client.len() + 1);
        self.to_client.truncate(arrives);
        self.closed.get_or_insert(1006);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.end.is_none() && self.client_gone
    }
}

impl Server {
    /// One document on a socket.
    pub(crate) fn connect(&mut self, entrant: Entrant, verdict: Result<Grant, ErrorCode>) -> u64 {
        let settings = SessionSettings {
            keep_alive: Duration::from_secs(20),
            grace: Duration::from_secs(1),
            hold: Duration::from_secs(3),
            hold_ended: Duration::from_secs(3),
        };
        let mut outputs = Vec::new();
        let session = Session::y_websocket(self.now.moment, settings, verdict, &mut outputs);
        self.accept(session, outputs, [(ChannelId(0), entrant)].into())
    }

    /// As many documents on a socket as want to be.
    pub(crate) fn connect_many(&mut self) -> u64 {
        let settings = HocuspocusSettings {
            keep_alive: Duration::from_secs(20),
            grace: Duration::from_secs(1),
            renew_before: Duration::from_secs(30),
            auth_within: Duration::from_secs(20),
            sync_within: Duration::from_secs(10),
            channels_max: 8,
            anonymous: false,
        };
        self.accept(Session::hocuspocus(self.now.moment, settings), Vec::new(), BTreeMap::new())
    }

    fn accept(&mut self, session: Session, outputs: Vec<Output>, entrants: BTreeMap<ChannelId, Entrant>) -> u64 {
        let id = self.number();
        let pipe = Arc::new(Pipe::new(id));
        let outbox = Outbox::new(self.now.moment, self.limits.outbox, self.budget.clone(), pipe.clone());
        let outbox = Arc::new(outbox);
        let end = End {
            session,
            outbox,
            pipe,
            memberships: BTreeMap::new(),
            todo: outputs.into_iter().map(|output| (None, output)).collect(),
            over: false,
        };
        let connection = Connection {
            entrants,
            ledgers: BTreeMap::new(),
            clients: BTreeMap::new(),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            closed: None,
            client_gone: false,
            lagged: false,
            end: Some(end),
        };
        self.connections.insert(id, connection);
        id
    }

    /// The server's end does what it can: decisions first, then one frame. Answers whether there was anything to do.
    pub(crate) fn read(&mut self, id: u64) -> Go<bool> {
        let Some(mut connection) = self.connections.remove(&id) else { return Ok(false) };
        let result = self.read_of(id, &mut connection);
        self.connections.insert(id, connection);
        result
    }

    fn read_of(&mut self, id: u64, connection: &mut Connection) -> Go<bool> {
        let busy = self.do_outputs(id, connection);
        let Some(end) = &mut connection.end else { return Ok(busy) };
        if !end.todo.is_empty() {
            return Ok(busy);
        }
        let input = if let Some(frame) = connection.to_server.pop_front() {
            connection.note(&frame);
            Input::Frame(frame)
        } else if connection.client_gone {
            self.vanish(connection);
            return Ok(true);
        } else if end.session.deadline(end.outbox.last_written()).is_some_and(|due| due <= self.now.moment) {
            Input::Tick { last_sent: end.outbox.last_written() }
        } else {
            return Ok(busy);
        };
        self.tell(connection, input)?;
        self.do_outputs(id, connection);
        Ok(true)
    }

    fn tell(&mut self, connection: &mut Connection, input: Input) -> Go {
        let Some(end) = &mut connection.end else { return Ok(()) };
        let mut outputs = Vec::new();
        end.session.handle(self.now.moment, input, &mut outputs);
        if end.over && !outputs.is_empty() {
            return broken("a closed session goes on");
        }
        end.over |= outputs.iter().any(|output| matches!(output, Output::Close { .. }));
        let stamped: Vec<_> = outputs.into_iter().map(|output| (connection.stamp_of(&output), output)).collect();
        if let Some(end) = &mut connection.end {
            end.todo.extend(stamped);
        }
        Ok(())
    }

    /// The user's rights change.
    pub(crate) fn rights(&mut self, id: u64, news: Input) -> Go {
        let Some(mut connection) = self.connections.remove(&id) else { return Ok(()) };
        let result = self.tell(&mut connection, news);
        self.connections.insert(id, connection);
        result
    }

    /// A token was looked at; who it belongs to is known from here on.
    pub(crate) fn judge(&mut self, question: Question, entrant: Entrant, verdict: Result<Grant, ErrorCode>) -> Go {
        let Question { connection: id, channel, .. } = question;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.entrants.insert(channel, entrant);
        }
        self.rights(id, Input::Verdict { channel, verdict })
    }

    /// Carries out what the session said, until the document's inbox is full.
    fn do_outputs(&mut self, id: u64, connection: &mut Connection) -> bool {
        let mut busy = false;
        loop {
            let Some(end) = &mut connection.end else { return busy };
            let Some((stamp, output)) = end.todo.front().cloned() else { return busy };
            if !self.do_output(id, connection, stamp, output) {
                return busy;
            }
            busy = true;
            if let Some(end) = &mut connection.end {
                end.todo.pop_front();
            }
        }
    }

    /// `false`: it has to wait.
    fn do_output(&mut self, id: u64, connection: &mut Connection, stamp: Option<Stamp>, output: Output) -> bool {
        let Some(end) = &mut connection.end else { return true };
        match output {
            Output::Attach { channel, access, peer } => {
                if let Some(&Membership { actor, reader }) = end.memberships.get(&channel) {
                    self.send(actor, Mail::Rights { reader, access });
                    return true;
                }
                let language = match peer {
                    None => Language::YWebsocket,
                    Some(Peer { address, provider }) => Language::Hocuspocus { address, provider },
                };
                let line = Line { outbox: end.outbox.clone(), channel, language };
                self.attach(id, connection, access, line);
            }
            Output::Document { channel, message } => {
                let Some(&Membership { actor, reader }) = end.memberships.get(&channel) else { return true };
                let inbox_max = self.limits.inbox;
                let Some(actor) = self.actors.get_mut(&actor) else { return false };
                if actor.inbox.len() >= inbox_max || !actor.blocked.is_empty() {
                    return false;
                }
                actor.inbox.push_back(Mail::Message { reader, message });
                let client = connection.entrants.get(&channel).map(|entrant| entrant.client);
                if let (Some(ledger), Some(stamp)) = (client.and_then(|of| connection.ledgers.get_mut(&of)), stamp) {
                    ledger.begins(reader, stamp);
                }
            }
            Output::Send(payload) => end.outbox.push_control(web_socket::frame(Opcode::Binary, &payload)),
            Output::Detach { channel } => {
                let membership = end.memberships.remove(&channel);
                connection.entrants.remove(&channel);
                self.leave(membership);
            }
            Output::Close { code, reason } => end.outbox.close(Closing { code, reason }),
            Output::Authenticate { channel, token, .. } => self.questions.extend(question(id, channel, &token)),
        }
        true
    }

    fn attach(&mut self, id: u64, connection: &mut Connection, access: Access, line: Line) {
        let channel = line.channel;
        let (Some(end), Some(entrant)) = (&mut connection.end, connection.entrants.get(&channel)) else { return };
        let Entrant { client, doc, member, attachment } = entrant.clone();
        let actor = self.actor_of(doc);
        let reader = ReaderId(self.number());
        end.memberships.insert(channel, Membership { actor, reader });
        connection.ledgers.entry(client).or_default().attached(reader, attachment);
        self.routes.insert(reader, (id, client));
        self.actors.get_mut(&actor).expect("just found").holders += 1;
        self.send(actor, Mail::Join { reader, access, member, port: Port::Line(line) });
    }

    fn send(&mut self, actor: u64, mail: Mail) {
        let inbox_max = self.limits.inbox;
        if let Some(actor) = self.actors.get_mut(&actor) {
            actor.send(mail, inbox_max);
        }
    }

    fn leave(&mut self, membership: Option<Membership>) {
        let Some(Membership { actor, reader }) = membership else { return };
        self.send(actor, Mail::Leave { reader });
        if let Some(actor) = self.actors.get_mut(&actor) {
            actor.holders -= 1;
        }
    }

    fn vanish(&mut self, connection: &mut Connection) {
        let Some(end) = connection.end.take() else { return };
        for membership in end.memberships.into_values() {
            self.leave(Some(membership));
        }
    }

    /// The writer takes the next thing from the outbox, if the network takes it.
    pub(crate) fn write(&mut self, id: u64) -> Go<bool> {
        let Some(mut connection) = self.connections.remove(&id) else { return Ok(false) };
        let result = self.write_of(id, &mut connection);
        self.connections.insert(id, connection);
        result
    }

    fn write_of(&mut self, id: u64, connection: &mut Connection) -> Go<bool> {
        let Some(end) = &mut connection.end else { return Ok(false) };
        let limits = self.limits.outbox;
        if end.outbox.bytes() > limits.bytes_max.max(1 << 16) {
            return broken("an outbox is over its bound");
        }
        let mut moved = end.pipe.deliver(&mut connection.to_client);
        if connection.to_client.len() >= WINDOW {
            return Ok(moved);
        }
        match end.outbox.next() {
            Next::Flush | Next::Blocked => {
                end.pipe.make_room();
                end.outbox.unblock();
                end.outbox.flush(self.now.moment);
                end.pipe.deliver(&mut connection.to_client);
                moved = true;
            }
            Next::Ended(ended) => {
                for (channel, code) in ended {
                    self.tell(connection, Input::Ended { channel, code })?;
                }
                self.do_outputs(id, connection);
                moved = true;
            }
            Next::Caught(channels) => {
                let behind = channels.iter().filter_map(|channel| end.memberships.get(channel)).copied();
                for Membership { actor, reader } in behind.collect::<Vec<_>>() {
                    self.send(actor, Mail::Drained { reader });
                }
                moved = true;
            }
            Next::Close(closing) => {
                connection.closed = Some(closing.code);
                self.vanish(connection);
                moved = true;
            }
            Next::Recheck(_) => return broken("nobody revokes anything here"),
            Next::Dead => return broken("a socket died of itself"),
            Next::Idle => {}
        }
        Ok(moved)
    }
}

/// Tokens here say whose they are, and how often he has begun.
pub(crate) fn token_of(client: usize, attachment: u32) -> String {
    format!("{client}/{attachment}")
}

fn holder_of(token: &Token) -> Option<(usize, u32)> {
    let (client, attachment) = token.secret().split_once('/')?;
    Some((client.parse().ok()?, attachment.parse().ok()?))
}

fn question(connection: u64, channel: ChannelId, token: &Token) -> Option<Question> {
    let (client, attachment) = holder_of(token)?;
    Some(Question { connection, channel, client, attachment })
}
