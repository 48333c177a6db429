//! Mistakes that the laws must notice, or they are worth nothing.

/// A mistake of the shell that the laws must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The store's answer is not awaited.
    AckBeforeDurable,
    /// What does not fit an outbox is forgotten.
    DropOnFullQueue,
    /// A newcomer gets a second actor while the first has something to save.
    TwoActors,
    /// The store forgets what former lives left.
    MemoLost,
    /// When an append completes, everything queued by then counts as saved.
    ClearDirtyAfterAwait,
    /// Who counts is told that a change is saved when it comes.
    StatusOnReceipt,
    /// Statuses that do not fit an outbox are forgotten.
    StatusLost,
    /// A status too many, where several are due at once.
    StatusTwice,
    /// Who may only read is told that its change is saved.
    StatusForRefused,
    /// A room is not told what somebody shows.
    StateUntold,
    /// Other nodes hear of what is not durable yet.
    PublishBeforeDurable,
    /// What other nodes said and was missed is never looked for.
    NeverPull,
    /// What is deleted is not compared.
    DigestWithoutDeletions,
    /// The clients of a node that is gone stay.
    LostStay,
}

impl Fault {
    /// Whether only who counts can notice.
    pub(crate) fn is_of_statuses(self) -> bool {
        matches!(self, Self::StatusOnReceipt | Self::StatusLost | Self::StatusTwice | Self::StatusForRefused)
    }
}
