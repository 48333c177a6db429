//! One socket: the link in both directions, and the server's end of it as `http::ws` has it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use syncline::document::core::ReaderId;
use syncline::document::port::Language;
use syncline::document::port::Port;
use syncline::document::request::Member;
use syncline::outbox::Closing;
use syncline::outbox::Next;
use syncline::outbox::Outbox;
use syncline_protocol::ErrorCode;
use syncline_protocol::channel::ChannelId;
use syncline_protocol::session::Grant;
use syncline_protocol::session::Input;
use syncline_protocol::session::Output;
use syncline_protocol::session::Session;
use syncline_protocol::session::SessionSettings;
use syncline_protocol::web_socket;
use syncline_protocol::web_socket::Opcode;

use crate::chance::Chance;
use crate::server::Go;
use crate::server::Mail;
use crate::server::Server;
use crate::server::broken;
use crate::wire::Pipe;

/// Frames that the network holds for a client that does not read.
const WINDOW: usize = 4;

#[derive(Debug)]
pub(crate) struct Connection {
    doc: usize,
    member: Option<Member>,
    pub(crate) to_server: VecDeque<Bytes>,
    pub(crate) to_client: VecDeque<Bytes>,
    /// What the client sees once it has read everything.
    pub(crate) closed: Option<u16>,
    /// The client hung up; the server may not know yet.
    pub(crate) client_gone: bool,
    pub(crate) lagged: bool,
    end: Option<End>,
}

/// The server's end.
#[derive(Debug)]
struct End {
    session: Session,
    outbox: Arc<Outbox>,
    pipe: Arc<Pipe>,
    membership: Option<(u64, ReaderId)>,
    todo: VecDeque<Output>,
    over: bool,
}

impl Connection {
    pub(crate) fn reader(&self) -> Option<ReaderId> {
        self.end.as_ref()?.membership.map(|(_, reader)| reader)
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
    pub(crate) fn connect(&mut self, doc: usize, member: Option<Member>, verdict: Result<Grant, ErrorCode>) -> u64 {
        let settings = SessionSettings {
            keep_alive: Duration::from_secs(20),
            grace: Duration::from_secs(1),
            hold: Duration::from_secs(3),
        };
        let mut outputs = Vec::new();
        let session = Session::y_websocket(self.now.moment, settings, verdict, &mut outputs);
        let id = self.number();
        let pipe = Arc::new(Pipe::new(id));
        let outbox = Outbox::new(self.now.moment, self.limits.outbox, self.budget.clone(), pipe.clone());
        let outbox = Arc::new(outbox);
        let end = End { session, outbox, pipe, membership: None, todo: outputs.into(), over: false };
        let connection = Connection {
            doc,
            member,
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
        let result = self.read_of(&mut connection);
        self.connections.insert(id, connection);
        result
    }

    fn read_of(&mut self, connection: &mut Connection) -> Go<bool> {
        let busy = self.do_outputs(connection);
        let Some(end) = &mut connection.end else { return Ok(busy) };
        if !end.todo.is_empty() {
            return Ok(busy);
        }
        let input = if let Some(frame) = connection.to_server.pop_front() {
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
        self.do_outputs(connection);
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
        end.todo.extend(outputs);
        Ok(())
    }

    /// The user's rights change.
    pub(crate) fn rights(&mut self, id: u64, news: Input) -> Go {
        let Some(mut connection) = self.connections.remove(&id) else { return Ok(()) };
        let result = self.tell(&mut connection, news);
        self.connections.insert(id, connection);
        result
    }

    /// Carries out what the session said, until the document's inbox is full.
    fn do_outputs(&mut self, connection: &mut Connection) -> bool {
        let inbox_max = self.limits.inbox;
        let (doc, member) = (connection.doc, connection.member.clone());
        let mut busy = false;
        loop {
            let Some(end) = &mut connection.end else { return busy };
            let Some(output) = end.todo.front() else { return busy };
            match output {
                Output::Attach { access, .. } => {
                    let access = *access;
                    let port =
                        Port { outbox: end.outbox.clone(), channel: ChannelId(0), language: Language::YWebsocket };
                    if let Some((actor, reader)) = end.membership {
                        self.send(actor, Mail::Rights { reader, access });
                    } else {
                        let actor = self.actor_of(doc);
                        let reader = ReaderId(self.number());
                        end.membership = Some((actor, reader));
                        self.actors.get_mut(&actor).expect("just found").holders += 1;
                        self.send(actor, Mail::Join { reader, access, member: member.clone(), port });
                    }
                }
                Output::Document { message, .. } => {
                    if let Some((actor, reader)) = end.membership {
                        let Some(actor) = self.actors.get_mut(&actor) else { return busy };
                        if actor.inbox.len() >= inbox_max || !actor.blocked.is_empty() {
                            return busy;
                        }
                        actor.inbox.push_back(Mail::Message { reader, message: message.clone() });
                    }
                }
                Output::Send(payload) => end.outbox.push_control(web_socket::frame(Opcode::Binary, payload)),
                Output::Detach { .. } => {
                    let membership = end.membership.take();
                    self.leave(membership);
                }
                Output::Close { code, reason } => end.outbox.close(Closing { code: *code, reason }),
                // The dialect that is spoken here brought its verdict along.
                Output::Authenticate { .. } => {}
            }
            busy = true;
            if let Some(end) = &mut connection.end {
                end.todo.pop_front();
            }
        }
    }

    fn send(&mut self, actor: u64, mail: Mail) {
        let inbox_max = self.limits.inbox;
        if let Some(actor) = self.actors.get_mut(&actor) {
            actor.send(mail, inbox_max);
        }
    }

    fn leave(&mut self, membership: Option<(u64, ReaderId)>) {
        let Some((actor, reader)) = membership else { return };
        self.send(actor, Mail::Leave { reader });
        if let Some(actor) = self.actors.get_mut(&actor) {
            actor.holders -= 1;
        }
    }

    fn vanish(&mut self, connection: &mut Connection) {
        if let Some(end) = connection.end.take() {
            self.leave(end.membership);
        }
    }

    /// The writer takes the next thing from the outbox, if the network takes it.
    pub(crate) fn write(&mut self, id: u64) -> Go<bool> {
        let Some(mut connection) = self.connections.remove(&id) else { return Ok(false) };
        let result = self.write_of(&mut connection);
        self.connections.insert(id, connection);
        result
    }

    fn write_of(&mut self, connection: &mut Connection) -> Go<bool> {
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
                self.do_outputs(connection);
                moved = true;
            }
            Next::Caught(_) => {
                if let Some((actor, reader)) = end.membership {
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
