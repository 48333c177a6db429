//! The log: one line per event on standard error, JSON for machines or plain for people.
//!
//! `{timestamp, level, event, userId?, channelId?, metadata?}`. `event` is the field of that name, or the message;
//! `user_id` and `channel_id` have places of their own; every other field, also of the spans around, is metadata.
//! Tokens and secrets have no business here; what looks like one is hidden all the same.

use std::fmt;
use std::io;
use std::io::IsTerminal;
use std::io::Write;

use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use tracing::Event;
use tracing::Level;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogConfig;
use crate::config::LogFormat;

const HIDDEN: &str = "[hidden]";
/// Fields whose value nobody may see, wherever the name contains one of these.
const HIDDEN_FIELDS: [&str; 5] = ["token", "secret", "password", "authorization", "cookie"];

/// Starts logging for this process. A second call changes nothing: tests start many servers in one process.
pub fn init(config: &LogConfig) {
    let pretty = match config.format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    };
    let lines = LogLines::new(pretty, io::stderr).with_filter(filter(config.level));
    // An error means that somebody was here before.
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

/// Our own events from `level` up; those of libraries only from WARN, as their details may quote headers and addresses.
fn filter(level: Level) -> Targets {
    let libraries = LevelFilter::from_level(level).min(LevelFilter::WARN);
    Targets::new().with_target("syncline", level).with_default(libraries)
}

/// A layer that writes one line per event.
#[derive(Debug)]
pub struct LogLines<W> {
    pretty: bool,
    writer: W,
}

impl<W> LogLines<W> {
    /// Lines go to `writer`, each in one piece.
    #[must_use]
    pub fn new(pretty: bool, writer: W) -> Self {
        Self { pretty, writer }
    }
}

impl<S, W> Layer<S> for LogLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flatten().collect::<Vec<_>>().iter().rev() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.0.extend(outer.0.clone());
            }
        }
        event.record(&mut fields);
        let line = Line::new(*event.metadata().level(), event.metadata().name(), fields);
        let text = if self.pretty { line.pretty() } else { line.json() };
        // There is nowhere left to say that standard error is gone.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(text.as_bytes());
    }
}

/// What one event says.
struct Line {
    timestamp: String,
    level: Level,
    event: String,
    user: Option<Value>,
    channel: Option<Value>,
    metadata: Map<String, Value>,
}

/// The line as collectors read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonLine<'a> {
    timestamp: &'a str,
    level: String,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_id: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Map<String, Value>>,
}

impl Line {
    fn new(level: Level, otherwise: &str, Fields(mut fields): Fields) -> Self {
        let event = fields.remove("event").or_else(|| fields.remove("message"));
        let timestamp = jiff::Timestamp::now();
        Self {
            timestamp: format!("{timestamp:.3}"),
            level,
            event: event.as_ref().map_or_else(|| otherwise.to_owned(), plain),
            user: fields.remove("user_id"),
            channel: fields.remove("channel_id"),
            metadata: fields,
        }
    }

    fn json(self) -> String {
        let line = JsonLine {
            timestamp: &self.timestamp,
            level: self.level.as_str().to_ascii_lowercase(),
            event: &self.event,
            user_id: self.user.as_ref(),
            channel_id: self.channel.as_ref(),
            metadata: Some(&self.metadata).filter(|metadata| !metadata.is_empty()),
        };
        // JSON values with text as keys can always be written.
        serde_json::to_string(&line).unwrap_or_default() + "\n"
    }

    fn pretty(self) -> String {
        let mut line = format!("{} {:5} {}", self.timestamp, self.level, one_line(&self.event));
        let places = [("user", self.user), ("channel", self.channel)];
        let places = places.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        for (name, value) in places.chain(self.metadata) {
            line.push_str(&format!(" {name}={}", one_line(&plain(&value))));
        }
        line.push('\n');
        line
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A name with a line break or an escape sequence in it must not forge a line or repaint a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Fields of an event or a span, as JSON.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let hidden = HIDDEN_FIELDS.iter().any(|word| field.name().contains(word));
        let value = if hidden { HIDDEN.into() } else { value };
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, without_tokens(&format!("{value:?}")).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, without_tokens(value).into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

/// Every JWT starts with `{"` in base64, which is `eyJ`, and goes on with letters, digits, `-`, `_` and `.`.
fn without_tokens(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("eyJ") {
        let tail = &rest[at..];
        let end = tail.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.=".contains(c))).unwrap_or(tail.len());
        out.push_str(&rest[..at]);
        out.push_str(if tail[..end].contains('.') { HIDDEN } else { &tail[..end] });
        rest = &tail[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use tracing::debug;
    use tracing::error;
    use tracing::info;
    use tracing::info_span;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(pretty: bool, f: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = LogLines::new(pretty, move || writer.clone()).with_filter(filter(Level::INFO));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), f);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_exact_shape_of_a_json_line() {
        let text = written(false, || {
            info!(user_id = "alice", channel_id = %"table:T", bytes = 7, fine = true, "document loaded");
        });
        assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "{text}");
        let mut line: Value = serde_json::from_str(&text).unwrap();
        let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
        let timestamp = timestamp.as_str().unwrap();
        assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "{timestamp}");
        assert!(timestamp.parse::<jiff::Timestamp>().is_ok());
        let wanted = serde_json::json!({
            "level": "info", "event": "document loaded", "userId": "alice", "channelId": "table:T",
            "metadata": {"bytes": 7, "fine": true},
        });
        assert_eq!(line, wanted);
        assert!(text.starts_with(r#"{"timestamp":"#), "{text}");
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let text = written(false, || error!("plain"));
        let line: Map<String, Value> = serde_json::from_str(&text).unwrap();
        let mut keys: Vec<_> = line.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["event", "level", "timestamp"]);
    }

    #[test]
    fn an_event_field_goes_before_the_message() {
        let text = written(false, || info!(event = "store.failed", "disk is full"));
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["event"], "store.failed");
        assert_eq!(line["metadata"]["message"], "disk is full");
    }

    #[test]
    fn spans_lend_their_fields() {
        let text = written(false, || {
            let _outer = info_span!("connection", user_id = "alice", dialect = "y").entered();
            let _inner = info_span!("channel", channel_id = "doc", dialect = "z").entered();
            info!("joined");
        });
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["userId"], &line["channelId"]), (&"alice".into(), &"doc".into()));
        assert_eq!(line["metadata"]["dialect"], "z");
    }

    #[test]
    fn tokens_and_secrets_are_hidden() {
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
        for pretty in [true, false] {
            let text = written(pretty, || {
                let word = "hunter2";
                info!(token = word, auth_secret = word, url = %format!("/sync/a?token={jwt}&x=1"), "in {jwt}");
            });
            assert!(!text.contains("hunter2") && !text.contains("c2ln") && !text.contains("eyJ"), "{text}");
            assert!(text.contains("&x=1"), "{text}");
        }
        assert_eq!(without_tokens("eyJ alone, heyJude"), "eyJ alone, heyJude");
    }

    #[test]
    fn a_pretty_line_is_one_line() {
        let text = written(true, || info!(user_id = "a\nb\u{1b}[31m", n = 1, "hello"));
        assert!(text.trim_end().ends_with("INFO  hello user=a b [31m n=1"), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn libraries_are_quiet() {
        let text = written(false, || {
            info!(target: "hyper::client", "details");
            debug!("below the level");
            tracing::warn!(target: "hyper::client", "trouble");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.contains("trouble"));
    }
}
