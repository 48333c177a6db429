//! Every way in which Syncline says no: one code word, one HTTP status, one WebSocket close code.
//!
//! Close codes 4400 to 4499 mean "do not come back until something changes" (`y-websocket` 3.1.0 stops for ever on them),
//! 4500 to 4599, 1011, 1012 and 1013 mean "come back with backoff". Nothing transient is ever in the first band.

/// Close code of an orderly restart: clients come back at once, elsewhere.
pub const CLOSE_RESTART: u16 = 1012;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident, $word:literal, $http:literal, $close:expr;)*) => {
        /// One refusal, as it appears in REST bodies, Socket.IO errors and close frames.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// Every code, in the order of the reference documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code word: the `code` of an error body and the reason of a close frame.
            #[must_use]
            pub const fn word(self) -> &'static str { match self { $(Self::$variant => $word,)* } }

            /// The HTTP status of an answer that carries this code.
            #[must_use]
            pub const fn http_status(self) -> u16 { match self { $(Self::$variant => $http,)* } }

            /// The WebSocket close code, where one exists.
            #[must_use]
            pub const fn close_code(self) -> Option<u16> { match self { $(Self::$variant => $close,)* } }
        }
    };
}

error_codes! {
    /// No token, a bad one, or one of somebody else's.
    AuthFailed, "AUTH_FAILED", 401, Some(4401);
    /// The token ran out; a new one helps.
    AuthExpired, "AUTH_EXPIRED", 401, Some(4501);
    /// Known, but not allowed here.
    Forbidden, "FORBIDDEN", 403, Some(4403);
    /// No such document, record or version; or the document was deleted.
    NotFound, "NOT_FOUND", 404, Some(4404);
    /// Creating what is there.
    AlreadyExists, "ALREADY_EXISTS", 409, None;
    /// An expected version is stale.
    ConcurrentEdit, "CONCURRENT_EDIT", 409, None;
    /// The record must be restored first.
    RecordDeleted, "RECORD_DELETED", 409, None;
    /// The client knows a version that this store never made.
    VersionAhead, "VERSION_AHEAD", 409, None;
    /// The client's copy is of an older epoch of this document.
    StaleHistory, "STALE_HISTORY", 409, Some(4409);
    /// Cannot be parsed, or parsed but wrong (then the HTTP status is 422).
    InvalidPayload, "INVALID_PAYLOAD", 400, Some(4400);
    /// A cell value that its field does not take.
    InvalidValue, "INVALID_VALUE", 422, None;
    /// A Yjs update that is impossible or forbidden.
    InvalidUpdate, "INVALID_UPDATE", 422, Some(4422);
    /// A write from a client older than the document's schema version.
    ClientTooOld, "CLIENT_TOO_OLD", 409, Some(4426);
    /// Over a size or count limit.
    PayloadTooLarge, "PAYLOAD_TOO_LARGE", 413, Some(4413);
    /// Too often; the answer says when to try again.
    RateLimited, "RATE_LIMITED", 429, Some(4529);
    /// The room's `max_clients` is reached.
    RoomFull, "ROOM_FULL", 409, Some(4509);
    /// The room or document is in a state that forbids this.
    ChannelError, "CHANNEL_ERROR", 409, Some(4510);
    /// Admission control.
    Overloaded, "OVERLOADED", 503, Some(4503);
    /// Nothing was saved.
    StoreUnavailable, "STORE_UNAVAILABLE", 503, Some(4504);
    /// Our fault.
    Internal, "INTERNAL", 500, Some(1011);
}

impl ErrorCode {
    /// The close code to use on a WebSocket: the code's own, or 1011 for codes that never end a connection.
    #[must_use]
    pub fn close_code_or_internal(self) -> u16 {
        self.close_code().unwrap_or(1011)
    }

    /// Whether coming back does not help until something changes: its close code is of the first band.
    #[must_use]
    pub fn is_permanent(self) -> bool {
        matches!(self.close_code_or_internal(), 4400..=4499)
    }
}
