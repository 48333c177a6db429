//! placeholder
use super::*;
#[derive(Debug, Clone)]
pub(super) struct Hocuspocus {
    settings: HocuspocusSettings,
}
impl Hocuspocus {
    pub(super) fn begin(_now: Moment, settings: HocuspocusSettings) -> Self {
        Self { settings }
    }
    pub(super) fn handle(&mut self, _now: Moment, _input: Input, _out: &mut Vec<Output>) {
        let _ = self.settings;
    }
    pub(super) fn deadline(&self, _last_sent: Moment) -> Option<Moment> {
        None
    }
}
