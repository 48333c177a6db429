//! Finding fields by what people call them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::rule::Rule;
use super::rule::Wrong;
use crate::table::view::FieldView;

/// The fields of a table by id and by name, deleted ones left out.
#[derive(Debug)]
pub struct Names<'a> {
    ids: BTreeMap<&'a str, &'a FieldView>,
    /// `None` for a name that several have.
    names: BTreeMap<&'a str, Option<&'a FieldView>>,
}

impl<'a> Names<'a> {
    /// Over the fields of one table.
    pub fn new(fields: impl IntoIterator<Item = &'a FieldView>) -> Self {
        let mut all = Self { ids: BTreeMap::new(), names: BTreeMap::new() };
        for field in fields.into_iter().filter(|field| !field.deleted) {
            all.ids.insert(&field.id, field);
            match all.names.entry(&field.name) {
                Entry::Vacant(entry) => drop(entry.insert(Some(field))),
                Entry::Occupied(mut entry) => drop(entry.insert(None)),
            }
        }
        all
    }

    /// The field with this id, or else the only one with this name.
    ///
    /// # Errors
    /// [`Rule::UnknownField`]: none, or several of that name.
    pub fn find(&self, name: &str) -> Result<&'a FieldView, Wrong> {
        if let Some(field) = self.ids.get(name) {
            return Ok(field);
        }
        match self.names.get(name) {
            Some(Some(field)) => Ok(field),
            Some(None) => Err(Wrong::new(Rule::UnknownField, "several fields have this name: give the id")),
            None => Err(Wrong::new(Rule::UnknownField, "the table has no such field")),
        }
    }
}
