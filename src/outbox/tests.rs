//! The outbox in front of a socket of which the test says what it takes.

use super::*;

const CHANNEL: ChannelId = ChannelId(0);
const NOW: Moment = Moment(7);

/// Takes as many bytes as it was given room for.
#[derive(Debug, Default)]
struct Pipe(Mutex<PipeState>);

#[derive(Debug, Default)]
struct PipeState {
    room: usize,
    taken: Vec<u8>,
    calls: usize,
    broken: bool,
}

impl Wire for Pipe {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut pipe = self.0.lock().unwrap();
        pipe.calls += 1;
        if pipe.broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if pipe.room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = all.len().min(pipe.room);
        pipe.room -= taken;
        pipe.taken.extend_from_slice(&all[..taken]);
        Ok(taken)
    }
}

impl Pipe {
    fn make_room(&self, bytes: usize) {
        self.0.lock().unwrap().room = bytes;
    }

    fn taken(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap().taken)
    }

    fn calls(&self) -> usize {
        self.0.lock().unwrap().calls
    }
}

fn outbox(bytes_max: usize, frames_max: usize, total: usize) -> (Outbox, Arc<Pipe>) {
    let pipe = Arc::new(Pipe::default());
    let outbox = Outbox::new(NOW, OutboxLimits { bytes_max, frames_max }, Budget::new(total), pipe.clone());
    (outbox, pipe)
}

fn frame(byte: u8, length: usize) -> Bytes {
    Bytes::from(vec![byte; length])
}

#[test]
fn a_batch_leaves_in_one_call_and_in_order() {
    let (outbox, pipe) = outbox(1000, 100, 1000);
    pipe.make_room(1000);
    for byte in 0..5 {
        assert!(outbox.push(CHANNEL, frame(byte, 2)));
    }
    outbox.push_control(frame(9, 1));
    assert_eq!(outbox.flush(NOW), Written { frames: 6, bytes: 11 });
    assert_eq!(pipe.taken(), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 9]);
    assert_eq!(pipe.calls(), 1);
    assert_eq!((outbox.bytes(), outbox.next()), (0, Next::Idle));
}

#[test]
fn what_the_socket_does_not_take_waits_for_it() {
    let (outbox, pipe) = outbox(1000, 100, 1000);
    pipe.make_room(3);
    assert!(outbox.push(CHANNEL, frame(1, 2)) && outbox.push(CHANNEL, frame(2, 2)));
    assert_eq!(outbox.flush(NOW), Written { frames: 1, bytes: 3 });
    assert_eq!((outbox.bytes(), outbox.next()), (2, Next::Blocked), "a frame counts until all of it was taken");
    assert!(outbox.push(CHANNEL, frame(3, 1)));
    pipe.make_room(100);
    assert_eq!(outbox.flush(NOW), Written::default(), "a document does not ask a socket that was full");
    outbox.unblock();
    assert_eq!(outbox.flush(NOW), Written { frames: 2, bytes: 2 });
    assert_eq!(pipe.taken(), [1, 1, 2, 2, 3]);
    assert_eq!((outbox.bytes(), outbox.next()), (0, Next::Idle));
}

#[test]
fn a_full_outbox_refuses_and_tells_when_it_has_drained() {
    let (outbox, pipe) = outbox(100, 10, 1000);
    assert!(outbox.push(CHANNEL, frame(1, 60)));
    assert!(!outbox.push(CHANNEL, frame(2, 60)));
    outbox.flush(NOW);
    assert_eq!(outbox.next(), Next::Blocked);
    pipe.make_room(60);
    outbox.unblock();
    outbox.flush(NOW);
    assert_eq!(outbox.next(), Next::Caught(vec![CHANNEL]));
    assert_eq!(outbox.next(), Next::Idle);
}

#[tokio::test]
async fn a_batch_that_is_larger_than_the_bound_makes_nobody_lag_who_reads() {
    let (outbox, pipe) = outbox(10, 4, 1000);
    pipe.make_room(1000);
    for byte in 0..40 {
        assert!(outbox.push(CHANNEL, frame(byte, 2)), "{byte}");
    }
    assert_eq!(outbox.flush(NOW), Written { frames: 40, bytes: 80 });
    assert_eq!(outbox.next(), Next::Idle);
    pipe.make_room(2);
    assert!((0..4).all(|byte| outbox.push(CHANNEL, frame(byte, 2))));
    let _ = futures_util::FutureExt::now_or_never(outbox.wait());
    assert!(outbox.push(CHANNEL, frame(5, 2)) && !outbox.push(CHANNEL, frame(6, 8)));
    assert!(futures_util::FutureExt::now_or_never(outbox.wait()).is_some(), "the connection hears that it is full");
    assert_eq!(outbox.next(), Next::Blocked);
}

#[test]
fn a_frame_larger_than_the_bound_passes_when_nothing_else_waits() {
    let (outbox, _pipe) = outbox(100, 10, 50);
    assert!(outbox.push(CHANNEL, frame(1, 200)));
    assert!(!outbox.push(CHANNEL, frame(1, 1)));
}

#[test]
fn frames_are_counted_too() {
    let (outbox, _pipe) = outbox(1000, 2, 1000);
    assert!(outbox.push(CHANNEL, frame(1, 1)) && outbox.push(CHANNEL, frame(1, 1)));
    assert!(!outbox.push(CHANNEL, frame(1, 1)));
}

#[test]
fn the_common_budget_makes_readers_lag_and_is_given_back() {
    let budget = Budget::new(100);
    let limits = OutboxLimits { bytes_max: 100, frames_max: 10 };
    let make = || Outbox::new(NOW, limits, budget.clone(), Arc::new(Pipe::default()));
    let (slow, quick, gone) = (make(), make(), make());
    assert!(slow.push(CHANNEL, frame(1, 90)));
    assert!(quick.push(CHANNEL, frame(1, 90)), "an empty outbox always takes one frame");
    assert!(!quick.push(CHANNEL, frame(1, 5)));
    assert!(gone.push(CHANNEL, frame(1, 90)));
    gone.abandon();
    assert_eq!(budget.used(), 180);
    drop((slow, quick, gone));
    assert_eq!(budget.used(), 0);
}

#[test]
fn an_outbox_whose_connection_is_gone_lets_go_of_the_socket() {
    let (outbox, pipe) = outbox(100, 10, 100);
    assert!(outbox.push(CHANNEL, frame(1, 90)));
    assert_eq!(Arc::strong_count(&pipe), 2);
    outbox.abandon();
    assert_eq!(Arc::strong_count(&pipe), 1);
    assert!(outbox.push(CHANNEL, frame(1, 90)), "nobody needs to be caught up");
    assert_eq!((outbox.flush(NOW), outbox.next()), (Written::default(), Next::Dead));
}

#[test]
fn states_are_written_part_by_part_and_one_at_a_time() {
    let (outbox, pipe) = outbox(10, 10, 10);
    let parts: Arc<[Bytes]> = vec![frame(1, 100), frame(2, 100)].into();
    assert!(outbox.push_parts(CHANNEL, parts.clone(), 1));
    assert!(!outbox.push_parts(CHANNEL, parts.clone(), 1));
    assert!(outbox.push_parts(ChannelId(1), parts, 1));
    for room in [150, 100, 150] {
        pipe.make_room(room);
        outbox.unblock();
        outbox.flush(NOW);
    }
    let expected: Vec<u8> = [1, 2, 1, 2].into_iter().flat_map(|byte| vec![byte; 100]).collect();
    assert_eq!(pipe.taken(), expected);
    assert_eq!(outbox.next(), Next::Caught(vec![CHANNEL]));
}

#[test]
fn one_call_does_not_keep_a_document_for_long() {
    let (outbox, pipe) = outbox(10, 10, 10);
    pipe.make_room(usize::MAX);
    assert!(outbox.push_parts(CHANNEL, vec![frame(1, WRITE_BYTES), frame(2, WRITE_BYTES)].into(), 1));
    assert_eq!(outbox.flush(NOW).frames, 1);
    assert_eq!(outbox.next(), Next::Flush);
    assert_eq!(outbox.flush(NOW).frames, 1);
    assert_eq!(outbox.next(), Next::Idle);
}

#[test]
fn what_was_queued_before_the_close_is_written_first() {
    let (outbox, pipe) = outbox(100, 10, 100);
    assert!(outbox.push(CHANNEL, frame(1, 1)));
    let closing = Closing { code: 1012, reason: "RESTART" };
    outbox.close(closing);
    outbox.close(Closing { code: 4404, reason: "NOT_FOUND" });
    assert!(outbox.push(CHANNEL, frame(1, 1)), "after the close nothing is queued and nobody lags");
    assert_eq!(outbox.next(), Next::Flush);
    pipe.make_room(100);
    assert_eq!(outbox.flush(NOW), Written { frames: 1, bytes: 1 });
    assert_eq!(outbox.next(), Next::Close(closing));
}

#[test]
fn a_client_that_only_asks_is_closed() {
    let (outbox, _pipe) = outbox(100, 10, 100);
    for _ in 0..=CONTROL_FRAMES_MAX {
        outbox.push_control(frame(1, 1));
    }
    assert!(outbox.is_closing());
}

#[test]
fn a_dead_socket_keeps_nothing() {
    let (outbox, pipe) = outbox(100, 10, 100);
    pipe.0.lock().unwrap().broken = true;
    assert!(outbox.push(CHANNEL, frame(1, 50)));
    outbox.flush(NOW);
    assert_eq!((outbox.next(), outbox.bytes()), (Next::Dead, 0));
    assert!(outbox.push(CHANNEL, frame(1, 99)) && outbox.push(CHANNEL, frame(1, 99)), "and refuses nothing");
    assert_eq!(outbox.bytes(), 0);
}

#[tokio::test]
async fn the_connection_is_woken_only_when_there_is_something_to_do() {
    let (outbox, pipe) = outbox(100, 10, 100);
    let woken = || futures_util::FutureExt::now_or_never(outbox.wait()).is_some();
    pipe.make_room(10);
    assert!(outbox.push(CHANNEL, frame(1, 10)));
    outbox.flush(NOW);
    assert!(!woken(), "the document has written it all");
    assert!(outbox.push(CHANNEL, frame(1, 10)));
    outbox.flush(NOW);
    assert!(woken(), "the socket is full");
    assert!(outbox.push(CHANNEL, frame(1, 10)));
    outbox.flush(NOW);
    assert!(!woken(), "it is known already");
}

#[test]
fn revocations_are_heard_before_anything_else_and_each_channel_waits_once() {
    let (outbox, pipe) = outbox(100, 10, 1000);
    assert!(outbox.push(CHANNEL, frame(1, 10)));
    let _ = outbox.flush(NOW); // The pipe takes nothing: it is blocked now.
    for _ in 0..1000 {
        outbox.recheck(CHANNEL);
        outbox.recheck(ChannelId(1));
        outbox.end(CHANNEL, ErrorCode::Forbidden);
        outbox.end(CHANNEL, ErrorCode::AuthFailed);
    }
    assert_eq!(outbox.next(), Next::Ended(vec![(CHANNEL, ErrorCode::Forbidden)]));
    assert_eq!(outbox.next(), Next::Recheck(vec![CHANNEL, ChannelId(1)]));
    assert_eq!(outbox.next(), Next::Blocked);
    pipe.make_room(100);
    outbox.abandon();
    outbox.recheck(CHANNEL);
    outbox.end(CHANNEL, ErrorCode::Forbidden);
    assert_eq!(outbox.next(), Next::Dead, "nobody listens any more");
}
