//! Two connections to Redis, for as long as both work.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::PushInfo;
use redis::PushKind;
use redis::RedisError;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::RedisBus;
use crate::bus::Ears;

/// To connect and say hello.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// A connection on which nothing was said for so long is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(2);
/// An answer that takes longer does not come. Answers stand behind messages, of which Redis may have 32 MiB in store.
const ANSWER_PATIENCE: Duration = Duration::from_secs(8);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// Redis refused something, or could not be reached.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// It hung up.
    #[error("the connection was closed")]
    Closed,
    /// It neither answers nor hangs up.
    #[error("no answer in time")]
    Silent,
}

/// Holds one session until it fails.
pub(super) async fn hold(bus: &Arc<RedisBus>, ears: &Arc<dyn Ears>) -> Ended {
    let closed = CancellationToken::new();
    let (alive, gone) = oneshot::channel::<Infallible>();
    let ended = talk(bus, ears, &closed, alive).await;
    // Nothing of this session may be heard in the next one, so its reader has to be gone.
    let _ = gone.await;
    match ended {
        Err(ended) => ended,
        Ok(never) => match never {},
    }
}

async fn talk(
    bus: &Arc<RedisBus>,
    ears: &Arc<dyn Ears>,
    closed: &CancellationToken,
    alive: oneshot::Sender<Infallible>,
) -> Result<Infallible, Ended> {
    let client = bus.address.client()?;
    let speaker = connect(&client, settings()).await?;
    let reader = reader(bus.clone(), ears.clone(), closed.clone(), alive);
    let listener = connect(&client, settings().set_push_sender(reader)).await?;
    bus.begin_session();
    while !bus.is_whole() {
        change(bus, listener.clone()).await?;
    }
    bus.begin_to_speak(ears.as_ref());
    tokio::select! {
        ended = speak(bus, speaker) => ended,
        ended = listen(bus, listener.clone()) => ended,
        ended = stay_awake(listener) => ended,
        () = closed.cancelled() => Err(Ended::Closed),
    }
}

fn settings() -> AsyncConnectionConfig {
    // Times are kept here, where it is known what an answer stands behind.
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_PATIENCE)).set_response_timeout(None)
}

async fn connect(client: &redis::Client, settings: AsyncConnectionConfig) -> Result<MultiplexedConnection, Ended> {
    in_time(client.get_multiplexed_async_connection_with_config(&settings)).await
}

/// What hears for as long as the listening connection lives.
fn reader(
    bus: Arc<RedisBus>,
    ears: Arc<dyn Ears>,
    closed: CancellationToken,
    alive: oneshot::Sender<Infallible>,
) -> impl Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static {
    move |PushInfo { kind, data }| {
        let _ = &alive;
        match kind {
            PushKind::Message => {
                if let Some((channel, payload)) = message(data) {
                    bus.hear(&channel, payload, ears.as_ref());
                }
            }
            PushKind::Disconnection => closed.cancel(),
            _ => {}
        }
        Ok(())
    }
}

/// Channel and content.
fn message(data: Vec<Value>) -> Option<(String, Vec<u8>)> {
    match <[Value; 2]>::try_from(data).ok()? {
        [Value::BulkString(channel), Value::BulkString(payload)] => Some((String::from_utf8(channel).ok()?, payload)),
        _ => None,
    }
}

/// Publishes what waits, in order: one batch, then its answers, then the next.
async fn speak(bus: &RedisBus, mut speaker: MultiplexedConnection) -> Result<Infallible, Ended> {
    loop {
        let batch = {
            let mut state = bus.lock();
            let batch = state.outgoing.next_batch();
            state.on_their_way = batch.len();
            batch
        };
        if batch.is_empty() {
            bus.said.notify_waiters();
            if timeout(PING_EVERY, bus.to_say.notified()).await.is_err() {
                ping(&mut speaker).await?;
            }
            continue;
        }
        let mut commands = redis::Pipeline::with_capacity(batch.len());
        for message in &batch {
            let payload = [&message.head[..], &message.body[..]].concat();
            commands.cmd("PUBLISH").arg(message.channel.as_ref()).arg(payload);
        }
        let answers = in_time(async { speaker.send_packed_commands(&commands, 0, batch.len()).await }).await?;
        let refused = answers.iter().filter(|answer| matches!(answer, Value::ServerError(_))).count();
        bus.lock().on_their_way = 0;
        bus.metrics.bus_published.increment((batch.len() - refused) as u64);
        if let Some(Value::ServerError(error)) =
            answers.into_iter().find(|answer| matches!(answer, Value::ServerError(_)))
        {
            bus.metrics.bus_dropped.increment(refused as u64);
            return Err(RedisError::from(error).into());
        }
    }
}

/// Tells Redis what is to be listened to, as that changes.
async fn listen(bus: &RedisBus, listener: MultiplexedConnection) -> Result<Infallible, Ended> {
    loop {
        let changed = bus.to_change.notified();
        while !bus.lock().subscriptions.is_settled() {
            change(bus, listener.clone()).await?;
        }
        changed.await;
    }
}

/// One batch of that.
async fn change(bus: &RedisBus, mut listener: MultiplexedConnection) -> Result<(), Ended> {
    let batch = {
        let state = &mut *bus.lock();
        state.subscriptions.next_batch(|channel| state.topics.has(channel))
    };
    let names = |channels: &[Arc<str>]| channels.iter().map(|channel| channel.to_string()).collect::<Vec<_>>();
    if !batch.unsubscribe.is_empty() {
        in_time(listener.unsubscribe(names(&batch.unsubscribe))).await?;
    }
    if !batch.subscribe.is_empty() {
        in_time(listener.subscribe(names(&batch.subscribe))).await?;
        bus.lock().subscriptions.confirm(batch.subscribe);
    }
    Ok(())
}

async fn stay_awake(mut listener: MultiplexedConnection) -> Result<Infallible, Ended> {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        ping(&mut listener).await?;
    }
}

/// Any answer will do, also one that says that Redis cannot write to its disk.
async fn ping(connection: &mut MultiplexedConnection) -> Result<(), Ended> {
    in_time(async { connection.send_packed_command(&redis::cmd("PING")).await }).await.map(drop)
}

async fn in_time<T>(asking: impl Future<Output = Result<T, RedisError>>) -> Result<T, Ended> {
    match timeout(ANSWER_PATIENCE, asking).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Ended::Silent),
    }
}
