//! The bounds that hold for every input, in one place, each with its reason.

/// Client ids are JavaScript integers: below 2^53 (lib0 writes them as varUint of a double).
pub const CLIENT_ID_MAX: u64 = (1 << 53) - 1;
/// Clocks at or above 2^31 overflow arithmetic in the engines; no honest client types two thousand million characters.
pub const CLOCK_MAX: u32 = (1 << 31) - 1;
/// Entries of one state vector. 20 000 is where a table warns; a client id costs 10 bytes.
pub const STATE_VECTOR_CLIENTS_MAX: usize = 200_000;
/// Entries of one awareness frame: far more people than one document holds at once.
pub const AWARENESS_ENTRIES_MAX: usize = 10_000;
/// Bytes of one awareness state (JSON): a cursor, a name and a colour need 200.
pub const AWARENESS_STATE_BYTES_MAX: usize = 8 * 1024;
/// Nesting of an `Any` value inside an update. 10 000 overflow a 2 MiB stack in the engine's decoder.
pub const ANY_DEPTH_MAX: usize = 32;
/// One part of a large first state. At 100 kB/s it takes 2.6 s, far below a client's 30-second watchdog.
pub const PART_BYTES: usize = 256 * 1024;
/// Messages that one frame from a client may carry; today's clients send exactly one.
pub const MESSAGES_PER_FRAME_MAX: usize = 64;
/// An address in front of a frame that is answered at all; a longer one cannot be a document's name and a session.
pub const ADDRESS_BYTES_MAX: usize = 1024;
/// The document's part of an address: the longest name there is.
pub const ADDRESS_NAME_BYTES_MAX: usize = 255;
/// The session's part of an address: clients choose about a dozen letters.
pub const ADDRESS_SESSION_BYTES_MAX: usize = 64;
/// A token: one that names a hundred documents needs 4 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Frames of one channel that are held until it is let in: clients send three, and what is typed meanwhile.
pub const HELD_FRAMES_MAX: usize = 1000;
/// Bytes of those frames.
pub const HELD_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Bytes that are held on one connection, over all its channels.
pub const HELD_BYTES_PER_SOCKET_MAX: usize = 16 * 1024 * 1024;
/// Channels of one connection on which something was said, but not yet by whom.
pub const WAITING_CHANNELS_MAX: usize = 100;
