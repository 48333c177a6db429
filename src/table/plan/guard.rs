//! Whether a command may touch the records that it names.

use syncline_protocol::ErrorCode;

use super::Sight;
use super::records::find;
use crate::table::column::Columns;
use crate::table::command::Command;
use crate::table::command::Guard;
use crate::table::refused::Refused;

/// Lets a command pass when every record that it names shows what the guard says; one that names none always passes.
///
/// # Errors
/// `NOT_FOUND` for a record that is not there, `FORBIDDEN` for one that shows something else.
pub(super) fn check(sight: &Sight<'_>, guard: &Guard, command: &Command) -> Result<(), Refused> {
    let columns = Columns::of(sight.table);
    let column = columns.find(&guard.field).ok();
    for id in command.named() {
        let (id, _) = find(sight.table, id)?;
        let is_as_said = column.is_some_and(|column| column.read(&(sight.raw)(id)) == guard.is);
        if !is_as_said {
            return Err(Refused::new(ErrorCode::Forbidden, guard.message.as_str()).with("recordId", &**id));
        }
    }
    Ok(())
}
