//! Who may do what, who looks that up, and how it changes.

use syncline_protocol::ErrorCode;
use syncline_protocol::channel::Access;
use syncline_protocol::session::Grant;
use syncline_protocol::session::Input;

use crate::client::Right;
use crate::connection::Entrant;
use crate::server::Go;
use crate::world::World;

impl World {
    pub(crate) fn entrant(&self, index: usize, attachment: u32) -> Entrant {
        let client = &self.clients[index];
        Entrant { client: index, doc: client.doc, member: client.member.clone(), attachment }
    }

    pub(crate) fn verdict(&self, index: usize) -> Result<Grant, ErrorCode> {
        match self.clients[index].right {
            Right::Write => Ok(Grant { access: Access::Write, expires_at: None }),
            Right::Read => Ok(Grant { access: Access::Read, expires_at: None }),
            Right::Refused => Err(ErrorCode::Forbidden),
        }
    }

    /// Somebody checks a token, sooner or later.
    pub(crate) fn look_at_token(&mut self) -> Go {
        if self.server.questions.is_empty() {
            return Ok(());
        }
        let which = self.chance.below(self.server.questions.len());
        let question = self.server.questions.remove(which);
        let entrant = self.entrant(question.client, question.attachment);
        let verdict = self.verdict(question.client);
        self.server.judge(question, entrant, verdict)
    }

    /// Rights come and go.
    pub(crate) fn rare(&mut self, index: usize) -> Go {
        let client = &mut self.clients[index];
        let Some(id) = client.connection else { return Ok(()) };
        let channel = self.server.connections.get(&id).and_then(|link| link.channel_of(index));
        let is_provider = client.provider.is_some();
        let grant = |access| Grant { access, expires_at: None };
        let news = match self.chance.below(4) {
            0 if client.right == Right::Write && client.tab.is_none() => {
                client.right = Right::Read;
                channel.map(|channel| Input::Renewed { channel, grant: grant(Access::Read) })
            }
            1 if client.right == Right::Read && (is_provider || client.forbidden.is_empty()) => {
                client.allow();
                channel.map(|channel| Input::Renewed { channel, grant: grant(Access::Write) })
            }
            3 => {
                let link = self.server.connections.get_mut(&id).expect("connected");
                if let Some(provider) = client.provider.as_ref().filter(|provider| provider.may_leave()) {
                    provider.show_token(&mut link.to_server);
                }
                None
            }
            2 => channel.map(|channel| Input::Revoked { channel, code: ErrorCode::AuthExpired }),
            _ => None,
        };
        let Some(news) = news else { return Ok(()) };
        self.say(|| format!("client {index}: {news:?}"));
        self.server.rights(id, news)
    }
}
