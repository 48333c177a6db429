//! s
use super::Wrong; use crate::table::view::FieldView; use std::marker::PhantomData;
/// s
pub struct Names<'a>(PhantomData<&'a ()>);
impl<'a> Names<'a> {
    /// s
    pub fn new(_fields: impl IntoIterator<Item = &'a FieldView>) -> Self { todo!() }
    /// s
    pub fn find(&self, _name: &str) -> Result<&'a FieldView, Wrong> { todo!() }
}
